"""A strict reader of HTTP/1.1 messages (RFC 9112), for what the balancer sends to backends and clients.

Written apart from the product's codec, and less forgiving: it accepts one spelling of everything. What it refuses is
something the balancer should not have written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Other control bytes than CR, LF and NUL are for the recipient to judge (RFC 9110 section 5.5).
_VALUE = re.compile(rb"[^\r\n\0]*")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})(?:[ \t]*;[\t \x21-\x7e\x80-\xff]*)?")


class Malformed(Exception):
    """The bytes are not a message."""


class Incomplete(Exception):
    """The peer stopped sending in the middle of a message (`partial` holds what came of the body)."""

    def __init__(self, what: str, partial: bytes = b"") -> None:
        super().__init__(what)
        self.partial = partial


@dataclass(slots=True)
class Message:
    """What requests and responses have in common."""

    start_line: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The value of a field that occurs at most once; None without it."""
        values = self.headers(name)
        assert len(values) < 2, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else None

    def headers(self, name: str) -> list[str]:
        """All values of a field, in order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.fields if key.lower() == wanted]

    @property
    def http10(self) -> bool:
        return b"HTTP/1.0" in self.start_line

    def list_header(self, name: str) -> list[str]:
        """The elements of a field that is a comma-separated list, in lower case."""
        return [part.strip().lower() for value in self.headers(name) for part in value.split(",") if part.strip()]


@dataclass(slots=True)
class Request(Message):
    method: str = ""
    target: str = ""


@dataclass(slots=True)
class Response(Message):
    status: int = 0
    closed: bool = False  # the body was ended by the end of the connection

    def json(self) -> Any:
        return json.loads(self.body)


class Reader:
    """Takes messages out of what `receive` brings (bytes; b"" at the end of the stream)."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._buffer = bytearray()
        self._position = 0

    @property
    def pending(self) -> bytes:
        """Bytes received but not yet taken."""
        return bytes(self._buffer[self._position :])

    def _more(self) -> bool:
        if self._position > 65536:
            del self._buffer[: self._position]
            self._position = 0
        data = self._receive()
        self._buffer += data
        return bool(data)

    def line(self) -> bytes:
        """One line without its CRLF; Malformed for a bare CR, LF or NUL in it."""
        searched = self._position
        while (end := self._buffer.find(b"\n", searched)) < 0:
            waiting = len(self._buffer) - self._position
            if not self._more():
                raise Incomplete("a line", self.pending)
            searched = self._position + waiting
        raw = bytes(self._buffer[self._position : end + 1])
        self._position = end + 1
        if not raw.endswith(b"\r\n") or b"\r" in raw[:-2] or b"\0" in raw:
            raise Malformed(f"line ends or control bytes: {raw!r}")
        return raw[:-2]

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) - self._position < count:
            if not self._more():
                raise Incomplete(f"a body of {count} bytes", self.pending)
        taken = bytes(self._buffer[self._position : self._position + count])
        self._position += count
        return taken

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        while self._more():
            pass
        taken = self.pending
        self._position = len(self._buffer)
        return taken

    def at_end(self) -> bool:
        """True when the stream has ended and nothing is left; waits for a byte otherwise."""
        return self._position == len(self._buffer) and not self._more()

    def fields(self) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        while line := self.line():
            name, colon, value = line.partition(b":")
            if not (colon and _TOKEN.fullmatch(name) and _VALUE.fullmatch(value)):
                raise Malformed(f"field line {line!r}")
            found.append((name, value.strip(b" \t")))
        return found

    def chunked(self, message: Message) -> None:
        """Read a chunked body into `message`; on Incomplete the chunks that came are in `message.chunks`."""
        while True:
            line = self.line()
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise Malformed(f"chunk size line {line!r}")
            size = int(match[1], 16)
            if size == 0:
                break
            message.chunks.append(self.exactly(size))
            if self.exactly(2) != b"\r\n":
                raise Malformed("no CRLF after a chunk")
        message.trailers = self.fields()
        message.body = b"".join(message.chunks)

    def _body(self, message: Message) -> bool:
        """Read the body that the fields announce; False when they announce none."""
        lengths, codings = message.headers("content-length"), message.headers("transfer-encoding")
        if lengths and codings:
            raise Malformed("both Content-Length and Transfer-Encoding")
        if codings:
            if codings != ["chunked"]:
                raise Malformed(f"Transfer-Encoding {codings}")
            self.chunked(message)
            return True
        if lengths:
            if len(lengths) > 1 or not re.fullmatch("[0-9]{1,18}", lengths[0]):
                raise Malformed(f"Content-Length {lengths}")
            message.body = self.exactly(int(lengths[0]))
            return True
        return False

    def request_head(self) -> Request | None:
        """The next request without its body; None at the end of the stream."""
        if self.at_end():
            return None
        line = self.line()
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"request line {line!r}")
        return Request(line, self.fields(), method=match[1].decode(), target=match[2].decode("latin-1"))

    def request_body(self, request: Request) -> None:
        """Read the body of a request whose head was read."""
        self._body(request)

    def request(self) -> Request | None:
        """The next request with its body; None at the end of the stream."""
        request = self.request_head()
        if request is not None:
            self.request_body(request)
        return request

    def response_head(self) -> Response:
        line = self.line()
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"status line {line!r}")
        return Response(line, self.fields(), status=int(match[2]))

    def response_body(self, response: Response, method: str = "GET") -> None:
        """Read the body of a response to `method` whose head was read (RFC 9112 section 6.3)."""
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            return
        if not self._body(response):
            response.body = self.rest()
            response.closed = True

    def response(self, method: str = "GET", interim: bool = False) -> Response:
        """The next final response with its body (with `interim`: the next response of any status)."""
        while True:
            response = self.response_head()
            self.response_body(response, method)
            if interim or response.status >= 200:
                return response


def requests_in(data: bytes) -> tuple[list[Request], Exception | None]:
    """The complete requests at the start of `data`, and what stopped the reading (None: all of it was requests)."""
    parts = [data]
    reader = Reader(lambda: parts.pop() if parts else b"")
    found: list[Request] = []
    try:
        while (request := reader.request()) is not None:
            found.append(request)
    except (Malformed, Incomplete) as error:
        return found, error
    return found, None
