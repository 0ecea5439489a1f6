"""A client on a bare socket: it sends the bytes it is told to and reads the answers strictly."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Sequence
from types import TracebackType

from .waiting import PATIENCE_S
from .wire import Reader, Response

Headers = Sequence[tuple[str, str]]


def head(method: str, target: str, headers: Iterable[tuple[str, str]] = (), host: str = "h.example") -> bytes:
    """The bytes of a request head."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Client:
    """One connection. Reading waits `timeout_s` at most, then raises TimeoutError."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        *,
        timeout_s: float = PATIENCE_S,
        source: tuple[str, int] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.socket.settimeout(timeout_s)
            if receive_buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source is not None:
                self.socket.bind(source)
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        self.received = bytearray()
        self.reader = Reader(self._receive)

    def _receive(self) -> bytes:
        data = self.socket.recv(262144)
        self.received += data
        return data

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> Response:
        """Send a request and read the final answer."""
        fields = list(headers)
        if body is not None:
            fields.append(("Content-Length", str(len(body))))
        self.send(head(method, target, fields) + (body or b""))
        return self.response(method)

    def get(self, target: str = "/", headers: Iterable[tuple[str, str]] = ()) -> Response:
        return self.request("GET", target, headers)

    def response(self, method: str = "GET", interim: bool = False) -> Response:
        return self.reader.response(method, interim)

    def closed_by_peer(self) -> bool:
        """True when the peer has ended the connection and sent nothing more; waits for either."""
        try:
            return self.reader.at_end()
        except ConnectionResetError:
            return True

    def finish(self) -> None:
        """Say that nothing more will be sent (FIN), and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection with a reset (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fetch(
    address: tuple[str, int] | str,
    target: str = "/",
    headers: Iterable[tuple[str, str]] = (),
    method: str = "GET",
    body: bytes | None = None,
) -> Response:
    """One request on a connection of its own."""
    with Client(address) as client:
        return client.request(method, target, [*headers, ("Connection", "close")], body)
