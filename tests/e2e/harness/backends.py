"""A backend on a bare socket: it records every byte and answers by a script.

A script is a function that is given one connection and does what the test wants done, top to bottom; it runs in a
thread of its own, so it may wait. When it returns, the connection is closed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from .ports import HeldPort
from .waiting import PATIENCE_S
from .wire import Incomplete, Malformed, Reader, Request


class Connection:
    """One connection from the balancer."""

    def __init__(self, backend: Backend, sock: socket.socket, number: int) -> None:
        self.backend = backend
        self.socket = sock
        self.number = number
        self.received = bytearray()
        self.requests: list[Request] = []
        self.error: Exception | None = None
        self.reader = Reader(self._receive)
        self.ended = threading.Event()  # the peer closed or reset it

    def _receive(self) -> bytes:
        try:
            data = self.socket.recv(262144)
        except OSError:
            self.ended.set()
            raise
        if not data:
            self.ended.set()
        self.received += data
        return data

    def read_head(self) -> Request | None:
        """The next request's head; None when the balancer closed the connection."""
        request = self.reader.request_head()
        if request is not None:
            self.backend.note(self, request)
        return request

    def read_body(self, request: Request) -> bytes:
        self.reader.request_body(request)
        return request.body

    def read(self) -> Request | None:
        """The next request with its body; None when the balancer closed the connection."""
        request = self.reader.request()
        if request is not None:
            self.backend.note(self, request)
        return request

    def each(self) -> Iterator[Request]:
        """All requests of the connection."""
        while (request := self.read()) is not None:
            yield request

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def respond(self, body: bytes = b"", status: str = "200 OK", headers: Iterable[tuple[str, str]] = ()) -> None:
        """A complete answer with a Content-Length."""
        lines = [f"HTTP/1.1 {status}", f"X-Backend: {self.backend.name}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)

    def wait_ended(self, timeout_s: float = PATIENCE_S) -> bool:
        """Read on until the peer ends the connection; False when it does not in time."""
        self.socket.settimeout(timeout_s)
        try:
            while self._receive():
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def reset(self) -> None:
        """End the connection with a reset (RST) instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


Script = Callable[[Connection], None]


def name_itself(connection: Connection) -> None:
    """Answer every request with the backend's name."""
    for _ in connection.each():
        connection.respond(connection.backend.name.encode())


def echo(connection: Connection) -> None:
    """Answer every request with what arrived: method, target, fields and body, as JSON."""
    for request in connection.each():
        seen = {
            "backend": connection.backend.name,
            "method": request.method,
            "target": request.target,
            "fields": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.fields],
            "body": request.body.decode("latin-1"),
        }
        connection.respond(json.dumps(seen).encode(), headers=[("Content-Type", "application/json")])


class Backend:
    """Listens on a held port of its own; may be stopped and started again on it."""

    def __init__(self, script: Script = name_itself, name: str = "backend", port: HeldPort | None = None) -> None:
        self.script = script
        self.name = name
        self.port = port or HeldPort()
        self.connections: list[Connection] = []
        self.requests: list[Request] = []  # in the order they arrived, over all connections
        self.errors: list[BaseException] = []
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.start()

    @property
    def url(self) -> str:
        return self.port.url

    def note(self, connection: Connection, request: Request) -> None:
        with self._changed:
            connection.requests.append(request)
            self.requests.append(request)
            self._changed.notify_all()

    def wait_requests(self, count: int, timeout_s: float = PATIENCE_S) -> list[Request]:
        """Wait until `count` requests have arrived in all."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise AssertionError(f"{self.name} saw {len(self.requests)} requests in {timeout_s:g} s, not {count}")
            return list(self.requests)

    def used_connections(self) -> list[Connection]:
        """The connections over which a request came (a TCP check opens others)."""
        return [connection for connection in self.connections if connection.requests]

    def start(self) -> None:
        """Listen (again)."""
        self._listener = self.port.listen()
        self._spawn(self._accept, self._listener)

    def serve_also(self, listener: socket.socket) -> None:
        """Serve connections of another listening socket, which the caller closes."""
        self._spawn(self._accept, listener)

    def stop(self) -> None:
        """Stop listening and end all connections, as a killed process does."""
        if self._listener is None:
            return
        # shutdown wakes the thread in accept(); close alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = None
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop for good. Raises what went wrong in a script, so that a broken script fails its test."""
        self.stop()
        deadline = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"a script of {self.name} did not end"
        for connection in self.connections:
            connection.close()
        self.port.close()
        if self.errors:
            raise self.errors[0]

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, len(self.connections))
            self.connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        try:
            self.script(connection)
        except (Incomplete, OSError) as error:
            # The balancer may give a connection up at any moment; the test sees that in what was recorded.
            connection.error = error
        except Malformed as error:
            connection.error = error
            self.errors.append(error)
        except BaseException as error:
            self.errors.append(error)
        finally:
            connection.close()

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class UnixDoor:
    """A unix socket in front of a backend: connections that arrive there are served by its script."""

    def __init__(self, path: Path, backend: Backend) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        backend.serve_also(self._listener)

    def __enter__(self) -> UnixDoor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
