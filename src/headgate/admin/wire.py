"""One request in, one answer out: the HTTP of the admin API.

A connection carries one request. What follows it is never looked at, so there is nothing that a second request could
be smuggled in by; the head is read by the engine's own codec, a body only by its Content-Length.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from email.utils import formatdate

import msgspec

from headgate.engine.request_head import BadRequestHead, RequestHead, RequestParser

# What a page may load and do, where the answer is none: nothing.
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"

# No request of ours comes near; a browser's cookies for "localhost" may.
HEAD_LIMIT = 16 * 1024
HEADERS_LIMIT = 64
# A backend, a weight, a strategy with its options.
BODY_LIMIT = 64 * 1024
# A whole configuration to compare with: as much as a file may have.
CONFIG_LIMIT = 16 * 2**20

_READ = 64 * 1024


class Refusal(Exception):
    """An answer other than the one asked for. word: for programs ("not_found"). reason: for people."""

    def __init__(
        self,
        status: int,
        word: str,
        reason: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        problems: tuple[str, ...] = (),
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.word = word
        self.reason = reason
        self.headers = headers
        self.problems = problems


class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is answered when a request is refused."""

    error: str
    """One word, for programs."""
    reason: str
    """For people."""
    problems: tuple[str, ...] = ()
    """Every mistake of a configuration, where that is what was refused."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request with its body. path: without the query, not decoded. known: its sender needs no token."""

    method: str
    path: str
    query: str
    head: RequestHead
    body: bytes = b""
    known: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. `headers` go beside those that every answer has."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = field(default=())
    policy: str = NO_PAGE
    """Content-Security-Policy."""

    @classmethod
    def of(cls, refusal: Refusal) -> Answer:
        """The answer to a request that is refused."""
        error = Error(error=refusal.word, reason=refusal.reason, problems=refusal.problems)
        return cls(refusal.status, msgspec.json.encode(error), headers=refusal.headers)

    def encode(self, *, head_only: bool = False) -> bytes:
        """The bytes of the whole answer; `head_only` for a HEAD request."""
        head = _head(self, f"Content-Length: {len(self.body)}")
        return head if head_only else head + self.body


@dataclass(frozen=True, slots=True)
class Streaming:
    """An answer without an end: it ends with the connection. `pieces` is closed when its reader has gone."""

    pieces: AsyncGenerator[bytes, None]
    content_type: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    policy: str = NO_PAGE

    def encode(self) -> bytes:
        """The bytes of the head."""
        return _head(self)


def _head(answer: Answer | Streaming, *more: str) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {http.HTTPStatus(answer.status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {answer.content_type}",
        *more,
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Opener-Policy: same-origin",
        "Cross-Origin-Resource-Policy: same-origin",
        f"Content-Security-Policy: {answer.policy}",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> tuple[Request, bytes] | None:
    """The request without its body, and what came behind the head; None when the peer went away first.

    Raises Refusal for a head that the codec does not take, and for bodies of unknown length.
    """
    parser = RequestParser(head_limit=HEAD_LIMIT, headers_limit=HEADERS_LIMIT)
    head = None
    while head is None:
        data = await reader.read(_READ)
        if not data:
            return None
        try:
            head = parser.feed(data)
        except BadRequestHead as error:
            headers = (("Allow", "DELETE, GET, HEAD, POST, PUT"),) if error.status == 405 else ()
            word = _WORDS.get(error.status, "bad_request")
            raise Refusal(error.status, word, str(error), headers=headers) from None
    if head.framing == "chunked":
        raise Refusal(411, "length_required", "a body must come with Content-Length, not in chunks")
    path, _, query = head.path.decode("latin-1").partition("?")
    return Request(head.method, path, query, head), parser.rest


async def read_body(
    request: Request, rest: bytes, limit: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes:
    """The body that the head announced, of at most `limit` bytes. Raises Refusal, and EOFError when it ends early."""
    length = max(0, request.head.content_length)
    if length > limit:
        raise Refusal(413, "body_too_large", f"the body may have {limit} bytes here")
    if len(rest) < length and request.head.expects_continue:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray(rest[:length])
    while len(body) < length:
        data = await reader.read(min(_READ, length - len(body)))
        if not data:
            raise EOFError
        body += data
    return bytes(body)


_WORDS = {
    405: "method_not_allowed",
    414: "uri_too_long",
    431: "head_too_large",
    501: "not_implemented",
    505: "version_not_supported",
}
