"""What is said of a whole configuration's certificates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headgate.config.problems import ConfigError
from headgate.config.schema import Config
from headgate.tls import check
from tests import pki

ROOT = pki.Authority()
MIDDLE = pki.Authority("Middle", ROOT)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(tls: dict[str, Any], **more: Any) -> Config:
    tree = {
        "listeners": [{"bind": "127.0.0.1:8443", "tls": tls}],
        "pools": {"web": {"backends": ["http://127.0.0.1:9001"]}},
        **more,
    }
    return Config.from_dict(tree)


def warnings(tls: dict[str, Any], **more: Any) -> list[str]:
    made = config(tls, **more)
    return [str(finding) for finding in check.warnings(made, check.read(made), datetime.now(UTC))]


def problems(tls: dict[str, Any], **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(tls, **more)
    return [str(problem) for problem in caught.value.problems]


def written(files: Path, name: str, issued: pki.Issued) -> dict[str, str]:
    cert, key = issued.write(files, name)
    return {"cert": Path(cert).name, "key": Path(key).name}


def test_good(files: Path) -> None:
    one = written(files, "one", MIDDLE.issue("a.example", "*.b.example"))
    routes = [{"pool": "web", "host": host} for host in ("a.example", "x.b.example", "*.b.example")]
    assert warnings({"certificates": [one]}, routes=routes) == []


def test_every_problem_at_once(files: Path) -> None:
    one, other = written(files, "one", ROOT.issue("a")), written(files, "other", ROOT.issue("b"))
    (files / "text.pem").write_text("hello")
    tls = {
        "certificates": [
            {"cert": one["cert"], "key": other["key"]},
            {"cert": "text.pem", "key": one["key"]},
            {"cert": one["key"], "key": one["cert"]},
            {"cert": "gone.pem"},
        ],
        "client_ca": "text.pem",
        "client_crl": one["cert"],
    }
    pools = {"web": {"backends": ["https://127.0.0.1:1"], "tls": {"ca": one["key"], "cert": one["cert"]}}}
    key = "listeners[0].tls"
    assert problems(tls, pools=pools) == [
        f"{key}.certificates[3].cert: gone.pem cannot be read: No such file or directory",
        f"{key}.certificates[0].key: other.key does not belong to the certificate",
        f"{key}.certificates[1].cert: text.pem has no PEM block (-----BEGIN …-----)",
        f"{key}.certificates[2].cert: one.key has no certificate, only PRIVATE KEY"
        " (are cert and key the wrong way round?)",
        f"{key}.client_ca: text.pem has no PEM block (-----BEGIN …-----)",
        f"{key}.client_crl: one.pem has no revocation list, only CERTIFICATE",
        "pools.web.tls.ca: one.key has no certificate, only PRIVATE KEY",
        "pools.web.tls.cert: one.pem has no private key",
    ]


def test_names_that_routes_have_and_certificates_have_not(files: Path) -> None:
    one = written(files, "one", ROOT.issue("a.example"))
    routes = [
        {"pool": "web"},
        {"pool": "web", "host": "b.example"},
        {"pool": "web", "host": "*.example"},
        {"pool": "web", "host": "c.example", "listener": ":80"},
    ]
    listeners = [
        {"bind": "127.0.0.1:8443", "tls": {"certificates": [one]}},
        {"bind": ":80"},
    ]
    assert warnings({"certificates": [one]}, routes=routes, listeners=listeners) == [
        "routes[1].host: no certificate of listeners[0].tls is for b.example"
        " (its clients get the first one, and refuse it)",
        "routes[2].host: no certificate of listeners[0].tls is for *.example"
        " (its clients get the first one, and refuse it)",
    ]


def test_dates_and_chains(files: Path) -> None:
    soon, over = ROOT.issue("soon.example", days=3.5), ROOT.issue("over.example", days=-0.5)
    shuffled = MIDDLE.issue("shuffled.example")
    shuffled.chain = (ROOT.certificate, MIDDLE.certificate)
    tls = {
        "certificates": [
            written(files, "soon", soon),
            written(files, "over", over),
            written(files, "shuffled", shuffled),
            written(files, "again", ROOT.issue("soon.example")),
        ]
    }
    key = "listeners[0].tls.certificates"
    assert warnings(tls) == [
        f"{key}[0].cert: soon.pem expires in 3 days, on {soon.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        f"{key}[1].cert: over.pem has expired on {over.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        f"{key}[2].cert: shuffled.pem: certificate 2 (CN=Test Root) did not sign certificate 1, which CN=Middle did"
        " (the server's own comes first, then each one's issuer)",
        f"{key}[2].cert: shuffled.pem: certificate 3 (CN=Middle) did not sign certificate 2, which CN=Test Root did"
        " (the server's own comes first, then each one's issuer)",
        f"{key}[3]: again.pem is never used: all its names belong to others before it",
    ]


def test_keys_that_everybody_can_read(files: Path) -> None:
    one = written(files, "one", ROOT.issue("a.example"))
    (files / one["key"]).chmod(0o644)
    assert warnings({"certificates": [one]}) == [
        "listeners[0].tls.certificates[0].key: one.key can be read by everybody on this machine (chmod o= one.key)"
    ]


def test_revocation_lists(files: Path) -> None:
    one = written(files, "one", ROOT.issue("a.example"))
    (files / "ca.pem").write_bytes(ROOT.pem + MIDDLE.pem)
    (files / "crl.pem").write_bytes(ROOT.revoke(next_update_days=-2))
    found = warnings({"certificates": [one], "client_ca": "ca.pem", "client_crl": "crl.pem"})
    assert len(found) == 2
    assert "the list of CN=Test Root should have been renewed on" in found[0]
    assert "crl.pem has no list of CN=Middle (clients with its certificates are refused)" in found[1]


def test_unverified_backends(files: Path) -> None:
    one = written(files, "one", ROOT.issue("a.example"))
    pools = {"web": {"backends": ["https://127.0.0.1:1"], "tls": {"verify": False}}}
    (found,) = warnings({"certificates": [one]}, pools=pools)
    assert found.startswith("pools.web.tls.verify: pool web: certificates of its backends are not verified")
