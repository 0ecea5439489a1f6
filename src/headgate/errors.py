"""The one table of what can go wrong: kind -> who caused it, status, retry, health verdict, log word.

The engine copies this table into C arrays when it is imported, so a kind means the same thing in an answer, in the
access log, in the metrics and to the breaker. Nothing else in the project decides any of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class Kind(IntEnum):
    """How an attempt, or an exchange, ended. Values are stable: they index counters in the shared segment."""

    OK = 0
    CONNECT_REFUSED = 1
    CONNECT_TIMEOUT = 2
    CONNECT_FAILED = 3
    RESET = 4
    FIRST_BYTE_TIMEOUT = 5
    BAD_HEAD = 6
    BAD_STATUS = 7
    SERVER_ERROR = 8
    TRUNCATED = 9
    BODY_TIMEOUT = 10
    BAD_BODY = 11
    STALE = 12
    CLIENT_GONE = 13
    CLIENT_TIMEOUT = 14
    NO_BACKEND = 15
    LOCAL_RESOURCE = 16
    BAD_REQUEST = 17
    BODY_TOO_LARGE = 18
    URI_TOO_LONG = 19
    HEAD_TOO_LARGE = 20
    NOT_IMPLEMENTED = 21
    VERSION_NOT_SUPPORTED = 22
    NO_ROUTE = 23
    METHOD_NOT_ALLOWED = 24
    EXPECTATION_FAILED = 25
    MISDIRECTED = 26
    INTERNAL = 27
    REQUEST_TIMEOUT = 28
    OVERLOADED = 29
    QUEUE_TIMEOUT = 30
    SLOW_CLIENT = 31
    HEDGE_LOST = 32
    TLS_VERIFY = 33
    TLS_HANDSHAKE = 34
    DRAIN_DEADLINE = 35

    @property
    def meaning(self) -> Meaning:
        """Its row of the table."""
        return MEANING[self]

    @property
    def source(self) -> Source:
        """Who caused it."""
        return MEANING[self].source

    @property
    def status(self) -> int:
        """What the client is answered while nothing was sent yet."""
        return MEANING[self].status

    @property
    def retryable(self) -> Retry:
        """May the request go to another backend?"""
        return MEANING[self].retry

    @property
    def verdict(self) -> Verdict:
        """What it says about the backend's health."""
        return MEANING[self].verdict

    @property
    def word(self) -> str:
        """How the access log calls it; the value of the metrics' `outcome` label, too."""
        return MEANING[self].word


class Source(Enum):
    """Who caused it."""

    NONE = "none"
    UPSTREAM = "upstream"
    CLIENT = "client"
    INTERNAL = "internal"


class Retry(IntEnum):
    """May the request go to another backend? (RFC 9110 section 9.2.2 for what idempotent means)"""

    NEVER = 0
    IDEMPOTENT = 1  # the backend may have begun to process it
    ALWAYS = 2  # nothing of the request was sent


class Verdict(IntEnum):
    """What it says about the backend's health."""

    NONE = 0  # nothing: the client's doing, ours, or a keep-alive race
    SUCCESS = 1
    CONNECT = 2  # could not be reached; counts one step of the active check's `fall` as well
    TRANSPORT = 3  # reached, but the connection broke or fell silent
    ANSWER = 4  # it answered, and the answer was a failure


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row. `status` is what the client is answered while nothing was sent yet (499 is only logged)."""

    source: Source
    status: int
    retry: Retry
    verdict: Verdict
    word: str


_UP, _CL, _IN = Source.UPSTREAM, Source.CLIENT, Source.INTERNAL
_NEVER, _IDEM, _ALWAYS = Retry.NEVER, Retry.IDEMPOTENT, Retry.ALWAYS

MEANING: dict[Kind, Meaning] = {
    Kind.OK: Meaning(Source.NONE, 200, _NEVER, Verdict.SUCCESS, "ok"),
    Kind.CONNECT_REFUSED: Meaning(_UP, 502, _ALWAYS, Verdict.CONNECT, "connect_refused"),
    Kind.CONNECT_TIMEOUT: Meaning(_UP, 504, _ALWAYS, Verdict.CONNECT, "connect_timeout"),
    Kind.CONNECT_FAILED: Meaning(_UP, 502, _ALWAYS, Verdict.CONNECT, "connect_failed"),
    Kind.RESET: Meaning(_UP, 502, _IDEM, Verdict.TRANSPORT, "reset"),
    Kind.FIRST_BYTE_TIMEOUT: Meaning(_UP, 504, _IDEM, Verdict.TRANSPORT, "first_byte_timeout"),
    Kind.BAD_HEAD: Meaning(_UP, 502, _IDEM, Verdict.ANSWER, "bad_response_head"),
    Kind.BAD_STATUS: Meaning(_UP, 502, _IDEM, Verdict.ANSWER, "bad_status"),
    Kind.SERVER_ERROR: Meaning(_UP, 500, _NEVER, Verdict.ANSWER, "server_error"),
    Kind.TRUNCATED: Meaning(_UP, 502, _NEVER, Verdict.TRANSPORT, "truncated"),
    Kind.BODY_TIMEOUT: Meaning(_UP, 504, _NEVER, Verdict.TRANSPORT, "body_timeout"),
    Kind.BAD_BODY: Meaning(_UP, 502, _NEVER, Verdict.ANSWER, "bad_response_body"),
    # A reused connection that dies before a response byte: a race, never the backend's fault (RFC 9112 section 9.3.1).
    Kind.STALE: Meaning(_UP, 502, _IDEM, Verdict.NONE, "stale_connection"),
    Kind.CLIENT_GONE: Meaning(_CL, 499, _NEVER, Verdict.NONE, "client_gone"),
    Kind.CLIENT_TIMEOUT: Meaning(_CL, 408, _NEVER, Verdict.NONE, "client_timeout"),
    Kind.NO_BACKEND: Meaning(_IN, 503, _NEVER, Verdict.NONE, "no_backend"),
    # EMFILE, EADDRNOTAVAIL, ENOMEM: ours, so never counted against a backend.
    Kind.LOCAL_RESOURCE: Meaning(_IN, 503, _NEVER, Verdict.NONE, "local_resource"),
    Kind.BAD_REQUEST: Meaning(_CL, 400, _NEVER, Verdict.NONE, "bad_request"),
    Kind.BODY_TOO_LARGE: Meaning(_CL, 413, _NEVER, Verdict.NONE, "body_too_large"),
    Kind.URI_TOO_LONG: Meaning(_CL, 414, _NEVER, Verdict.NONE, "uri_too_long"),
    Kind.HEAD_TOO_LARGE: Meaning(_CL, 431, _NEVER, Verdict.NONE, "head_too_large"),
    Kind.NOT_IMPLEMENTED: Meaning(_CL, 501, _NEVER, Verdict.NONE, "not_implemented"),
    Kind.VERSION_NOT_SUPPORTED: Meaning(_CL, 505, _NEVER, Verdict.NONE, "version_not_supported"),
    Kind.NO_ROUTE: Meaning(_CL, 404, _NEVER, Verdict.NONE, "no_route"),
    Kind.METHOD_NOT_ALLOWED: Meaning(_CL, 405, _NEVER, Verdict.NONE, "method_not_allowed"),
    Kind.EXPECTATION_FAILED: Meaning(_CL, 417, _NEVER, Verdict.NONE, "expectation_failed"),
    Kind.MISDIRECTED: Meaning(_CL, 421, _NEVER, Verdict.NONE, "misdirected"),
    Kind.INTERNAL: Meaning(_IN, 500, _NEVER, Verdict.NONE, "internal"),
    Kind.REQUEST_TIMEOUT: Meaning(_UP, 504, _NEVER, Verdict.NONE, "request_timeout"),
    Kind.OVERLOADED: Meaning(_IN, 503, _NEVER, Verdict.NONE, "overloaded"),
    Kind.QUEUE_TIMEOUT: Meaning(_IN, 503, _NEVER, Verdict.NONE, "queue_timeout"),
    Kind.SLOW_CLIENT: Meaning(_CL, 499, _NEVER, Verdict.NONE, "slow_client"),
    # An attempt that was cancelled because another of the same request answered first; no exchange ends so.
    Kind.HEDGE_LOST: Meaning(_IN, 499, _NEVER, Verdict.NONE, "hedge_lost"),
    # Both before anything of the request was sent.
    Kind.TLS_VERIFY: Meaning(_UP, 502, _ALWAYS, Verdict.CONNECT, "tls_verify"),
    Kind.TLS_HANDSHAKE: Meaning(_UP, 502, _ALWAYS, Verdict.CONNECT, "tls_handshake"),
    # Ended by us, on time: the process goes, or the backend was told to. The backend may have begun, as with a reset.
    Kind.DRAIN_DEADLINE: Meaning(_IN, 503, _IDEM, Verdict.NONE, "drain_deadline"),
}

TEXT: dict[Kind, str] = {
    Kind.OK: "The answer was passed on whole.",
    Kind.CONNECT_REFUSED: "The backend refused the connection: nothing listens there.",
    Kind.CONNECT_TIMEOUT: "The backend did not accept a connection within `timeouts.connect`.",
    Kind.CONNECT_FAILED: "No connection for another reason: no route, no address, a socket that is not there.",
    Kind.RESET: "The backend ended the connection before it answered.",
    Kind.FIRST_BYTE_TIMEOUT: "The backend did not begin to answer within `timeouts.first_byte`.",
    Kind.BAD_HEAD: "What came back is no head of an HTTP answer, or one that is too large.",
    Kind.BAD_STATUS: "The backend answered a status of `retry.on`, and another backend was tried instead.",
    Kind.SERVER_ERROR: "The backend answered 500 or above, and that was passed on.",
    Kind.TRUNCATED: "The backend ended the connection in the middle of a body; the client sees it cut short.",
    Kind.BODY_TIMEOUT: "The backend fell silent in the middle of a body, for `timeouts.body_idle`.",
    Kind.BAD_BODY: "The body's framing is broken; the client sees it cut short.",
    Kind.STALE: "A kept connection was closed just as it was used again; sent once more on a fresh one.",
    Kind.CLIENT_GONE: "The client left before it had its answer.",
    Kind.CLIENT_TIMEOUT: "The client did not finish its request in time.",
    Kind.NO_BACKEND: "No backend of the pool is routable.",
    Kind.LOCAL_RESOURCE: "The balancer itself was out of descriptors, ports or memory.",
    Kind.BAD_REQUEST: "The request is not strict HTTP/1.1.",
    Kind.BODY_TOO_LARGE: "The request's body is larger than `limits.body`.",
    Kind.URI_TOO_LONG: "The request line is longer than `limits.request_line`.",
    Kind.HEAD_TOO_LARGE: "The request's head is larger than `limits.head`, or has too many fields.",
    Kind.NOT_IMPLEMENTED: "The request wants a transfer coding that the balancer does not know.",
    Kind.VERSION_NOT_SUPPORTED: "The request is of another major version of HTTP.",
    Kind.NO_ROUTE: "No route matches host and path.",
    Kind.METHOD_NOT_ALLOWED: "One of the balancer's own pages was asked for with another method than it has.",
    Kind.EXPECTATION_FAILED: "The request expects something other than 100-continue.",
    Kind.MISDIRECTED: "The request names another authority than this connection serves.",
    Kind.INTERNAL: "A fault of the balancer's own; its log says which.",
    Kind.REQUEST_TIMEOUT: "The whole exchange took longer than `timeouts.request`.",
    Kind.OVERLOADED: "The balancer sheds load: its buffers, or a limit, are used up.",
    Kind.QUEUE_TIMEOUT: "No backend had room within `timeouts.queue`.",
    Kind.SLOW_CLIENT: "The client took nothing of its answer for `timeouts.client_write`.",
    Kind.HEDGE_LOST: "A second attempt that was not needed: another one answered first. No exchange ends so.",
    Kind.TLS_VERIFY: "The backend's certificate does not hold: its dates, its name, or its signer. Nothing was sent.",
    Kind.TLS_HANDSHAKE: "The backend and the balancer could not agree on TLS, or the backend refused our certificate.",
    Kind.DRAIN_DEADLINE: "Cut off by the balancer: the deadline of a drain came first, the backend's or its own.",
}
"""What each kind means, for docs/errors.md."""
