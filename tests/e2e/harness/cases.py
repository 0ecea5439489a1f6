"""Runs one case of tests/protocol/http1_cases.jsonl against a proxy and says what is wrong with what came of it.

A case is a client (`side` = request) or a backend (`side` = response) that sends odd or hostile bytes. What the client
received is turned into an *outcome*, a comma-separated sequence of

    forward    a complete answer of the backend (it carries X-Up)
    400, ...   a complete answer of the proxy's own, by status
    abort      an answer that visibly ends before it is complete
    close      the connection ended without an(other) answer
    wait       the connection is open and silent

and compared with the outcomes the case accepts. `normalise` (relayed and repaired) is a forward: what the repair must
have done stands in the case's patterns over the bytes that reached the backend.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .backends import Backend, Connection
from .client import Client
from .ports import HeldPort
from .wire import Incomplete, Malformed, Request, requests_in

CASES = Path(__file__).parents[2] / "protocol" / "http1_cases.jsonl"

# The proxy's own timeouts (client header, first byte) are 2 s in this test; after this long nothing comes any more.
SILENCE_S = 4.0
SLOW_S = 6.0
# Once as many answers came as may come, how long to look for a further answer that would spoil it.
SETTLE_S = 0.4

# The answers to expect of "many": as many requests as the one case of that kind sends.
MANY = 500

CLEAN = b"HTTP/1.1 200 OK\r\nX-Up: 1\r\nContent-Length: 2\r\n\r\nok"
FOLLOW_UP = b"HTTP/1.1 200 OK\r\nX-Up: 1\r\nContent-Length: 9\r\n\r\nfollow-up"
PLAIN_REQUEST = "GET / HTTP/1.1\r\nHost: h.example\r\n\r\n"


def _bytes(text: str, substitutions: dict[str, list[Any]]) -> bytes:
    data = text.encode("ascii").decode("unicode_escape").encode("latin-1")
    for token, (string, count) in substitutions.items():
        data = data.replace(token.encode(), string.encode("latin-1") * count)
    return data


@dataclass(slots=True)
class Case:
    """One line of the file. Keys that are absent there are empty here."""

    id: str
    side: str
    raw: bytes
    request: bytes
    expect: list[str]
    why: str
    max_upstream: int
    upstream_must: list[str]
    upstream_must_not: list[str]
    upstream_reqline_must_not: list[str]
    client_must: list[str]
    client_must_not: list[str]
    local_not: list[str]
    must_close: bool
    fin: bool
    slow: bool
    followup: bool
    up_close: bool
    early: bool

    @classmethod
    def parse(cls, line: str) -> Case:
        data = json.loads(line)
        # "normalise" is a forward whose repair the patterns check.
        expect = [outcome.replace("normalise", "forward") for outcome in data["expect"]]
        many = "many" in expect
        forwards = many or any("forward" in outcome for outcome in expect)
        raw = _bytes(data["raw"], data.get("subst", {}))
        answered = data["side"] == "response"
        request = _bytes(data.get("request", PLAIN_REQUEST), data.get("subst_request", {})) if answered else raw
        return cls(
            id=data["id"],
            side=data["side"],
            raw=raw,
            request=request,
            expect=expect,
            why=data["why"],
            # A backend that misbehaves has seen its request; only clients' cases limit what may reach it.
            max_upstream=data.get("max_upstream", MANY if many else 2 if forwards or answered else 0),
            upstream_must=data.get("upstream_must", []),
            upstream_must_not=data.get("upstream_must_not", []),
            upstream_reqline_must_not=data.get("upstream_reqline_must_not", []),
            client_must=data.get("client_must", []),
            client_must_not=data.get("client_must_not", []),
            local_not=data.get("local_not", []),
            must_close=data.get("must_close", False),
            fin=data.get("fin", False),
            slow=data.get("slow", False),
            followup=data.get("followup", False),
            up_close=data.get("up_close", False),
            early=data.get("early", False),
        )

    def accepts(self, outcome: list[str]) -> bool:
        """Is this sequence one of those the case names?"""
        said = ",".join(outcome)
        for accepted in self.expect:
            if accepted == said:
                return True
            if accepted == "many" and outcome.count("forward") >= 1 and set(outcome) <= {"forward", "close"}:
                return True
            if accepted == "local" and len(outcome) == 1 and outcome[0].isdigit() and outcome[0] not in self.local_not:
                return True
        return False

    @property
    def longest(self) -> int:
        """How many answers may come at most."""
        return max(MANY if outcome == "many" else outcome.count(",") + 1 for outcome in self.expect)


def load() -> list[Case]:
    """All cases of the file."""
    return [Case.parse(line) for line in CASES.read_text().splitlines()]


@dataclass(slots=True)
class Result:
    """What came of a case."""

    outcome: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    upstream: list[bytes] = field(default_factory=list)  # what the backend got, per connection
    client: bytes = b""
    bodies: bytes = b""  # what the client got as bodies, without the framing of chunks

    def __str__(self) -> str:
        lines = [f"outcome: {','.join(self.outcome)}", *self.problems, f"client got: {self.client[:2000]!r}"]
        return "\n".join(lines + [f"backend got: {data[:2000]!r}" for data in self.upstream])


Cut = Callable[[bytes], Iterable[bytes]]
"""Says in which pieces a case's bytes are sent."""


def whole(data: bytes) -> Iterable[bytes]:
    """In one piece."""
    return [data]


class _Backend:
    """The backend's part: answers cleanly (request cases) or with the case's bytes (response cases)."""

    def __init__(self, case: Case, cut: Cut) -> None:
        self.case = case
        self._cut = cut
        self._answered = False

    def __call__(self, connection: Connection) -> None:
        with contextlib.suppress(Malformed):  # judged later, from the bytes
            while (request := self._read(connection)) is not None:
                if self._answer(connection, request):
                    return

    def _read(self, connection: Connection) -> Request | None:
        if self.case.early:
            return connection.read_head()
        return connection.read()

    def _answer(self, connection: Connection, request: Request) -> bool:
        """Answer; True when the connection is to be closed."""
        if self.case.side == "request":
            connection.send(CLEAN if request.method != "HEAD" else CLEAN[:-2])
            return False
        if request.target == "/follow-up":
            connection.send(FOLLOW_UP)
            return False
        for piece in self._cut(self.case.raw):
            connection.send(piece)
        if self.case.early:
            # Orderly: no more is sent, what still arrives is read. A reset could overtake the answer.
            connection.socket.shutdown(socket.SHUT_WR)
            connection.wait_ended(SILENCE_S)
        return self.case.up_close


class _Conversation:
    """The client's part."""

    def __init__(self, case: Case, address: tuple[str, int], cut: Cut, answers: int) -> None:
        self.case = case
        self._cut = cut if case.side == "request" else whole
        self._answers = answers
        self.client = Client(address)
        self.client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.outcome: list[str] = []
        self.bodies = b""
        self.ended = False
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()

    def _send(self) -> None:
        # In a thread of its own: a proxy may answer, and stop reading, long before 8 MB are sent.
        with contextlib.suppress(OSError):
            for piece in self._cut(self.case.request):
                self.client.send(piece)
            if self.case.fin:
                self.client.finish()

    def listen(self) -> None:
        """Read until the outcome stands."""
        deadline = time.monotonic() + (SLOW_S if self.case.slow else SILENCE_S)
        method = "HEAD" if self.case.request.startswith(b"HEAD ") else "GET"
        while not self.ended:
            if self.outcome:
                # Silence is the only sign that fewer answers come than may come: a busy machine needs a long one.
                wanted = len(self.outcome) < self._answers
                deadline = time.monotonic() + (SILENCE_S if wanted else SETTLE_S)
            self.client.socket.settimeout(max(0.01, deadline - time.monotonic()))
            if not self._one(method):
                return

    def _one(self, method: str) -> bool:
        """Read one answer into the outcome; False when there is no sense in reading on."""
        head = False
        before = len(self.client.received)
        try:
            if self.client.reader.at_end():
                return self._end("close" if not self.outcome else None)
            response = self.client.reader.response_head()
            head = True
            if 100 <= response.status < 200 and response.status != 101:
                return True
            self.client.reader.response_body(response, method)
        except TimeoutError:
            if not self.outcome:
                self.outcome.append("abort" if head or len(self.client.received) > before else "wait")
            return False
        except (Incomplete, ConnectionResetError):
            return self._end("abort" if head else None if self.outcome else "close")
        except Malformed as error:
            return self._end(f"malformed answer ({error})")
        self.bodies += response.body
        self.outcome.append("forward" if response.headers("x-up") else str(response.status))
        return response.status != 101

    def _end(self, word: str | None) -> bool:
        self.ended = True
        if word is not None:
            self.outcome.append(word)
        return False

    def closed(self) -> bool:
        """Is the connection ended by the proxy, now or within a moment?"""
        if not self.ended:
            self.client.socket.settimeout(SILENCE_S)
            with contextlib.suppress(TimeoutError):
                self.ended = self.client.closed_by_peer()
        return self.ended

    def close(self) -> None:
        # shutdown first: it wakes the sender when it is stuck in send().
        with contextlib.suppress(OSError):
            self.client.socket.shutdown(socket.SHUT_RDWR)
        self._sender.join(SILENCE_S)
        self.client.close()


def _follow_up(conversation: _Conversation, address: tuple[str, int]) -> str | None:
    """Send a second, clean request, on the same connection where it is open; what is wrong with its answer."""
    request = b"GET /follow-up HTTP/1.1\r\nHost: h.example\r\n\r\n"
    if not conversation.ended:
        conversation.client.socket.settimeout(SILENCE_S)
        # The proxy may be about to close; then a new connection is as good.
        with contextlib.suppress(OSError, Incomplete):
            conversation.client.send(request)
            answer = conversation.client.response().body
            return None if answer == b"follow-up" else f"the follow-up was answered {answer!r}"
    with Client(address, timeout_s=SILENCE_S) as client:
        client.send(request)
        answer = client.response().body
        return None if answer == b"follow-up" else f"the follow-up was answered {answer!r}"


def _strictness(data: bytes) -> tuple[list[Request], list[str]]:
    """The complete requests in what one upstream connection carried, and what is not strict HTTP/1.1 about it."""
    requests, error = requests_in(data)
    problems = [f"forwarded bytes are not strict: {error}"] if isinstance(error, Malformed) else []
    for request in requests:
        if not request.start_line.endswith(b" HTTP/1.1"):
            problems.append(f"forwarded with another version: {request.start_line!r}")
        if len(request.headers("host")) != 1:
            problems.append(f"forwarded with Host {request.headers('host')}")
    return requests, problems


def _judge(case: Case, result: Result) -> None:
    """Add to `result.problems` whatever the case does not accept."""
    problems = result.problems
    outcome = result.outcome
    if not case.accepts(outcome):
        problems.append(f"expected one of {case.expect}")
    requests: list[Request] = []
    for data in result.upstream:
        complete, strictness = _strictness(data)
        requests += complete
        problems += strictness
    seen = [request for request in requests if request.target != "/follow-up"]
    if case.side == "request":
        if len(seen) > case.max_upstream:
            problems.append(f"{len(seen)} complete requests reached the backend, {case.max_upstream} may")
        if len(seen) > (forwarded := outcome.count("forward")) and outcome and outcome[-1].isdigit():
            problems.append(f"{len(seen)} complete requests reached the backend, {forwarded} were answered by it")
    everything = b"".join(result.upstream)
    # A body that comes in pieces may go on in as many chunks, so what must be in it is looked for without framing too.
    bodies = b"".join(request.body for request in requests)
    forwarded_any = "forward" in outcome
    for patterns, data, wanted, name in (
        (case.upstream_must if forwarded_any else [], everything + b"\n" + bodies, True, "backend"),
        (case.upstream_must_not, everything, False, "backend"),
        (case.client_must if forwarded_any else [], result.client + b"\n" + result.bodies, True, "client"),
        (case.client_must_not, result.client, False, "client"),
    ):
        for pattern in patterns:
            if (re.search(pattern.encode("latin-1"), data) is not None) is not wanted:
                problems.append(f"{pattern!r} {'is not' if wanted else 'is'} in what the {name} got")
    for pattern in case.upstream_reqline_must_not:
        for request in requests:
            if re.search(pattern.encode("latin-1"), request.start_line):
                problems.append(f"{pattern!r} is in the forwarded request line {request.start_line!r}")


def run(case: Case, address: tuple[str, int], port: HeldPort, cut: Cut = whole, answers: int | None = None) -> Result:
    """Run `case` against the proxy at `address`, whose only backend for it is to be at `port`.

    answers: how many are expected, where that is known; else as many as the case accepts are waited for.
    """
    result = Result()
    backend = Backend(_Backend(case, cut), case.id, port)
    try:
        conversation = _Conversation(case, address, cut, case.longest if answers is None else answers)
        try:
            conversation.listen()
            result.outcome = conversation.outcome
            result.bodies = conversation.bodies
            # What the client got for the case itself, before anything else is asked.
            result.client = bytes(conversation.client.received)
            if case.must_close and not conversation.closed():
                result.problems.append("the connection was not closed")
            if case.followup and (problem := _follow_up(conversation, address)):
                result.problems.append(problem)
        finally:
            conversation.close()
    finally:
        backend.close()
    result.upstream = [bytes(connection.received) for connection in backend.connections]
    _judge(case, result)
    return result
