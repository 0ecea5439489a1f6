from typing import TypedDict, Unpack

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

def log_line(format: str, **fields: Unpack[LogFields]) -> bytes:
    """The line, newline included, that the access log would write for these fields.

    `format` is "text" or "json", else ValueError; TypeError for a field there is not.
    """
