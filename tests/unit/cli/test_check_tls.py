"""`headgate check` opens every certificate with its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.cli import main
from tests import pki

ROOT = pki.Authority()


def test_check_opens_every_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ROOT.issue("a.example").write(tmp_path, "a")
    ROOT.issue("soon.example", days=5.5).write(tmp_path, "soon")
    certificates = [{"cert": f"{name}.pem", "key": f"{name}.key"} for name in ("a", "soon")]
    config: dict[str, Any] = {
        "listeners": [{"bind": "127.0.0.1:0", "tls": {"certificates": certificates}}],
        "routes": [{"pool": "web"}, {"pool": "web", "host": "shop.example"}],
        "pools": {"web": {"backends": ["https://127.0.0.1:9"], "tls": {"verify": False}}},
    }

    def check() -> int:
        Path("check.json").write_text(json.dumps(config, indent=1))
        return main(["check", "-c", "check.json"])

    assert check() == 0
    said = capsys.readouterr()
    assert said.out == "check.json: fine (1 listener, 2 routes, 1 pool, 1 backend, 2 certificates)\n"
    expires, name, verify = said.err.splitlines()
    assert expires.startswith("warning: listeners[0].tls.certificates[1].cert: soon.pem expires in 5 days, on ")
    assert name.startswith("warning: routes[1].host: no certificate of listeners[0].tls is for shop.example")
    assert verify.startswith("warning: pools.web.tls.verify: pool web: certificates of its backends are not verified")

    certificates[0]["key"], certificates[1]["key"] = "soon.key", "a.key"
    assert check() == 2
    mistakes = capsys.readouterr().err.splitlines()
    assert mistakes[:2] == [
        "check.json:9: listeners[0].tls.certificates[0].key: soon.key does not belong to the certificate",
        "check.json:13: listeners[0].tls.certificates[1].key: a.key does not belong to the certificate",
    ]
