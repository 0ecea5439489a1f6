"""Whatever a backend sends: its client gets that answer, or visibly none, and nobody else gets any of it."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..e2e.harness.wire import Incomplete, Reader, Request, Response, requests_in
from ..protocol.test_differential import HEADS, ONLY_HERE, REPLIES, STATUS_LINE, assemble, mutate
from . import reading
from .rig import LONGER, Peer, Rig

# What a backend would like another client to read.
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
ENDINGS = ("fin", "reset", "open")
METHODS = ("GET", "HEAD", "POST")


def truth(target: str) -> bytes:
    return b"truth about " + target.encode()


class Liar:
    """A backend that answers /lie with the bytes it was told, and everything else truthfully."""

    def __init__(self, rig: Rig) -> None:
        self.lie: list[bytes] = []
        self.ending = "open"
        self.told: Peer | None = None
        self._rig = rig
        self._taken: dict[Peer, int] = {}
        rig.backends[0].on_data = self._look

    def _look(self, peer: Peer) -> None:
        found, _ = requests_in(bytes(peer.received))
        known = self._taken.get(peer, 0)
        self._taken[peer] = len(found)
        for request in found[known:]:
            if request.target == "/lie":
                self._tell(peer)
            else:
                self._answer(peer, request)

    def _answer(self, peer: Peer, request: Request) -> None:
        body = truth(request.target)
        shown = b"" if request.method == "HEAD" else body
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), shown))

    def _tell(self, peer: Peer) -> None:
        self.told = peer
        for piece in self.lie:
            if peer.read():
                # The next request is here already: what would come now could only be meant as its answer.
                self._look(peer)
                return
            peer.send(piece)
            self._rig.engine.run_once()
        if self.ending == "fin":
            peer.finish()
        elif self.ending == "reset":
            peer.reset()


class Told:
    """One lie: what its client got, and what the next ones got."""

    def __init__(self, rig: Rig, liar: Liar, lie: bytes, cuts: list[int], ending: str, method: str) -> None:
        edges = [0, *sorted(cut for cut in cuts if cut < len(lie)), len(lie)]
        liar.lie = [lie[start:end] for start, end in itertools.pairwise(edges)]
        liar.ending = ending
        liar.told = None
        first = rig.connect()
        body = b"Content-Length: 4\r\n\r\nbody" if method == "POST" else b"\r\n"
        first.send(
            f"{method} /lie HTTP/1.1\r\nHost: h\r\n".encode() + body + b"GET /behind HTTP/1.1\r\nHost: h\r\n\r\n"
        )
        rig.until(lambda: liar.told is not None, "the request to arrive")
        rig.settle()
        # Another client, which may get the same connection to the backend.
        other = rig.connect()
        other.send(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n")
        rig.until(lambda: other.ended or other.received.endswith(truth("/other")), "the other client's answer")
        rig.settle()
        self.first, self.first_ended = bytes(first.received), first.ended
        self.other = bytes(other.received)
        rig.leave()
        rig.assert_empty()


def read(reader: Reader, method: str) -> Response | None:
    """The next final answer; None where the bytes end before it is complete."""
    try:
        return reader.response(method)
    except Incomplete:
        return None


def check(rig: Rig, liar: Liar, lie: bytes, cuts: list[int], ending: str, method: str) -> str:
    told = Told(rig, liar, lie, cuts, ending, method)
    answer = only(told.other)
    assert answer is not None, told.other
    assert (answer.status, answer.body) == (200, truth("/other")), told.other
    parts = [told.first]
    reader = Reader(lambda: parts.pop() if parts else b"")
    answer = read(reader, method)
    if answer is None:
        assert ending == "open" or told.first_ended, "a broken answer ends the connection"
        return "broken"
    assert not answer.closed, "what HTTP/1.1 clients get is delimited"
    behind = read(reader, "GET")
    if behind is not None:
        assert (behind.status, behind.body) == (200, truth("/behind")), told.first
    assert reader.pending == b"", told.first
    if answer.status == 502 and (method == "HEAD" or b'"request_id"' in answer.body):
        return "refused"
    expected = reading.answer(lie, method, ended=ending == "fin")
    if expected.word != "taken":
        assert any(re.search(shows, lie) for _, shows in ONLY_HERE), (told.first, expected)
        return "relayed"
    assert (answer.status, answer.body) == (expected.status, expected.body)
    return "relayed"


def only(data: bytes) -> Response | None:
    """The one answer that there is."""
    parts = [data]
    reader = Reader(lambda: parts.pop() if parts else b"")
    found = read(reader, "GET")
    assert reader.pending == b"", data
    return found


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("backend"), pool={"retry": {"retries": 0}})
    yield made
    made.close()


@pytest.fixture(scope="module")
def liar(rig: Rig) -> Liar:
    return Liar(rig)


MESSAGE = st.builds(lambda *parts: parts, STATUS_LINE, *HEADS)
CUTS = st.lists(st.integers(0, 300), max_size=4)
BEHIND = st.sampled_from([b"", b"", POISON, b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])


@given(st.lists(MESSAGE, min_size=1, max_size=2), BEHIND, CUTS, st.sampled_from(ENDINGS), st.sampled_from(METHODS))
@settings(max_examples=400 * LONGER, deadline=None, suppress_health_check=list(HealthCheck))
def test_built_answers(
    rig: Rig,
    liar: Liar,
    messages: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]],
    behind: bytes,
    cuts: list[int],
    ending: str,
    method: str,
) -> None:
    """Answers made of the pieces that parsers have disagreed on, one behind the other, and poison behind them."""
    check(rig, liar, b"".join(assemble(*parts) for parts in messages) + behind, cuts, ending, method)


@pytest.mark.parametrize("seed", REPLIES, ids=range(len(REPLIES)))
def test_mutated_answers(rig: Rig, liar: Liar, seed: bytes) -> None:
    """Small accidents in good answers; some are still relayed, some are not."""
    chance = random.Random(20260101 + len(seed))
    words = set()
    for _ in range(150 * LONGER):
        lie = mutate(seed, chance) + chance.choice([b"", b"", POISON])
        cuts = [chance.randrange(len(lie) + 1) for _ in range(chance.randrange(4))]
        words.add(check(rig, liar, lie, cuts, chance.choice(ENDINGS), chance.choice(METHODS)))
    assert {"relayed", "refused"} <= words


def test_the_check_sees_poison(tmp_path: Path) -> None:
    """The check can fail: another client that is told the lie."""
    rig = Rig(tmp_path, pool={"retry": {"retries": 0}})
    liar = Liar(rig)
    told = Told(rig, liar, REPLIES[0] + POISON, [], "open", "GET")
    assert b"poison" not in told.first + told.other
    parts = [REPLIES[0] + POISON]
    reader = Reader(lambda: parts.pop() if parts else b"")
    assert read(reader, "GET") is not None
    behind = read(reader, "GET")
    assert behind is not None
    assert behind.body != truth("/behind")
    rig.close()
