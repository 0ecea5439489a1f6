from collections.abc import Iterable
from typing import Literal

from headgate.engine.address import Networks

class Message:
    result: int
    calls: int
    error: str
    status: int
    minor_version: int
    method: bytes
    target: bytes
    path: bytes
    authority: bytes
    host: bytes
    reason: bytes
    framing: str
    flags: set[str]
    max_forwards: int
    content_length: int
    keep_alive_timeout: int
    fields: list[tuple[bytes, bytes, bool]]

def parse_request(
    data: bytes, cuts: Iterable[int] = (), *, head_limit: int = 32768, line_limit: int = 8192, field_limit: int = 100
) -> Message: ...
def parse_response(
    data: bytes,
    cuts: Iterable[int] = (),
    *,
    method: str = "GET",
    request_flags: Iterable[str] = (),
    head_limit: int = 32768,
    field_limit: int = 100,
) -> Message: ...
def write_request(
    message: Message,
    *,
    capacity: int = 65536,
    client: bytes = b"192.0.2.1",
    peer: bytes = b"192.0.2.1",
    request_id: bytes = b"",
    host: bytes | None = None,
    via: bytes = b"",
    extra: bytes = b"",
    trusted: bool = False,
    tls: bool = False,
    keep_upgrade: bool = False,
    keep_expect: bool = False,
    framing: str | None = None,
    form: str = "x",
    contradicted: bool = False,
) -> bytes | None: ...
def write_response(
    message: Message,
    *,
    capacity: int = 65536,
    via: bytes = b"",
    date: bytes | None = None,
    extra: bytes = b"",
    minor_version: int = 1,
    framing: str | None = None,
    close: bool = False,
    keep_upgrade: bool = False,
) -> bytes | None: ...
def decode_chunks(
    pieces: Iterable[bytes], *, trailer_capacity: int = 8192
) -> tuple[bytes, bytes, str | None, bool, int]: ...
def chunk_size_line(size: int) -> bytes: ...
def normal_address(text: bytes) -> str | None: ...
def in_networks(networks: Networks, text: bytes) -> bool: ...
def client_of(message: Message, peer: bytes, trusted: Networks | None, *, forwarded: bool = False) -> str: ...
def parse_proxy(data: bytes) -> tuple[int, tuple[str, int] | Literal["unix"] | None, tuple[str, int] | None] | None: ...
def repeat_parse(data: bytes, rounds: int, *, response: bool = False) -> None: ...
def repeat_write(message: Message, rounds: int, *, response: bool = False) -> int: ...
