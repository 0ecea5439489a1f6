"""Connections to an admin API, over a Unix socket or TCP.

A file of its own because `http.client` brings the standard library's email package along, 2 MiB of memory: only a
command that asks a balancer imports this, `headgate run` does not.
"""

from __future__ import annotations

import socket
import urllib.parse
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from headgate.cli.common import UsageError

__all__ = ["TIMEOUT_S", "HTTPException", "open_connection"]

# The API answers within milliseconds; a reload that imports modules for strategies takes seconds.
TIMEOUT_S = 60.0


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def open_connection(address: str) -> HTTPConnection:
    """What a request to `address` ("unix:PATH" or a URL without a path) can be sent on. Raises UsageError."""
    if address.startswith("unix:"):
        return _UnixConnection(address.removeprefix("unix:"))
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    if not parts.hostname or parts.path or parts.query:
        raise UsageError(f"--admin: {address} is not an address such as http://127.0.0.1:9900")
    made = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return made(parts.hostname, port, timeout=TIMEOUT_S)
