"""A configuration as a tree again: the same one when it is read back, and no secret in what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.config.dump import dump
from headgate.config.load import load
from headgate.config.validate import validate
from tests import pki

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.toml"))

EVERYTHING: dict[str, Any] = {
    "workers": "auto",
    "access_log": {"format": "json", "path": "/tmp/access.log"},
    "admin": {
        "bind": "127.0.0.1:9900",
        "token": "a-token-of-24-characters",
        "hosts": ["lb.internal"],
        "state_file": "/x",
    },
    "listeners": [
        {
            "bind": "[::1]:8080",
            "status_path": "/status",
            "status_allow": ["10.0.0.0/8", "unix"],
            "via": False,
            "timeouts": {"client_idle": "1m30s"},
            "limits": {"body": "10MB", "head": "16KiB"},
        },
        {"bind": "unix:/run/hg.sock", "ready_path": "/ready"},
    ],
    "routes": [
        {"pool": "web", "host": "*.example.org", "path_prefix": "/api", "timeouts": {"request": "off"}, "upgrade": []},
        {"pool": "api", "listener": "unix:/run/hg.sock", "limits": {"body": "off"}},
    ],
    "pools": {
        "web": {
            "backends": ["http://a:9001", {"url": "unix:/run/app.sock", "name": "app", "weight": 0}],
            "strategy": {"name": "package.module:Class", "depth": 3, "api_token": "tell nobody"},
            "sticky": {"secret": "a secret that is long enough", "secure": True, "same_site": "none", "ttl": "1h"},
            "keepalive": False,
            "panic": False,
            "health": {
                "type": "http",
                "path": "/health?deep=1",
                "statuses": [200, "204-206"],
                "headers": {"X-Key": "tell nobody"},
            },
            "breaker": {"failure_rate": False},
            "retry": {"retries": 0, "on": ["reset", 503]},
        },
        "api": {"backends": ["http://b"], "health": False, "breaker": False, "host": "backend"},
    },
}


def test_what_is_dumped_reads_back_the_same() -> None:
    config = validate(EVERYTHING)
    # By way of JSON, as it travels to a balancer that is asked for a plan.
    again = json.loads(json.dumps(dump(config, mask=False)))
    assert validate(again) == config


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_read_back_the_same(path: Path) -> None:
    config = load(path, {})
    assert validate(json.loads(json.dumps(dump(config, mask=False)))) == config


def test_secrets_are_masked() -> None:
    text = json.dumps(dump(validate(EVERYTHING)))
    for secret in ("a-token-of", "long enough", "tell nobody"):
        assert secret not in text
    assert text.count('"***"') == 4


def test_tls_reads_back_the_same_and_shows_no_key(tmp_path: Path) -> None:
    root = pki.Authority()
    issued = root.issue("a.example")
    cert, key = issued.write(tmp_path, "a")
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(issued.cert_pem + issued.key_pem)
    (tmp_path / "ca.pem").write_bytes(root.pem)
    (tmp_path / "crl.pem").write_bytes(root.revoke())
    tls = {
        "certificates": [{"cert": cert, "key": key}, str(both)],
        "client_ca": str(tmp_path / "ca.pem"),
        "client_crl": str(tmp_path / "crl.pem"),
        "client_auth": "optional",
        "hsts": {"max_age": "400d", "include_subdomains": True, "preload": True},
        "max_handshakes": "off",
        "watch": True,
    }
    config = validate(
        {
            "listeners": [{"bind": ":8443", "tls": tls}, {"bind": ":8080", "redirect_https": True}],
            "routes": [
                {"pool": "web"},
                {"pool": "web", "client_cert": True},
                {"pool": "web", "path_prefix": "/a", "client_cert": {"fingerprints": [issued.fingerprint]}},
            ],
            "pools": {
                "web": {
                    "backends": ["https://a"],
                    "tls": {"ca": str(tmp_path / "ca.pem"), "server_name": "b", "cert": cert, "key": key},
                },
                "other": {"backends": ["https://a:8443"], "tls": {"verify": False}},
            },
        }
    )
    assert validate(json.loads(json.dumps(dump(config, mask=False)))) == config
    for text in (json.dumps(dump(config)), repr(config), str(config)):
        assert "PRIVATE" not in text
        assert issued.key_pem.splitlines()[1].decode() not in text
    shown = dump(config)["listeners"][0]["tls"]["certificates"][0]
    assert shown["key"] == key
