from typing import Literal

class ResponseHead:
    """The head of one response; see `parse_response_head`."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    length: int
    framing: Literal["none", "length", "chunked", "close", "tunnel"]
    content_length: int
    minor_version: int
    keep_alive: bool

def parse_response_head(data: bytes, head_request: bool = False) -> ResponseHead | None:
    """The head of the response in `data`, or None while it is incomplete. Raises ValueError when malformed."""
