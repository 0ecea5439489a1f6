"""What a check says first to a backend that expects the PROXY protocol (docs/who-is-calling.md)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Literal

from headgate.engine.proxy_protocol import write
from headgate.runtime.address import pack_address

Introduction = Callable[[socket.socket], bytes]
"""From a connected socket to the bytes that go out before anything else."""


def introduction(version: Literal["v1", "v2"] | None) -> Introduction | None:
    """How a check introduces itself; None when nothing is expected."""
    if version is None:
        return None
    return _as_line if version == "v1" else _as_local


def _as_line(sock: socket.socket) -> bytes:
    """Version 1 cannot say that we speak for ourselves, and some servers refuse UNKNOWN: section 2.1 of
    proxy-protocol.txt therefore asks for the connection's own two ends."""
    if sock.family == socket.AF_UNIX:
        return write(1)
    return write(1, pack_address(sock.family, sock.getsockname()), pack_address(sock.family, sock.getpeername()))


def _as_local(sock: socket.socket) -> bytes:
    return write(2, local=True)
