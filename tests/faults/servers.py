"""Backends as processes of their own, so that they can be killed and stopped.

A backend is an application that says who it is, and a script that decides how one connection is served; each connection
has a thread. What arrived is written to a journal with one `write` per line, which SIGKILL cannot take back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from ..e2e.harness.ports import HeldPort
from ..e2e.harness.wire import Incomplete, Malformed, Reader, Request

_RESET = struct.pack("ii", 1, 0)
_FILLER = bytes(range(32, 127)) * 700


def body_of(identity: str, size: int) -> bytes:
    """The body of the answer to the request `identity`: whoever gets another's sees it."""
    start = identity.encode()
    return (start + _FILLER * (size // len(_FILLER) + 1))[:size] if size > len(start) else start


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal. event: head, body, answer, or what a script notes; time: monotonic seconds."""

    time: float
    event: str
    identity: str
    method: str
    connection: int
    detail: str


class Connection:
    """One connection from the balancer."""

    def __init__(self, server: Server, sock: socket.socket, number: int) -> None:
        self.server = server
        self.name = server.name
        self.socket = sock
        self.number = number
        self.reader = Reader(lambda: sock.recv(65536))
        self.served = 0

    @property
    def mode(self) -> int:
        """What the row last told this backend (`Server.tell`)."""
        return self.server.mode

    def note(self, event: str, identity: str = "", method: str = "", detail: str = "") -> None:
        if self.server.quiet and event in ("head", "body", "answer"):
            return
        line = json.dumps([time.monotonic(), event, identity, method, self.number, detail]) + "\n"
        os.write(self.server.journal_fd, line.encode())

    def head(self) -> Request | None:
        """The next request's head, journalled; None at the end."""
        request = self.reader.request_head()
        if request is not None:
            self.note("head", identity_of(request), request.method, request.target)
        return request

    def body(self, request: Request) -> bytes:
        """The request's body, journalled with its digest once it is complete."""
        self.reader.request_body(request)
        if request.body:
            self.note("body", identity_of(request), request.method, digest(request.body))
        return request.body

    def serve(self, request: Request | None = None, *, fields: str = "") -> bool:
        """Answer one request as the application does, with further `fields`; False when the balancer closed."""
        request = request or self.head()
        if request is None:
            return False
        wanted = query_of(request)
        self.body(request)
        if "wait" in wanted:
            time.sleep(float(wanted["wait"]) / 1000)
        identity = identity_of(request)
        if request.method in ("POST", "PUT"):
            content = digest(request.body).encode()
        else:
            content = body_of(identity, int(wanted.get("size", "0")))
        # Before it is sent: the client may be done, and the row be over, before this thread runs again.
        self.note("answer", identity, request.method)
        self.respond(content, request, fields=fields)
        self.served += 1
        return True

    def respond(self, content: bytes, request: Request, status: str = "200 OK", fields: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nX-Backend: {self.name}\r\nX-Id: {identity_of(request)}\r\n{fields}"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        self.socket.sendall(head.encode() + (b"" if request.method == "HEAD" else content))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait_end(self) -> None:
        """Until the balancer ends the connection, whatever else it sends."""
        with contextlib.suppress(OSError):
            while self.socket.recv(65536):
                pass

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()


def identity_of(request: Request) -> str:
    return request.header("x-id") or ""


def query_of(request: Request) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(request.target).query))


def path_of(request: Request) -> str:
    return urlsplit(request.target).path


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


Script = Callable[[Connection], None]


def application(connection: Connection) -> None:
    """Serve every request of the connection."""
    while connection.serve():
        pass


class Server:
    """A backend process on a held port. It may be killed, stopped, and started again on the same port."""

    def __init__(self, directory: Path, name: str, script: Script = application, *, quiet: bool = False) -> None:
        """quiet: what was asked and answered is not journalled (for runs that last)."""
        self.name = name
        self.script = script
        self.port = HeldPort()
        self._path = directory / f"{name}.journal"
        self.journal_fd = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._shared = mmap.mmap(-1, 8)
        self.pid = 0
        self.quiet = quiet
        self.start()

    @property
    def url(self) -> str:
        return self.port.url

    # -- from the row's process

    def start(self) -> None:
        """Run (again). It listens when this returns."""
        assert self.pid == 0
        listener = self.port.listen(4096)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._run(listener)
            finally:
                os._exit(1)
        listener.close()

    def tell(self, mode: int) -> None:
        """Change what the script sees as `mode`."""
        self._shared[0] = mode

    @property
    def mode(self) -> int:
        return self._shared[0]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL: the port refuses from now on, connections are reset."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def journal(self) -> list[Entry]:
        """Every line so far."""
        return [Entry(*json.loads(line)) for line in self._path.read_text().splitlines()]

    def seen(self, event: str) -> list[Entry]:
        return [entry for entry in self.journal() if entry.event == event]

    def close(self) -> None:
        self.kill()
        self.port.close()
        os.close(self.journal_fd)

    # -- in the backend's own process

    def _run(self, listener: socket.socket) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        threading.stack_size(256 * 1024)
        number = 0
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A restarted process must not have the numbers of its predecessor.
            connection = Connection(self, sock, os.getpid() * 1_000_000 + number)
            number += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        try:
            self.script(connection)
        except (Incomplete, OSError):
            pass  # the balancer may give a connection up at any moment; the journal shows what had come
        except Malformed as error:
            connection.note("malformed", detail=str(error))
        except Exception as error:
            connection.note("broken", detail=repr(error))
        finally:
            with contextlib.suppress(OSError):
                connection.socket.close()
