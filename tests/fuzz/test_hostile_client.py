"""Whatever a client sends, backends see the requests that a strict third reader sees: none split, joined or lost."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..e2e.harness.wire import Incomplete, Malformed, Reader, Request, requests_in
from ..protocol.test_differential import HEADS, ONLY_HERE, REQUEST_LINE, SEEDS, assemble, mutate
from . import reading
from .rig import LONGER, Peer, Rig

# One request is harmless by itself; what is behind it shows where the reader thinks that it ends.
NEXT = b"GET /next HTTP/1.1\r\nHost: h.example\r\n\r\n"


class Recorder:
    """A backend that writes down every complete request, read strictly, and answers each with its number."""

    def __init__(self, rig: Rig) -> None:
        self.requests: list[Request] = []
        self.refused: list[bytes] = []
        self._taken: dict[Peer, int] = {}
        for backend in rig.backends:
            backend.on_data = self._look

    def _look(self, peer: Peer) -> None:
        found, error = requests_in(bytes(peer.received))
        if isinstance(error, Malformed):
            self.refused.append(bytes(peer.received))
        known = self._taken.get(peer, 0)
        for request in found[known:]:
            self.requests.append(request)
            number = b"%d" % len(self.requests)
            body = b"" if request.method == "HEAD" else number
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), body))
        self._taken[peer] = len(found)


class Played:
    """One client's bytes, sent in pieces; what arrived, and what came back."""

    def __init__(self, rig: Rig, recorder: Recorder, data: bytes, cuts: list[int]) -> None:
        first = len(recorder.requests)
        client = rig.connect()
        self.expected = reading.requests(data)
        edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        for start, end in itertools.pairwise(edges):
            if client.send(data[start:end]) < end - start:
                break  # refused already
            rig.turn()
        rig.settle()
        rig.until(
            lambda: client.ended or client.received.count(b"HTTP/1.1 200 OK") >= len(recorder.requests) - first,
            "the answers",
        )
        answers = sum(not asked.local for asked in self.expected)
        rig.until(
            lambda: client.ended or len(recorder.requests) - first >= answers,
            f"{answers} requests to arrive, or the connection to be closed",
        )
        rig.settle()
        rig.until(
            lambda: client.ended or client.received.count(b"HTTP/1.1 200 OK") >= len(recorder.requests) - first,
            "the answers",
        )
        self.first = first
        self.arrived = recorder.requests[first:]
        self.received = bytes(client.received)
        client.reset() if len(data) % 2 else client.close()
        rig.leave()
        rig.assert_empty()


def check(rig: Rig, recorder: Recorder, data: bytes, cuts: list[int]) -> str:
    """The properties; returns what became of the bytes."""
    played = Played(rig, recorder, data, cuts)
    assert not recorder.refused, f"a backend was sent what it must refuse: {recorder.refused}"
    expected = [asked for asked in played.expected if not asked.local]
    for n, request in enumerate(played.arrived):
        if n == len(expected):
            # h11 refused this one, or waits: that must be for a reason that is written down.
            assert any(re.search(shows, data) for _, shows in ONLY_HERE), (played.arrived[n:], played.expected)
            break
        asked = expected[n]
        assert (request.method, request.target, request.body) == (asked.method, asked.target, asked.body)
    read_answers(played)
    return "all" if len(played.arrived) >= len(expected) else "refused"


def read_answers(played: Played) -> None:
    """The client got the answer to each of its requests, in order; at its end at most one of the balancer's own."""
    parts = [played.received]
    reader = Reader(lambda: parts.pop() if parts else b"")
    waiting = [(number, request.method) for number, request in enumerate(played.arrived, played.first + 1)]
    own = 0
    while not reader.at_end():
        head = reader.response_head()
        if head.status < 200:
            continue
        if head.status == 200 and waiting and not head.headers("cache-control"):
            number, method = waiting.pop(0)
            reader.response_body(head, method)
            assert method == "HEAD" or head.body == b"%d" % number
            continue
        own += 1
        try:
            reader.response_body(head)
        except Incomplete:
            assert reader.pending == b"", "an answer of our own is only without its body to HEAD"
            break
    assert not waiting, f"{waiting} were not answered: {played.received!r}"
    assert own <= 1 + sum(asked.local for asked in played.expected)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("client"), 2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def recorder(rig: Rig) -> Recorder:
    return Recorder(rig)


MESSAGE = st.builds(lambda *parts: parts, REQUEST_LINE, *HEADS)
CUTS = st.lists(st.integers(0, 300), max_size=4)


@given(st.lists(MESSAGE, min_size=1, max_size=2), CUTS, st.booleans())
@settings(max_examples=400 * LONGER, deadline=None, suppress_health_check=list(HealthCheck))
def test_built_requests(
    rig: Rig,
    recorder: Recorder,
    messages: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]],
    cuts: list[int],
    named: bool,
) -> None:
    """Requests made of the pieces that parsers have disagreed on, one behind the other."""
    data = b""
    for start, first, fields, end, body in messages:
        if named:
            fields = [(b"Host: h.example", b"\r\n"), *fields]
        data += assemble(start, first, fields, end, body)
    check(rig, recorder, data + NEXT, cuts)


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if b"Connection: close" not in seed], ids=range(4))
def test_mutated_requests(rig: Rig, recorder: Recorder, seed: bytes) -> None:
    """Small accidents in good requests; some are still taken, some are refused."""
    chance = random.Random(20260101 + len(seed))
    words = set()
    for _ in range(200 * LONGER):
        data = mutate(seed + NEXT, chance)
        words.add(check(rig, recorder, data, [chance.randrange(len(data) + 1) for _ in range(chance.randrange(4))]))
    assert words == {"all", "refused"}


def test_the_recorder_sees_a_smuggled_request(tmp_path: Path) -> None:
    """The check can fail: a backend that reads two requests where the client's bytes are one."""
    rig = Rig(tmp_path)
    recorder = Recorder(rig)
    two = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n"
    played = Played(rig, recorder, two, [])
    assert [request.target for request in played.arrived] == ["/a", "/b"]
    played.received = played.received.replace(b"\r\n\r\n2", b"\r\n\r\n1")
    with pytest.raises(AssertionError):
        read_answers(played)
    rig.close()
