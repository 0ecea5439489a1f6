"""A fixed conversation through the engine, in one thread, for counting instructions (bench/check.py runs it).

    python -m bench.conversation N MARK.so

For each case: some requests to warm up, then N, then 2 N, each over kept connections. `mark()` of MARK.so is called
behind each of the three: there callgrind writes down what it has counted since the last time. It counts `run_once()`
only, so what the client and the backend do here costs nothing.
"""

from __future__ import annotations

import ctypes
import random
import select
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness.ports import HeldPort
from tests.transcripts.stage import Stage

from headgate.balancing.base import Context
from headgate.balancing.registry import build
from headgate.engine import hash64

WARM_UP = 50


@dataclass(frozen=True)
class Case:
    """What is said once per request."""

    name: str
    request: bytes
    response: bytes
    logged: bool = False


_MANY_ASKED = b"".join(b"X-Request-Field-%d: value of request field %d\r\n" % (n, n) for n in range(25))
_MANY_TOLD = b"".join(b"X-Answer-Field-%d: value of answer field %d\r\n" % (n, n) for n in range(20))
_SMALL = b"GET /small HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
CASES = (
    Case("small", _SMALL, _OK),
    Case(
        "headers",
        b"GET /a/path?with=query HTTP/1.1\r\nHost: shop.example\r\nCookie: %b\r\n%b\r\n" % (b"c" * 1000, _MANY_ASKED),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: %b\r\n%b\r\nok" % (b"d" * 1000, _MANY_TOLD),
    ),
    Case("upload", b"POST /up HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4096\r\n\r\n" + b"u" * 4096, _OK),
    Case(
        "chunked",
        _SMALL,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n%b\r\n400\r\n%b\r\n0\r\n\r\n"
        % ((b"c" * 1024,) * 2),
    ),
    Case("logged", _SMALL, _OK, logged=True),
)


class Conversation:
    """A client, the engine and a backend, each on its own connection, all in this thread."""

    def __init__(self, directory: Path) -> None:
        self._ports = [HeldPort() for _ in range(3)]
        listening = [port.listen() for port in self._ports]
        strategy = build("round_robin", Context(random.Random(1), lambda: 0.0, hash64))
        self._stage = Stage(directory, {f"b{n}": port for n, port in enumerate(self._ports)}, {}, {}, strategy)
        self._log = self._stage.engine.access_log
        self._client = socket.create_connection(self._stage.address)
        self._poller = select.poll()
        self._backends: dict[int, socket.socket] = {}
        for each in listening:
            # One request each, so that every backend has its kept connection.
            self._client.sendall(_SMALL)
            self._run_until(each)
            backend = each.accept()[0]
            self._backends[backend.fileno()] = backend
            self._poller.register(backend, select.POLLIN)
            each.close()
            self._answer(CASES[0])

    def _run_until(self, sock: socket.socket) -> None:
        ready = select.poll()
        ready.register(sock, select.POLLIN)
        while not ready.poll(0):
            self._stage.engine.run_once()

    def _answer(self, case: Case) -> None:
        """The backend that was chosen gets all of the request and answers; the client gets the answer."""
        left, backend = len(case.request), None
        while left > 0 or backend is None:
            for number, _ in self._poller.poll(0):
                backend = self._backends[number]
                left -= len(backend.recv(65536))
            if left > 0 or backend is None:
                self._stage.engine.run_once()
        backend.sendall(case.response)
        got = b""
        end = case.response[-4:]
        while not got.endswith(end):
            self._run_until(self._client)
            got += self._client.recv(65536)
        if not got.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(got)

    def play(self, case: Case, count: int) -> None:
        self._stage.engine.access_log = self._log if case.logged else None
        for _ in range(count):
            self._client.sendall(case.request)
            self._answer(case)

    def close(self) -> None:
        self._client.close()
        for backend in self._backends.values():
            backend.close()
        self._stage.engine.access_log = self._log
        self._stage.close()
        for port in self._ports:
            port.close()


def main() -> None:
    count, library = int(sys.argv[1]), sys.argv[2]
    mark: Callable[[], object] = ctypes.CDLL(library).mark
    with tempfile.TemporaryDirectory() as directory:
        talk = Conversation(Path(directory))
        for case in CASES:
            for times in (WARM_UP, count, 2 * count):
                talk.play(case, times)
                mark()
        talk.close()


if __name__ == "__main__":
    main()
