"""`headgate cert`: what it writes, and when it does not."""

from __future__ import annotations

import builtins
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.cli import main
from headgate.config.load import load
from headgate.tls import contexts, pairs, x509

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(stem: str) -> x509.Certificate:
    (found,) = pairs.load(contexts.empty(), Path(f"{stem}.pem").read_bytes(), Path(f"{stem}.key").read_bytes())
    return found


def test_a_pair(capsys: Said) -> None:
    assert main(["cert", "--self-signed", "localhost", "127.0.0.1", "::1", "*.Dev.example", "--days", "10"]) == 0
    found = read("localhost")
    assert found.dns_names == ("localhost", "*.dev.example")
    assert found.addresses == ("127.0.0.1", "::1")
    assert found.subject == found.issuer == "CN=localhost"
    assert found.key_type == "EC"
    assert not found.is_ca
    assert timedelta(days=9) < found.not_after - datetime.now(UTC) <= timedelta(days=10)
    assert found.not_before < datetime.now(UTC)
    assert stat.S_IMODE(Path("localhost.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("localhost.pem").stat().st_mode) == 0o644
    assert sorted(path.name for path in Path().iterdir()) == ["localhost.key", "localhost.pem"]
    out = capsys.readouterr().out
    assert "localhost.pem: a certificate for localhost, 127.0.0.1, ::1, *.dev.example, good until" in out
    # What it prints can be used as it is.
    toml = out[out.index("[listeners.tls]") :].replace("[listeners.tls]", "[[listeners]]\nbind = ':0'\n[listeners.tls]")
    Path("a.toml").write_text(f"{toml}\n[pools.web]\nbackends = ['http://127.0.0.1:1']\n")
    assert load("a.toml").listeners[0].tls is not None


def test_nothing_is_overwritten_unasked(capsys: Said) -> None:
    assert main(["cert", "--self-signed", "localhost"]) == 0
    first = read("localhost").fingerprint
    assert main(["cert", "--self-signed", "localhost"]) == 1
    assert "localhost.pem and localhost.key are there (--force)" in capsys.readouterr().err
    assert read("localhost").fingerprint == first
    Path("localhost.pem").unlink()
    Path("localhost.key").chmod(0o644)
    assert main(["cert", "--self-signed", "localhost"]) == 1
    assert not Path("localhost.pem").exists()
    assert main(["cert", "--self-signed", "localhost", "--force"]) == 0
    assert read("localhost").fingerprint != first
    assert stat.S_IMODE(Path("localhost.key").stat().st_mode) == 0o600


def test_names_of_files() -> None:
    Path("sub").mkdir()
    assert main(["cert", "--self-signed", "*.dev.example", "--dir", "sub"]) == 0
    assert read("sub/_.dev.example").dns_names == ("*.dev.example",)
    assert main(["cert", "--self-signed", "::1"]) == 0
    assert read("--1").addresses == ("::1",)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--self-signed", "a b"], 2, "is not a host name"),
        (["--self-signed", "a:80"], 2, "is not an IPv6 address"),
        (["--self-signed", "a", "--days", "399"], 2, "browsers take nothing longer"),
        (["--self-signed", "a", "--dir", "gone"], 1, "No such file or directory"),
        ([], 2, "--self-signed"),
    ],
)
def test_what_cannot_be(arguments: list[str], code: int, says: str, capsys: Said) -> None:
    assert main(["cert", *arguments]) == code
    assert says in capsys.readouterr().err


def test_without_cryptography(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["cert", "--self-signed", "localhost"]) == 1
    assert "needs the package cryptography: pip install 'headgate[tls]'" in capsys.readouterr().err
    assert list(Path().iterdir()) == []
