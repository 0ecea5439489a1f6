"""What docs/python-api.md and the example programs say is what happens."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python-api.md"
TIMEOUT_S = 30.0


class Example(NamedTuple):
    """A block of code and the output that the page shows below it."""

    line: int
    kind: str
    code: str
    output: str


def examples() -> list[Example]:
    found = re.finditer(r"^```python(.*)\n((?:.*\n)*?)```\n(?:\n```text\n((?:.*\n)*?)```\n)?", PAGE.read_text(), re.M)
    text = PAGE.read_text()
    return [Example(text[: m.start()].count("\n") + 1, m[1].strip(), m[2], m[3] or "") for m in found]


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def backends() -> Iterator[list[int]]:
    """Ports of three servers."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Hello) for _ in range(3)]
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    yield [server.server_address[1] for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


class Here:
    """Puts this test's servers in the place of those the page names, and a unix socket in the place of its port."""

    def __init__(self, ports: list[int], directory: Path) -> None:
        self.socket = str(directory / "lb.sock")
        self._replacements = {f"127.0.0.1:900{n}": f"127.0.0.1:{port}" for n, port in enumerate(ports, 1)}
        self._replacements["127.0.0.1:8080"] = f"unix:{self.socket}"

    def __call__(self, text: str) -> str:
        for theirs, ours in self._replacements.items():
            text = text.replace(theirs, ours)
        return text


def python(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(path: str) -> bytes:
    """One request by a unix socket; tried again until somebody listens there."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < deadline
                continue
            client.sendall(b"GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := client.recv(65536):
                answer += data
            return answer


def test_the_page_has_examples() -> None:
    assert len(examples()) >= 6
    assert sum(bool(example.output) for example in examples()) >= 4


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"line {example.line}")
def test_examples_of_the_page_do_what_it_says(example: Example, backends: list[int], tmp_path: Path) -> None:
    here = Here(backends, tmp_path)
    process = python("-c", here(example.code))
    try:
        if example.kind == "run":
            assert ask(here.socket).endswith(b"\r\n\r\nhello")
            process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    if example.kind != "run":
        assert errors == ""
    assert output == here(example.output)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("program", "output"),
    [
        ("embedded.py", "in use: up - some requests\n" * 3 + "failed: 0\n"),
        ("custom_strategy.py", None),
    ],
)
def test_example_programs_run(program: str, output: str | None) -> None:
    process = python(f"examples/{program}")
    try:
        printed, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert errors == ""
    assert process.returncode == 0
    if output is not None:
        assert printed == output
        return
    # Each tenant comes to one backend three times, and not all to the same.
    rows = [line.split()[1:] for line in printed.splitlines()]
    assert len(rows) == 4
    assert all(len(set(row)) == 1 for row in rows)
    assert len({row[0] for row in rows}) > 1


WORKERS = """
from headgate import CannotStart, LoadBalancer

class Mine:
    def update(self, backends): ...
    def pick(self, request, tried): ...

def balancer(strategy):
    return LoadBalancer({
        "workers": 2,
        "listeners": [{"bind": "127.0.0.1:8080"}],
        "pools": {"web": {"backends": ["http://127.0.0.1:9001"], "strategy": strategy}},
    })

try:
    balancer(Mine).run()
except CannotStart as error:
    print(error)
balancer("p2c").run()
"""


def test_with_several_workers_run_supervises_processes(backends: list[int], tmp_path: Path) -> None:
    here = Here(backends, tmp_path)
    process = python("-c", here(WORKERS))
    try:
        assert ask(here.socket).endswith(b"\r\n\r\nhello")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert output.startswith('worker processes cannot share __main__:Mine: name the strategy "module:Class"\n')
    assert process.returncode == 0


def test_a_second_signal_ends_a_blocking_run_at_once(backends: list[int], tmp_path: Path) -> None:
    here = Here(backends, tmp_path)
    code = next(example.code for example in examples() if example.kind == "run")
    process = python("-c", here(code))
    try:
        ask(here.socket)
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(here.socket)
            slow.sendall(b"POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: 10\r\n\r\n")
            ask(here.socket)  # answered after the request above has begun: connections are accepted in order
            process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
    finally:
        process.kill()
        process.communicate()
