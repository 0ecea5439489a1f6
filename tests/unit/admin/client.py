"""Asks an admin API in a test: plainly, or with exactly the bytes given."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any

from .world import TOKEN


class Reply:
    """One answer."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    address: str,
    method: str,
    target: str,
    body: object = None,
    *,
    token: str | None = TOKEN,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request; `headers` replace those of ours."""
    fields = {} if token is None else {"Authorization": f"Bearer {token}"}
    data = body if isinstance(body, bytes) else None
    if body is not None and data is None:
        data = json.dumps(body).encode()
        fields["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, target, data, {**fields, **(headers or {})})
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def connected(address: str) -> socket.socket:
    """A socket to it: "127.0.0.1:9900" or "unix:/path"."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(address.removeprefix("unix:"))
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 10)


def raw(address: str, data: bytes, *, finish: bool = False) -> bytes:
    """Everything that is answered to these bytes until the connection ends."""
    with connected(address) as sock:
        sock.sendall(data)
        if finish:
            sock.shutdown(socket.SHUT_WR)
        return received(sock)


def received(sock: socket.socket) -> bytes:
    """Everything until the peer closes."""
    answer = b""
    while piece := sock.recv(65536):
        answer += piece
    return answer
