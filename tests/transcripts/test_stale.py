"""Kept connections that the backend closes, just before or just as they are used (RFC 9112 section 9.3.1)."""

from __future__ import annotations

import pytest

from headgate.errors import Kind

from .conftest import Converse
from .conversation import Conversation, Head, Peer, get, message, ok, post


def kept(talk: Conversation) -> tuple[Peer, Peer]:
    """A client, and a backend connection that has served one request and is kept."""
    client = talk.client()
    client >> get("/first")
    up = talk["a"].accepts()
    up << "GET /first HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert talk.stage.totals("a").idle == 1
    return client, up


def learned_idle_s(talk: Conversation) -> float:
    """After how many idle seconds "a" is taken to close a connection. What a test has waited is less, on a machine that
    stood still meanwhile."""
    return next(one for one in talk.stage.pool.backends if one.name == "a").learned_idle_s


def assert_nobody_is_blamed(talk: Conversation) -> None:
    assert talk.stage.totals("a").failed == 0
    assert talk.stage.reports == []


@pytest.mark.parametrize("how", ["leaves", "resets"])
def test_get_is_repeated_once_on_a_fresh_connection_to_the_same_backend(conversation: Converse, how: str) -> None:
    talk = conversation("ab", retry={"retries": 0})
    client, up = kept(talk)
    client >> get("/second")
    up << "GET /second HTTP/1.1"
    up.leaves() if how == "leaves" else up.resets()
    fresh = talk["a"].accepts()
    fresh << "GET /second HTTP/1.1"
    fresh >> ok(b"second")
    client << "HTTP/1.1 200 OK\n\nsecond"
    talk["b"].is_left_alone()
    assert_nobody_is_blamed(talk)
    assert talk.stage.worker["retries"] == 0


def test_what_is_in_flight_as_kept_connections_are_dropped_is_not_kept_either(conversation: Converse) -> None:
    """Its address may be another backend's by now, its certificate one that is not to be shown any more."""
    talk = conversation()
    client, up = kept(talk)
    client >> get("/second")
    up << "GET /second HTTP/1.1"
    next(one for one in talk.stage.pool.backends if one.name == "a").close_idle()
    up >> ok(b"second")
    client << "HTTP/1.1 200 OK\n\nsecond"
    assert talk.stage.totals("a").idle == 0
    client >> get("/third")
    fresh = talk["a"].accepts()
    fresh << "GET /third HTTP/1.1"
    fresh >> ok(b"third")
    client << "HTTP/1.1 200 OK\n\nthird"
    assert talk.stage.totals("a").idle == 1
    assert_nobody_is_blamed(talk)


def test_a_body_is_repeated_with_its_request(conversation: Converse) -> None:
    talk = conversation()
    client, up = kept(talk)
    client >> message("PUT /second HTTP/1.1\nHost: h\nContent-Length: 5") + b"hello"
    up << "PUT /second HTTP/1.1\n\nhello"
    up.leaves()
    fresh = talk["a"].accepts()
    fresh << "PUT /second HTTP/1.1\n\nhello"
    fresh >> ok(b"second")
    client << "HTTP/1.1 200 OK\n\nsecond"
    assert_nobody_is_blamed(talk)


def test_the_fresh_connection_fails_as_any_other(conversation: Converse) -> None:
    talk = conversation("ab")
    client, up = kept(talk)
    client >> get("/second")
    up << "GET /second HTTP/1.1"
    up.leaves()
    fresh = talk["a"].accepts()
    fresh << "GET /second HTTP/1.1"
    fresh.leaves()  # that was no race
    other = talk["b"].accepts()
    other << "GET /second HTTP/1.1"
    other >> ok(b"second")
    client << "HTTP/1.1 200 OK\n\nsecond"
    assert talk.stage.totals("a").failed == 1


def test_a_backend_that_is_gone_altogether(conversation: Converse) -> None:
    talk = conversation("ab", retry={"retries": 0})
    client, up = kept(talk)
    client >> get("/second")
    up << "GET /second HTTP/1.1"
    talk["a"].refuses()
    up.leaves()
    other = talk["b"].accepts()
    other << "GET /second HTTP/1.1"
    other >> ok(b"second")
    client << "HTTP/1.1 200 OK\n\nsecond"


def test_an_answer_that_began_is_no_race(conversation: Converse) -> None:
    talk = conversation("ab", retry={"retries": 0})
    client, up = kept(talk)
    client >> get("/second")
    up << "GET /second HTTP/1.1"
    up >> b"HTTP/1.1 2"
    up.leaves()
    client << Head("HTTP/1.1 502 Bad Gateway")
    talk["a"].is_left_alone()
    assert talk.stage.totals("a").failed == 1


@pytest.mark.parametrize("say", [get("/second"), post("/second", b"hello")])
def test_a_connection_whose_end_was_seen_is_not_used(conversation: Converse, say: bytes) -> None:
    talk = conversation()
    client, up = kept(talk)
    up.leaves()
    talk.stage.settle()
    assert talk.stage.totals("a").idle == 0
    client >> say
    fresh = talk["a"].accepts()
    fresh << Head(f"{say.split()[0].decode()} /second HTTP/1.1")
    fresh >> ok(b"second")
    client << "HTTP/1.1 200 OK\n\nsecond"
    assert_nobody_is_blamed(talk)


@pytest.mark.parametrize("how", ["leaves", "resets", "says something"])
def test_post_on_a_connection_whose_end_is_still_to_be_seen(conversation: Converse, how: str) -> None:
    """The request is in the engine's hands before the backend's FIN is, though that has arrived: look first."""
    talk = conversation()
    client, up = kept(talk)
    client >> post("/second", b"hello")
    if how == "leaves":
        up.leaves()
    elif how == "resets":
        up.resets()
    else:
        up >> ok(b"nobody asked for this")
    fresh = talk["a"].accepts()
    fresh << "POST /second HTTP/1.1\n\nhello"
    fresh >> ok(b"second")
    client << "HTTP/1.1 200 OK\n\nsecond"
    assert_nobody_is_blamed(talk)
    assert talk.stage.totals("a").idle == 1
    client >> get("/third")
    fresh << "GET /third HTTP/1.1"
    fresh >> ok()
    client << "HTTP/1.1 200 OK"
    assert talk.stage.totals("a").idle == 1


def test_looking_past_a_dead_connection_loses_no_living_one(conversation: Converse) -> None:
    talk = conversation()
    first, second = talk.client(), talk.client()
    first >> get("/1")
    living = talk["a"].accepts()
    second >> get("/2")
    dead = talk["a"].accepts()
    living << "GET /1 HTTP/1.1"
    living >> ok()
    first << "HTTP/1.1 200 OK"
    dead << "GET /2 HTTP/1.1"
    dead >> ok()
    second << "HTTP/1.1 200 OK"
    first >> post("/3", b"hello")
    dead.leaves()  # the one that was used last, and would be used first
    living << "POST /3 HTTP/1.1\n\nhello"
    living >> ok()
    first << "HTTP/1.1 200 OK"
    assert talk.stage.totals("a").idle == 1
    assert talk.stage.totals("a").connects == 2


@pytest.mark.parametrize("how", ["leaves", "resets"])
def test_post_is_never_sent_twice(conversation: Converse, how: str) -> None:
    talk = conversation("ab")
    client, up = kept(talk)
    client >> post("/second", b"hello")
    up << "POST /second HTTP/1.1\n\nhello"
    up.leaves() if how == "leaves" else up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    talk["a"].is_left_alone()
    talk["b"].is_left_alone()
    assert talk.stage.ended(Kind.STALE) == 1
    assert_nobody_is_blamed(talk)


def test_the_idle_time_of_a_backend_is_learned(conversation: Converse) -> None:
    talk = conversation()
    client, up = kept(talk)
    talk.stage.passes(0.2)
    up.leaves()  # so 0.2 s is what this backend keeps its connections for
    talk.stage.settle()
    assert learned_idle_s(talk) >= 0.2
    client >> get("/second")
    second = talk["a"].accepts()
    second << "GET /second HTTP/1.1"
    second >> ok()
    client << "HTTP/1.1 200 OK"
    # Beyond half of it a POST takes no chances, and beyond nine tenths nobody does.
    talk.stage.passes(0.55 * learned_idle_s(talk))
    client >> post("/third", b"hello")
    third = talk["a"].accepts()
    third << "POST /third HTTP/1.1\n\nhello"
    third >> ok()
    client << "HTTP/1.1 200 OK"
    talk.stage.passes(learned_idle_s(talk))  # which is more by now, where the second was still open beyond it
    client >> get("/fourth")
    fourth = talk["a"].accepts()
    fourth << "GET /fourth HTTP/1.1"
    fourth >> ok()
    client << "HTTP/1.1 200 OK"
    second.hears_nothing()
    third.hears_nothing()


def test_what_was_learned_from_an_exception_is_corrected(conversation: Converse) -> None:
    """A restart closes all connections, whatever their age. Others that live on for longer show what it was."""
    talk = conversation()
    client, up = kept(talk)
    talk.stage.passes(0.15)
    up.leaves()
    talk.stage.settle()
    first = learned_idle_s(talk)
    client >> get("/second")
    second = talk["a"].accepts()
    second << "GET /second HTTP/1.1"
    second >> ok()
    client << "HTTP/1.1 200 OK"
    talk.stage.passes(20 * first)  # and the second is open still
    client >> get("/third")
    third = talk["a"].accepts()
    third << "GET /third HTTP/1.1"
    third >> ok()
    client << "HTTP/1.1 200 OK"
    assert learned_idle_s(talk) >= first + 19 * first / 8 - 1e-6  # an eighth of the way, each time


def test_a_close_right_after_an_answer_teaches_nothing(conversation: Converse) -> None:
    for _ in range(50):
        talk = conversation()
        began = talk.stage.engine.now
        client, up = kept(talk)
        talk.stage.passes(0.03)
        up.leaves()
        talk.stage.settle()
        if talk.stage.engine.now - began < 0.1:
            break  # otherwise the machine held it up, and it was not right after the answer
    assert learned_idle_s(talk) == 0
    client >> get("/second")
    second = talk["a"].accepts()
    second << "GET /second HTTP/1.1"
    second >> ok()
    client << "HTTP/1.1 200 OK"
    talk.stage.passes(0.1)
    client >> get("/third")
    second << "GET /third HTTP/1.1"
    second >> ok()
    client << "HTTP/1.1 200 OK"


def test_a_young_connection_serves_a_post(conversation: Converse) -> None:
    talk = conversation()
    client, up = kept(talk)
    client >> post("/second", b"hello")
    up << "POST /second HTTP/1.1\n\nhello"
    up >> ok(b"second")
    client << "HTTP/1.1 200 OK\n\nsecond"


def test_the_last_used_connection_is_used_first(conversation: Converse) -> None:
    """So the others grow old and are closed, instead of all of them being used just often enough."""
    talk = conversation()
    clients = [talk.client() for _ in range(3)]
    ups = []
    for client in clients:
        client >> get()
        ups.append(talk["a"].accepts())
        ups[-1] << "GET / HTTP/1.1"
    for client, up in zip(clients, ups, strict=True):
        up >> ok()
        client << "HTTP/1.1 200 OK"
    for _ in range(3):
        clients[0] >> get("/again")
        ups[2] << "GET /again HTTP/1.1"
        ups[2] >> ok()
        clients[0] << "HTTP/1.1 200 OK"
    ups[0].hears_nothing()


def test_an_unused_connection_is_closed_in_time(conversation: Converse) -> None:
    talk = conversation(timeouts={"keepalive": "50ms"})
    client = talk.client()
    client >> get("/first")
    up = talk["a"].accepts()
    up << "GET /first HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    up.is_closed()
    assert talk.stage.totals("a").idle == 0
    assert_nobody_is_blamed(talk)


def test_a_connection_that_says_close_is_not_kept(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/first")
    up = talk["a"].accepts()
    up << "GET /first HTTP/1.1"
    up >> ok(b"", "Connection: close")
    client << "HTTP/1.1 200 OK\n!connection"
    up.is_closed()
