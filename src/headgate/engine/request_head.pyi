from typing import Literal

class BadRequestHead(ValueError):
    """A head that is refused; the text says why."""

    status: int
    """What to answer: 400, 405, 414, 431, 501 or 505."""

class RequestHead:
    """The head of one request; see `RequestParser`."""

    method: str
    path: bytes
    """In origin form, the query included; an absolute-form target's authority is taken out of it."""
    authority: bytes
    """host[:port] of an absolute-form target, else of the Host field; b"" for an HTTP/1.0 request without one."""
    headers: list[tuple[bytes, bytes]]
    """The field lines in their order, names as they came, values trimmed."""
    framing: Literal["none", "length", "chunked"]
    """How the body is delimited (RFC 9112 section 6.3)."""
    content_length: int
    """-1 where there is none."""
    expects_continue: bool
    """Expect: 100-continue, from a client that may be answered so."""
    minor_version: int

    def values(self, name: bytes) -> list[bytes]:
        """The values of the field lines of this name, in any case."""

class RequestParser:
    """Reads one request head, strictly, by the data path's own codec.

    head_limit: bytes of the whole head. headers_limit: field lines.
    """

    rest: bytes
    """What came behind the head."""

    def __init__(self, *, head_limit: int, headers_limit: int) -> None: ...
    def feed(self, data: bytes) -> RequestHead | None:
        """More bytes; the head once it is complete, which ends the parser. Raises BadRequestHead."""
