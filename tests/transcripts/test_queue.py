"""Limits, and the queue of those who find no place."""

from __future__ import annotations

import pytest

from headgate.engine.stats import DRAINING
from headgate.errors import Kind

from .conftest import Converse
from .conversation import Conversation, Head, Peer, answer, get, message, ok, post, request
from .stage import ROUTABLE

ONE = {"max_requests": 1}
HELD = "HTTP/1.1 503 Service Unavailable\nretry-after: 1"


def occupied(talk: Conversation, backend: str = "a", target: str = "/first") -> tuple[Peer, Peer]:
    """A request that holds a place: (client, connection to the backend)."""
    client = talk.client()
    client >> get(target)
    up = talk[backend].accepts()
    up << f"GET {target} HTTP/1.1"
    return client, up


def waiting(talk: Conversation, data: bytes) -> Peer:
    """A request that has to wait."""
    before = talk.stage.queue["waiting"]
    client = talk.client()
    client >> data
    client.hears_nothing()
    assert talk.stage.queue["waiting"] == before + 1
    return client


def at_rest(talk: Conversation) -> None:
    """Nobody waits, no place is held."""
    talk.stage.settle()
    queue = talk.stage.queue
    assert (queue["waiting"], queue["fresh"], queue["requests"]) == (0, 0, 0)
    assert [talk.stage.places(name)[0] for name in talk.names] == [0] * len(talk.names)


def test_a_request_waits_for_a_place(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE})
    first, up = occupied(talk)
    second = waiting(talk, get("/second"))
    up >> ok(b"1")
    first << "HTTP/1.1 200 OK\n\n1"
    up << "GET /second HTTP/1.1"
    assert talk.stage.places("a") == (1, 0)
    up >> ok(b"2")
    second << "HTTP/1.1 200 OK\n\n2"
    at_rest(talk)
    entry, later = talk.stage.log()
    assert "queued_s" not in entry
    assert 0 <= later["queued_s"] <= later["total_s"]


def test_first_come_first_served(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE})
    client, up = occupied(talk)
    clients = [waiting(talk, get(f"/{n}")) for n in range(5)]
    up >> ok()
    client << "HTTP/1.1 200 OK"
    for n, client in enumerate(clients):
        up << f"GET /{n} HTTP/1.1"
        up.hears_nothing()
        up >> ok(b"%d" % n)
        client << f"HTTP/1.1 200 OK\n\n{n}"
    at_rest(talk)


def test_who_comes_now_does_not_overtake(conversation: Converse) -> None:
    """The place is free, but whoever it is for has not been told yet: both events are in one batch."""
    talk = conversation(limits={"a": ONE})
    first, up = occupied(talk)
    second = waiting(talk, get("/second"))
    # A kept connection of a client that will ask in the same batch of events in which the place comes free.
    third = talk.client()
    third.hears_nothing()
    up >> ok()
    third >> get("/third")
    first << "HTTP/1.1 200 OK"
    up << "GET /second HTTP/1.1"
    up >> ok(b"2")
    second << "HTTP/1.1 200 OK\n\n2"
    up << "GET /third HTTP/1.1"
    up >> ok(b"3")
    third << "HTTP/1.1 200 OK\n\n3"
    at_rest(talk)


def test_a_full_backend_is_not_picked(conversation: Converse) -> None:
    talk = conversation("ab", limits={"a": ONE, "b": {"max_requests": 2}})
    first, up = occupied(talk)
    others = [occupied(talk, "b", f"/{n}") for n in range(2)]
    last = waiting(talk, get("/last"))
    others[1][1] >> ok(b"b")
    others[1][0] << "HTTP/1.1 200 OK\n\nb"
    others[1][1] << "GET /last HTTP/1.1"
    others[1][1] >> ok(b"last")
    last << "HTTP/1.1 200 OK\n\nlast"
    up >> ok(b"a")
    first << "HTTP/1.1 200 OK\n\na"
    first >> get("/again")
    up << "GET /again HTTP/1.1"  # it has a place again, and is picked first
    up >> ok()
    first << "HTTP/1.1 200 OK"
    others[0][1] >> ok()
    others[0][0] << "HTTP/1.1 200 OK"
    at_rest(talk)
    assert talk.stage.worker["strategy_errors"] == 0


def test_a_full_queue(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE}, queue={"size": 2})
    first, up = occupied(talk)
    clients = [waiting(talk, get(f"/{n}")) for n in range(2)]
    refused = talk.client()
    refused >> get("/too-many")
    refused << Head(HELD)
    assert refused.last is not None
    assert talk.stage.ended(Kind.OVERLOADED) == 1
    assert talk.stage.queue["overloaded"] == 1
    for n, client in enumerate([first, *clients]):
        up >> ok(b"%d" % n)
        client << f"HTTP/1.1 200 OK\n\n{n}"
        if n < 2:
            up << f"GET /{n} HTTP/1.1"
    at_rest(talk)


def test_no_queue(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE}, queue=False)
    occupied(talk)
    client = talk.client()
    client >> get()
    client << Head(HELD)
    assert talk.stage.queue["queued"] == 0


def test_waiting_has_an_end(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE}, queue={"timeout": "100ms"})
    first, up = occupied(talk)
    second = talk.client()
    second >> get("/second")
    second << Head(HELD)
    assert talk.stage.ended(Kind.QUEUE_TIMEOUT) == 1
    up >> ok()
    first << "HTTP/1.1 200 OK"
    up.hears_nothing()
    at_rest(talk)
    assert talk.stage.queue["queue_timeouts"] == 1
    late = talk.stage.log()[0]
    assert (late["status"], late["error"], late["backend"], late["attempts"]) == (503, "queue_timeout", None, 0)
    assert late["queued_s"] >= 0.1


def test_the_request_timeout_runs_while_it_waits(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE}, route={"timeouts": {"request": "100ms"}})
    first, up = occupied(talk)
    second = talk.client()
    second >> get("/second")
    # Both have so long; the first holds its place to the end of it.
    first << Head("HTTP/1.1 504 Gateway Timeout")
    heard = second
    heard << Head("HTTP/1.1 504 Gateway Timeout")
    up.is_gone()
    at_rest(talk)
    assert talk.stage.ended(Kind.REQUEST_TIMEOUT) == 2


@pytest.mark.parametrize("goes", ["leaves", "resets", "finishes"])
def test_a_client_that_leaves_makes_room(conversation: Converse, goes: str) -> None:
    talk = conversation(limits={"a": ONE}, queue={"size": 1})
    first, up = occupied(talk)
    gone = waiting(talk, get("/gone"))
    getattr(gone, goes)()
    talk.stage.settle()
    assert talk.stage.queue["waiting"] == 0
    next_one = waiting(talk, get("/next"))
    up >> ok()
    first << "HTTP/1.1 200 OK"
    up << "GET /next HTTP/1.1"
    up >> ok(b"next")
    next_one << "HTTP/1.1 200 OK\n\nnext"
    at_rest(talk)
    assert talk.stage.ended(Kind.CLIENT_GONE) == 1
    assert talk.stage.queue["left"] == 1


def test_a_body_is_not_read_while_it_waits(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE})
    first, up = occupied(talk)
    second = talk.client()
    size = 8 << 20
    second >> message(f"POST /up HTTP/1.1\nHost: h.example\nContent-Length: {size}")
    second.hears_nothing()
    said = second.pours(b"x" * size)
    assert said < size
    assert talk.stage.engine.buffers_in_use <= 4 * 65536
    up >> ok()
    first << "HTTP/1.1 200 OK"
    up << Head(f"POST /up HTTP/1.1\ncontent-length: {size}")
    for _ in range(said >> 16):
        up << b"x" * 65536
    if rest := said % 65536:
        up << b"x" * rest
    second.leaves()
    up.is_gone()
    at_rest(talk)


def test_a_body_in_hand_goes_along(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE})
    first, up = occupied(talk)
    second = waiting(talk, post("/up", b"hello"))
    up >> ok()
    first << "HTTP/1.1 200 OK"
    fresh = talk["a"]
    up << "POST /up HTTP/1.1\n\nhello"
    up >> ok(b"thanks")
    second << "HTTP/1.1 200 OK\n\nthanks"
    fresh.is_left_alone()
    at_rest(talk)


def test_continue_is_not_said_while_it_waits(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE}, listener={"timeouts": {"client_body": "100ms"}}, queue={"timeout": "5s"})
    first, up = occupied(talk)
    second = waiting(talk, message("PUT /x HTTP/1.1\nHost: h\nContent-Length: 5\nExpect: 100-continue"))
    talk.stage.passes(0.3)  # nor is it late with its body
    second.hears_nothing()
    up >> ok()
    first << "HTTP/1.1 200 OK"
    up << Head("PUT /x HTTP/1.1\nexpect: 100-continue")
    up >> b"HTTP/1.1 100 Continue\r\n\r\n"
    second << Head("HTTP/1.1 100 Continue")
    second >> b"hello"
    up << b"hello"
    up >> ok(b"thanks")
    second << "HTTP/1.1 200 OK\n\nthanks"
    at_rest(talk)


def test_a_failed_attempt_waits_for_those_not_tried(conversation: Converse) -> None:
    talk = conversation("ab", limits={"b": ONE})
    holder, held = occupied(talk, "a", "/a")
    held >> ok()
    holder << "HTTP/1.1 200 OK"
    talk["a"].refuses()
    held.leaves()
    talk.stage.settle()
    first, up = occupied(talk, "b", "/first")
    second = waiting(talk, post("/second", b"body"))
    # One that comes later and could be served by anybody is not held up by it, nor holds it up.
    up >> ok(b"1")
    first << "HTTP/1.1 200 OK\n\n1"
    up << "POST /second HTTP/1.1\n\nbody"
    up >> ok(b"2")
    second << "HTTP/1.1 200 OK\n\n2"
    at_rest(talk)
    assert [entry["attempts"] for entry in talk.stage.log()] == [1, 2, 2]


def test_an_answer_is_better_than_waiting(conversation: Converse) -> None:
    """503 asks for another try, but the others are full: what the backend said is relayed."""
    talk = conversation("ab", limits={"a": ONE, "b": ONE})
    _, up_a = occupied(talk, "a", "/a")
    occupied(talk, "b", "/b")
    second = waiting(talk, get("/second"))
    up_a >> ok()
    up_a << "GET /second HTTP/1.1"
    up_a >> answer("503 Service Unavailable", b"tired")
    second << "HTTP/1.1 503 Service Unavailable\n!retry-after\n\ntired"


def sticky_cookie(talk: Conversation, backend: str) -> str:
    client, up = occupied(talk, backend)
    up >> ok()
    client << Head("HTTP/1.1 200 OK")
    assert client.last is not None
    (line,) = client.last.headers("set-cookie")
    client.leaves()
    up.leaves()
    talk.stage.settle()
    return line.partition(";")[0]


def test_a_bound_session_waits_for_its_backend(conversation: Converse) -> None:
    talk = conversation("ab", limits={"a": ONE}, sticky="cookie")
    cookie = sticky_cookie(talk, "a")
    first, up = occupied(talk)
    bound = waiting(talk, get("/bound", f"Cookie: {cookie}"))
    # Who is not bound goes to the other, and does not wait behind it.
    other, up_b = occupied(talk, "b", "/other")
    up_b >> ok()
    other << Head("HTTP/1.1 200 OK")
    up >> ok()
    first << Head("HTTP/1.1 200 OK")
    up << "GET /bound HTTP/1.1"
    up >> ok(b"mine")
    bound << "HTTP/1.1 200 OK\n!set-cookie\n\nmine"
    at_rest(talk)


def test_a_bound_session_does_not_wait_for_ever(conversation: Converse) -> None:
    """Another backend is better than an error, and the cookie says so from then on."""
    talk = conversation("ab", limits={"a": ONE}, sticky="cookie", queue={"timeout": "100ms"})
    cookie = sticky_cookie(talk, "a")
    occupied(talk)
    bound = talk.client()
    bound >> get("/bound", f"Cookie: {cookie}")
    up = talk["b"].accepts()
    up << "GET /bound HTTP/1.1"
    up >> ok(b"other")
    bound << Head("HTTP/1.1 200 OK")
    assert bound.last is not None
    assert len(bound.last.headers("set-cookie")) == 1


def test_the_longest_waiting_of_all_lines_is_next(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE}, sticky="cookie")
    cookie = sticky_cookie(talk, "a")
    client, up = occupied(talk)
    order = ["/0", "/bound", "/2", "/bound2"]
    clients = [waiting(talk, get(path, *([f"Cookie: {cookie}"] if "bound" in path else []))) for path in order]
    up >> ok()
    client << Head("HTTP/1.1 200 OK")
    for path, each in zip(order, clients, strict=True):
        up << f"GET {path} HTTP/1.1"
        up >> ok()
        each << Head("HTTP/1.1 200 OK")
    at_rest(talk)


def test_a_drained_backend_still_serves_those_bound_to_it(conversation: Converse) -> None:
    talk = conversation("ab", limits={"a": ONE, "b": ONE}, sticky="cookie")
    cookie = sticky_cookie(talk, "a")
    first, up = occupied(talk)
    _, up_b = occupied(talk, "b", "/b")
    free = waiting(talk, get("/free"))
    bound = waiting(talk, get("/bound", f"Cookie: {cookie}"))
    talk.stage.set_state("a", ROUTABLE | DRAINING)
    up >> ok()
    first << Head("HTTP/1.1 200 OK")
    up << "GET /bound HTTP/1.1"  # the one before it is a new session, and has to wait for b
    up >> ok()
    bound << Head("HTTP/1.1 200 OK")
    up_b >> ok()
    up_b << "GET /free HTTP/1.1"
    up_b >> ok()
    free << Head("HTTP/1.1 200 OK")


def test_a_backend_that_goes_away_while_they_wait(conversation: Converse) -> None:
    """With nothing left to wait for they hear that at once."""
    talk = conversation(limits={"a": ONE})
    first, up = occupied(talk)
    clients = [waiting(talk, get(f"/{n}")) for n in range(3)]
    talk.stage.set_state("a", 0)
    for client in clients:
        client << Head(HELD)
    assert talk.stage.ended(Kind.NO_BACKEND) == 3
    up >> ok()
    first << "HTTP/1.1 200 OK"
    at_rest(talk)


def test_a_backend_that_comes_back_takes_those_who_wait(conversation: Converse) -> None:
    talk = conversation("ab", limits={"a": ONE, "b": ONE})
    talk.stage.set_state("b", 0)
    occupied(talk)
    second = waiting(talk, get("/second"))
    talk.stage.set_state("b", ROUTABLE)
    up = talk["b"].accepts()
    up << "GET /second HTTP/1.1"
    up >> ok()
    second << "HTTP/1.1 200 OK"


def test_a_bound_session_whose_backend_is_gone_goes_elsewhere(conversation: Converse) -> None:
    talk = conversation("ab", limits={"a": ONE}, sticky="cookie")
    cookie = sticky_cookie(talk, "a")
    occupied(talk)
    bound = waiting(talk, get("/bound", f"Cookie: {cookie}"))
    talk.stage.set_state("a", 0)
    up = talk["b"].accepts()
    up << "GET /bound HTTP/1.1"
    up >> ok()
    bound << Head("HTTP/1.1 200 OK")


def test_the_whole_pool_has_a_limit(conversation: Converse) -> None:
    talk = conversation("ab", pool_limits={"max_requests": 2})
    first, up = occupied(talk)
    _, up2 = occupied(talk, "a", "/2")
    third = waiting(talk, get("/third"))
    assert talk.stage.queue["requests"] == 2
    up >> ok()
    first << "HTTP/1.1 200 OK"
    up << "GET /third HTTP/1.1"
    up >> ok()
    third << "HTTP/1.1 200 OK"
    up2 >> ok()
    at_rest(talk)


def test_connections_are_limited_too(conversation: Converse) -> None:
    talk = conversation(limits={"a": {"max_connections": 1}})
    first, up = occupied(talk)
    second = waiting(talk, get("/second"))
    up >> ok(b"", "Connection: close")
    first << "HTTP/1.1 200 OK"
    up.is_closed()
    up.leaves()
    again = talk["a"].accepts()
    again << "GET /second HTTP/1.1"
    assert talk.stage.places("a") == (0, 1)
    again >> ok(b"2")
    second << "HTTP/1.1 200 OK\n\n2"
    # It is kept, and so it keeps its place; the next request uses it.
    assert talk.stage.places("a") == (0, 1)
    second >> get("/third")
    again << "GET /third HTTP/1.1"
    again >> ok()
    second << "HTTP/1.1 200 OK"
    again.leaves()
    talk.stage.settle()
    assert talk.stage.places("a") == (0, 0)
    assert talk.stage.totals("a").connections == 0


def test_a_kept_connection_makes_way_for_one_that_is_needed(conversation: Converse) -> None:
    """An upgrade takes a fresh connection; the only place is held by one that nobody uses."""
    talk = conversation(limits={"a": {"max_connections": 1}})
    first, up = occupied(talk)
    up >> ok()
    first << "HTTP/1.1 200 OK"
    client = talk.client()
    client >> message("GET /ws HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: x")
    up.is_closed()
    fresh = talk["a"].accepts()
    fresh << Head("GET /ws HTTP/1.1")
    assert talk.stage.places("a") == (0, 1)
    fresh >> message("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket")
    client << Head("HTTP/1.1 101 Switching Protocols")
    # The tunnel holds its place until it ends.
    second = waiting(talk, get("/second"))
    client.leaves()
    fresh.is_gone()
    fresh.leaves()
    last = talk["a"].accepts()
    last << "GET /second HTTP/1.1"
    last >> ok()
    second << "HTTP/1.1 200 OK"


def test_a_stale_connection_is_replaced_within_the_limit(conversation: Converse) -> None:
    talk = conversation(limits={"a": {"max_connections": 1, "max_requests": 1}})
    first, up = occupied(talk)
    up >> ok()
    first << "HTTP/1.1 200 OK"
    up.leaves()
    first >> get("/again")
    fresh = talk["a"].accepts()
    fresh << "GET /again HTTP/1.1"
    assert talk.stage.places("a") == (1, 1)
    fresh >> ok()
    first << "HTTP/1.1 200 OK"
    at_rest(talk)


def test_a_refused_connection_gives_its_places_back(conversation: Converse) -> None:
    talk = conversation("ab", limits={"a": {"max_connections": 1, "max_requests": 1}})
    talk["a"].refuses()
    for _ in range(3):
        client = talk.client()
        client >> post("/x", b"x")
        up = talk["b"].accepts()
        up << "POST /x HTTP/1.1\n\nx"
        up >> ok(b"", "Connection: close")
        client << "HTTP/1.1 200 OK"
        assert talk.stage.places("a") == (0, 0)


def test_other_limits_while_requests_wait(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE})
    first, up = occupied(talk)
    clients = [waiting(talk, get(f"/{n}")) for n in range(3)]
    talk.stage.reconfigure(limits={"a": {"max_requests": 3}})
    ups = []
    for n in range(2):
        ups.append(talk["a"].accepts())
        ups[-1] << f"GET /{n} HTTP/1.1"
    talk["a"].is_left_alone()
    assert talk.stage.places("a") == (3, 0)
    # Less than are in flight: none is cut off, and none begun until there are fewer.
    talk.stage.reconfigure(limits={"a": ONE})
    up >> ok()
    first << "HTTP/1.1 200 OK"
    ups[0] >> ok()
    clients[0] << "HTTP/1.1 200 OK"
    clients[2].hears_nothing()
    ups[1] >> ok()
    clients[1] << "HTTP/1.1 200 OK"
    ups[1] << "GET /2 HTTP/1.1"
    # No limit any more: who waits goes on, and nothing is counted.
    waits = [waiting(talk, get(f"/w{n}")) for n in range(2)]
    talk.stage.reconfigure(limits={})
    for peer, n in zip((ups[0], up), range(2), strict=True):
        peer << f"GET /w{n} HTTP/1.1"
        peer >> ok()
        waits[n] << "HTTP/1.1 200 OK"
    assert talk.stage.places("a") == (0, 0)
    # And one again, with a request in flight that began without: it counts.
    talk.stage.reconfigure(limits={"a": ONE})
    assert talk.stage.places("a") == (1, 0)
    last = waiting(talk, get("/last"))
    ups[1] >> ok()
    clients[2] << "HTTP/1.1 200 OK"
    ups[1] << "GET /last HTTP/1.1"
    ups[1] >> ok()
    last << "HTTP/1.1 200 OK"
    at_rest(talk)


def test_a_pipelined_request_waits_too(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE})
    first, up = occupied(talk)
    client = waiting(talk, get("/1") + get("/2"))
    up >> ok()
    first << "HTTP/1.1 200 OK"
    for n in (1, 2):
        up << f"GET /{n} HTTP/1.1"
        up >> ok(b"%d" % n)
        client << f"HTTP/1.1 200 OK\n\n{n}"
    at_rest(talk)


def test_the_end_of_the_engine_finds_requests_waiting(conversation: Converse) -> None:
    talk = conversation(limits={"a": ONE})
    occupied(talk)
    clients = [waiting(talk, request("GET", f"/{n}")) for n in range(3)]
    talk.stage.engine.close()
    assert talk.stage.queue["waiting"] == 0
    assert talk.stage.places("a") == (0, 0)
    for client in clients:
        client << Head("HTTP/1.1 503 Service Unavailable\nconnection: close")


def test_adaptive_concurrency_holds_back(conversation: Converse) -> None:
    """The engine asks the policy once per window and obeys; what a window tells is in the unit tests of gradient2."""
    talk = conversation(pool_limits={"adaptive": True})
    told: list[tuple[float, int]] = []

    class Fixed:
        limit = 2.0

        def update(self, seconds: float, in_flight: int) -> float:
            told.append((seconds, in_flight))
            self.limit = 1.0
            return self.limit

    talk.stage.pool.pool.limiter = Fixed()
    first, up = occupied(talk)
    second, up2 = occupied(talk, "a", "/2")
    third = waiting(talk, get("/third"))
    assert talk.stage.queue["limit"] == 2
    up >> ok()
    first << "HTTP/1.1 200 OK"
    up << "GET /third HTTP/1.1"
    up >> ok()
    third << "HTTP/1.1 200 OK"
    talk.stage.passes(1.1)
    for _ in range(8):  # with the two before, ten samples in more than a second: a window
        third >> get("/n")
        up << "GET /n HTTP/1.1"
        up >> ok()
        third << "HTTP/1.1 200 OK"
    ((seconds, in_flight),) = told
    assert (0 < seconds < 5, in_flight) == (True, 2)
    assert talk.stage.queue["limit"] == 1
    late = waiting(talk, get("/late"))
    up2 >> ok()
    second << "HTTP/1.1 200 OK"
    up2 << "GET /late HTTP/1.1"
    up2 >> ok()
    late << "HTTP/1.1 200 OK"
    at_rest(talk)
