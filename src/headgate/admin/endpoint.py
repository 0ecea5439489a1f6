"""What an endpoint is, and how a request finds its own: method and path, parameters, query and body by their types."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.admin.host import Host
from headgate.admin.wire import BODY_LIMIT, NO_PAGE, Answer, Refusal, Request, Streaming

if TYPE_CHECKING:
    from headgate.admin.feed import Feed

JSON = "application/json"


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of request bodies and queries: an unknown key is a mistake, never passed over."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request as its handler sees it. params: the path's parameters, decoded."""

    host: Host
    params: dict[str, str]
    query: Any
    body: Any
    feed: Feed
    known: bool = True
    """Its sender needs no token."""
    accept: str = ""
    """The request's Accept fields."""


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is not JSON. content_type: where it is another than the endpoint's."""

    body: bytes
    status: int = 200
    content_type: str = ""
    policy: str = NO_PAGE


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer without an end."""

    pieces: AsyncGenerator[bytes, None]


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One row of the table. answer: the type of the JSON sent back, or a media type where it is something else.

    refuses: statuses besides those that every endpoint may answer with, and when.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Any
    status: int = 200
    body: type[Body] | None = None
    body_optional: bool = False
    body_limit: int = BODY_LIMIT
    query: type[Body] | None = None
    refuses: dict[int, str] = field(default_factory=dict)
    open_to_all: bool = False
    listed: bool = True
    """Is it in the OpenAPI document? What only a page of ours asks for is not."""

    @property
    def params(self) -> list[str]:
        """Names of the path's parameters."""
        return re.findall(r"\{(\w+)\}", self.path)


@dataclass(frozen=True, slots=True)
class Found:
    """The row for a request, and its path's parameters."""

    endpoint: Endpoint
    params: dict[str, str]


class Table:
    """All endpoints."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._rows = [(one.path.split("/")[1:], one) for one in self.endpoints]

    def find(self, method: str, path: str) -> Found:
        """Raises Refusal (404, 405)."""
        parts = path.split("/")[1:]
        allowed: set[str] = set()
        wanted = "GET" if method == "HEAD" else method
        for pattern, endpoint in self._rows:
            params = _match(pattern, parts)
            if params is None:
                continue
            if endpoint.method == wanted:
                return Found(endpoint, params)
            allowed |= {endpoint.method, "HEAD"} if endpoint.method == "GET" else {endpoint.method}
        if allowed:
            text = ", ".join(sorted(allowed))
            raise Refusal(405, "method_not_allowed", f"{path} takes {text}", headers=(("Allow", text),))
        raise Refusal(404, "not_found", "there is nothing here; GET /openapi.json names what there is")

    def plan(self, request: Request) -> tuple[bool, int]:
        """For `Server`: may everybody ask this, and how large may the body be?"""
        try:
            endpoint = self.find(request.method, request.path).endpoint
        except Refusal:
            return False, BODY_LIMIT  # whoever may not ask does not learn what there is
        return endpoint.open_to_all, endpoint.body_limit

    async def answer(self, host: Host, feed: Feed, request: Request) -> Answer | Streaming:
        """Run the handler of a request that may be answered. Raises Refusal."""
        found = self.find(request.method, request.path)
        endpoint = found.endpoint
        query = _query(endpoint, request.query)
        body = _body(endpoint, request)
        accept = b",".join(request.head.values(b"accept")).decode("latin-1")
        result = await endpoint.handler(Call(host, found.params, query, body, feed, request.known, accept))
        if isinstance(result, Stream):
            return Streaming(result.pieces, endpoint.answer)
        if isinstance(result, Raw):
            return Answer(result.status, result.body, result.content_type or endpoint.answer, policy=result.policy)
        return Answer(endpoint.status, msgspec.json.encode(result))


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(parts):
        return None
    params = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            if not part:
                return None
            try:
                # Segments are split before they are decoded: a backend named by its URL has slashes in it.
                params[wanted[1:-1]] = urllib.parse.unquote(part, errors="strict")
            except UnicodeDecodeError:
                raise Refusal(400, "bad_request", "a part of the path is not UTF-8") from None
        elif wanted != part:
            return None
    return params


def _query(endpoint: Endpoint, text: str) -> Any:
    if endpoint.query is None:
        if text:
            raise Refusal(400, "bad_request", "no query is understood here")
        return None
    try:
        pairs = urllib.parse.parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=16, errors="strict"
        )
        given = dict(pairs)
        if len(given) != len(pairs):
            raise ValueError("a parameter is given twice")
        return msgspec.convert(given, endpoint.query, strict=False)
    except ValueError as error:  # msgspec.ValidationError and UnicodeDecodeError are ones
        raise Refusal(400, "bad_request", f"the query: {error}") from None


def _body(endpoint: Endpoint, request: Request) -> Any:
    if endpoint.body is None:
        if request.body:
            raise Refusal(400, "bad_request", "no body is expected here")
        return None
    if not request.body:
        if endpoint.body_optional:
            return endpoint.body()
        raise Refusal(400, "bad_request", "a JSON body is expected")
    types = request.head.values(b"content-type")
    # A page of another origin cannot send this type without asking first (Fetch standard, CORS-safelisted requests).
    if len(types) != 1 or types[0].partition(b";")[0].strip().lower() != b"application/json":
        raise Refusal(415, "unsupported_media_type", "send Content-Type: application/json")
    try:
        return msgspec.json.decode(request.body, type=endpoint.body)
    except msgspec.ValidationError as error:
        raise Refusal(422, "invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(400, "bad_request", f"the body is not JSON: {error}") from None
