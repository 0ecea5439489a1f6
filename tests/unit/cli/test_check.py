"""`headgate check`: names, ports, and who holds them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.cli import check, main

Said = pytest.CaptureFixture[str]


def write(path: Path, *binds: str, backend: str = "http://127.0.0.1:9001") -> str:
    listeners = "".join(f'[[listeners]]\nbind = "{bind}"\n' for bind in binds)
    path.write_text(f'{listeners}[pools.web]\nbackends = ["{backend}"]\n')
    return str(path)


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_fine(tmp_path: Path, capsys: Said) -> None:
    file = write(tmp_path / "a.toml", "127.0.0.1:0", f"unix:{tmp_path}/hg.sock")
    assert main(["check", "-c", file]) == 0
    assert capsys.readouterr().out == f"{file}: fine (2 listeners, 1 route, 1 pool, 1 backend)\n"
    assert not (tmp_path / "hg.sock").exists()


def test_a_pool_without_backends_is_a_warning(tmp_path: Path, capsys: Said) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[[listeners]]\nbind = "127.0.0.1:0"\n[pools.web]\nbackends = []\n')
    assert main(["check", "-c", str(file)]) == 0
    said = capsys.readouterr()
    assert said.err.endswith("warning: pools.web has no backends: it answers 503 until some are added while running\n")
    assert said.out.endswith("1 pool, 0 backends)\n")


def test_a_port_that_somebody_else_has(tmp_path: Path, taken: socket.socket, capsys: Said) -> None:
    bind = f"127.0.0.1:{taken.getsockname()[1]}"
    assert main(["check", "-c", write(tmp_path / "a.toml", bind)]) == 3
    said = capsys.readouterr().err
    assert bind in said
    assert f"process {os.getpid()}" in said


def test_an_access_log_that_cannot_be_written(tmp_path: Path, capsys: Said) -> None:
    file = Path(write(tmp_path / "a.toml", "127.0.0.1:0"))
    text = file.read_text()
    for path, why in ((tmp_path / "none" / "a.log", "there is no directory"), (tmp_path, "Is a directory")):
        file.write_text(f'[access_log]\npath = "{path}"\n{text}')
        assert main(["check", "-c", str(file)]) == 2
        assert f"access_log.path: {path} cannot be written: {why}" in capsys.readouterr().err
    file.write_text(f'[access_log]\npath = "{tmp_path}/new.log"\n{text}')
    assert main(["check", "-c", str(file)]) == 0
    assert not (tmp_path / "new.log").exists()


_SERVER = """\
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_a_port_that_headgate_has(tmp_path: Path, capsys: Said) -> None:
    script = tmp_path / "headgate"
    script.write_text(_SERVER)
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        code = main(["check", "-c", write(tmp_path / "a.toml", f"127.0.0.1:{port}")])
        process.communicate()
    assert (code, capsys.readouterr().err) == (0, "")


def test_a_name_that_does_not_resolve_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert main(["check", "-c", write(tmp_path / "a.toml", "127.0.0.1:0", backend="http://shop.example:1")]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: shop.example: does not resolve (Name or service not known)")
    assert "fine" in said.out


def test_a_resolver_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answer.wait())
    try:
        assert check._unresolved(["a", "b"], 0.01) == [(name, "does not resolve within 0.01 s") for name in "ab"]
    finally:
        answer.set()


def test_each_name_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **kwargs: asked.append(host))
    names = [f"n{number}.example" for number in range(40)]
    assert check._unresolved(names, 10.0) == []
    assert sorted(asked) == sorted(names)
