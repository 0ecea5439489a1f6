"""Socket addresses as bytes: the `struct sockaddr` that C's connect() takes, made and read without touching a name.

Packed addresses go from the resolver to the engine and through messages; two are the same exactly when their bytes are.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

# struct sockaddr_in: family in host order, port in network order, address, 8 bytes of padding.
_IN = struct.Struct("=H2s4s8x")
# struct sockaddr_in6: family, port, flow label (network order), address, scope id (host order); RFC 3493 section 3.3.
_IN6 = struct.Struct("=H2s4s16sI")
_FAMILY = struct.Struct("=H")
# sizeof(sun_path), unix(7)
_UNIX_PATH_MAX = 108


def pack_address(family: int, address: Any) -> bytes:
    """The `struct sockaddr` of an address as the socket module writes it.

    family: AF_INET, AF_INET6 or AF_UNIX. address: (host, port), (host, port, flow, scope) with numeric hosts, or a
    path; a path that starts with NUL or "@" is in the abstract namespace. Raises ValueError for anything else.
    """
    if family == socket.AF_UNIX:
        path = os.fsencode(address)
        abstract = path[:1] in (b"\0", b"@")
        if abstract:
            path = b"\0" + path[1:]
        if not path or len(path) + (not abstract) > _UNIX_PATH_MAX:
            raise ValueError(f"a unix socket path has 1 to {_UNIX_PATH_MAX - 1} bytes: {address!r}")
        return _FAMILY.pack(socket.AF_UNIX) + path + (b"" if abstract else b"\0")
    try:
        port = int(address[1]).to_bytes(2, "big")
        if family == socket.AF_INET:
            return _IN.pack(socket.AF_INET, port, socket.inet_pton(socket.AF_INET, address[0]))
        if family == socket.AF_INET6:
            host = address[0].partition("%")[0]
            flow = address[2] if len(address) > 2 else 0
            scope = address[3] if len(address) > 3 else 0
            packed = socket.inet_pton(socket.AF_INET6, host)
            return _IN6.pack(socket.AF_INET6, port, flow.to_bytes(4, "big"), packed, scope)
    except (OSError, OverflowError) as error:
        raise ValueError(f"not an address: {address!r}: {error}") from error
    raise ValueError(f"unknown address family {family}")


def unpack_address(packed: bytes) -> tuple[int, Any]:
    """The opposite: (family, address) as the socket module takes them. Raises ValueError for what is none."""
    try:
        (family,) = _FAMILY.unpack_from(packed)
        if family == socket.AF_UNIX:
            path = packed[2:]
            return family, path if path[:1] == b"\0" else os.fsdecode(path.rstrip(b"\0"))
        if family == socket.AF_INET:
            _, port, host = _IN.unpack(packed)
            return family, (socket.inet_ntop(family, host), int.from_bytes(port, "big"))
        if family == socket.AF_INET6:
            _, port, flow, host, scope = _IN6.unpack(packed)
            text = socket.inet_ntop(family, host)
            return family, (text, int.from_bytes(port, "big"), int.from_bytes(flow, "big"), scope)
    except struct.error as error:
        raise ValueError(f"not a packed address: {packed!r}") from error
    raise ValueError(f"unknown address family {family}")


def format_address(packed: bytes) -> str:
    """For people: "127.0.0.1:9001", "[::1]:9001" or the path of a unix socket."""
    family, address = unpack_address(packed)
    if family == socket.AF_UNIX:
        return address.decode(errors="backslashreplace") if isinstance(address, bytes) else str(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def literal_address(host: str, port: int) -> bytes | None:
    """The packed address of a numeric host (brackets allowed); None for a name. Never asks a resolver."""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError):
        return None
    family, _, _, _, address = found[0]
    return pack_address(family, address)


def describe_os_error(code: int | None) -> str:
    """An errno in the words of the log: "connection refused", "no route to host"."""
    if not code:
        return "unknown error"
    if code == errno.ETIMEDOUT:
        return "timed out"
    text = os.strerror(code)
    return text[:1].lower() + text[1:]
