from typing import TypedDict

class LogFields(TypedDict, total=False):
    """LogEntry of logline.pxd: text is raw bytes, times are nanoseconds, -1 or None is unknown."""

    time_ns: int
    client: bytes | None
    method: bytes | None
    target: bytes | None
    host: bytes | None
    pool: bytes | None
    backend: bytes | None
    request_id: bytes | None
    word: bytes | None
    status: int
    attempts: int
    minor_version: int
    bytes_sent: int
    bytes_received: int
    first_byte_ns: int
    total_ns: int
    queued_ns: int
    # For a log with chosen fields:
    listener: bytes | None
    route: bytes | None
    tls: bool
    failed: list[tuple[bytes, bytes]]
    """(URL, word) of attempts that failed, six at most."""
    headers: dict[bytes, bytes]
    """Header fields of the request by their names in lower case."""
