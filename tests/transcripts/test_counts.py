"""What is counted of a conversation: by pool, route, listener and backend; retries, and those not made, by reason."""

from __future__ import annotations

import pytest

from headgate.engine.stats import NOT_RETRIED, ListenerTotals, PoolTotals, RouteTotals
from headgate.errors import Kind

from .conftest import Converse
from .conversation import Conversation, Head, answer, get, ok, post, request


def pool(talk: Conversation) -> PoolTotals:
    return talk.stage.segment.pool_totals(0)


def route(talk: Conversation) -> RouteTotals:
    return talk.stage.segment.route_totals(0)


def listener(talk: Conversation) -> ListenerTotals:
    return talk.stage.segment.listener_totals(0)


def retried(talk: Conversation) -> dict[str, int]:
    return {Kind(kind).word: count for kind, count in enumerate(pool(talk)["retried"]) if count}


def not_retried(talk: Conversation) -> dict[str, int]:
    return {why: count for why, count in zip(NOT_RETRIED, pool(talk)["not_retried"], strict=True) if count}


def test_a_plain_request_is_counted_everywhere_once(conversation: Converse) -> None:
    talk = conversation("a")
    client = talk.client()
    client >> get("/")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> answer("404 Not Found", b"nothing here")
    client << Head("HTTP/1.1 404 Not Found")
    once = [0, 0, 0, 0, 1, 0]
    assert pool(talk)["status"] == route(talk)["status"] == listener(talk)["status"] == once
    assert (listener(talk)["accepted"], listener(talk)["refused"]) == (1, 0)
    assert route(talk)["latency"].count == 1
    assert talk.stage.segment.backend_first_byte_latency(talk.stage.slots["a"]).count == 1
    assert retried(talk) == not_retried(talk) == {}
    worker = talk.stage.worker
    assert worker["status"] == once
    assert worker["batches"] > 0
    assert 0 < worker["busy_ns"] < 10_000_000_000


def test_what_reaches_no_route_is_the_listeners(conversation: Converse) -> None:
    talk = conversation("a")
    bad = talk.client()
    bad >> b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n"
    bad << Head("HTTP/1.1 400 Bad Request")
    assert listener(talk)["status"] == [0, 0, 0, 0, 1, 0]
    assert pool(talk)["status"] == route(talk)["status"] == [0] * 6


def test_retries_by_what_became_of_the_attempt_before(conversation: Converse) -> None:
    talk = conversation("abc", retry={"retries": 2})
    talk["a"].refuses()
    client = talk.client()
    client >> get("/")
    second = talk["b"].accepts()
    second << "GET / HTTP/1.1"
    second.resets()
    third = talk["c"].accepts()
    third << "GET / HTTP/1.1"
    third >> ok(b"c")
    client << "HTTP/1.1 200 OK\n\nc"
    assert retried(talk) == {"connect_refused": 1, "reset": 1}
    assert sum(pool(talk)["retried"]) == talk.stage.worker["retries"]
    assert not_retried(talk) == {}


def test_a_status_that_is_tried_elsewhere(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> get("/")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> answer("503 Service Unavailable", b"no")
    other = talk["b"].accepts()
    other << "GET / HTTP/1.1"
    other >> answer("503 Service Unavailable", b"no")
    client << Head("HTTP/1.1 503 Service Unavailable")
    assert retried(talk) == {"bad_status": 1}
    assert not_retried(talk) in ({"retries": 1}, {"no_backend": 1})
    # Both attempts had a first byte.
    for name in "ab":
        assert talk.stage.segment.backend_first_byte_latency(talk.stage.slots[name]).count == 1


def test_what_is_not_idempotent(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> post("/", b"hello")
    up = talk["a"].accepts()
    up << "POST / HTTP/1.1\n\nhello"
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    assert (retried(talk), not_retried(talk)) == ({}, {"method": 1})


@pytest.mark.parametrize(
    ("retry", "why"), [({"budget": 0.5, "reserve": 0}, "budget"), ({"retries": 1}, "")], ids=["spent", "paid"]
)
def test_a_budget_that_is_spent(conversation: Converse, retry: dict[str, float], why: str) -> None:
    talk = conversation("ab", retry=retry)
    client = talk.client()
    client >> get("/")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up.resets()
    if not why:
        talk["b"].accepts() >> ok()
    client << Head("HTTP/1.1 502 Bad Gateway" if why else "HTTP/1.1 200 OK")
    assert not_retried(talk) == ({why: 1} if why else {})


def test_when_nobody_is_left(conversation: Converse) -> None:
    talk = conversation("ab")
    talk["a"].refuses()
    talk["b"].refuses()
    client = talk.client()
    client >> get("/")
    client << Head("HTTP/1.1 502 Bad Gateway")
    assert (retried(talk), not_retried(talk)) == ({"connect_refused": 1}, {"no_backend": 1})
    assert pool(talk)["status"] == [0, 0, 0, 0, 0, 1]


def test_a_body_that_was_not_kept(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> request("PUT", "/", body=b"x" * 200_000)
    up = talk["a"].accepts()
    up << Head("PUT / HTTP/1.1")
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    assert not_retried(talk) == {"replay_cap": 1}


def test_a_stale_connection_is_a_replay_and_no_retry(conversation: Converse) -> None:
    talk = conversation("a")
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    client >> get("/2")
    up << "GET /2 HTTP/1.1"
    up.leaves()
    fresh = talk["a"].accepts()
    fresh << "GET /2 HTTP/1.1"
    fresh >> ok()
    client << "HTTP/1.1 200 OK"
    assert pool(talk)["replayed"] == 1
    assert (retried(talk), not_retried(talk), talk.stage.worker["retries"]) == ({}, {}, 0)


def test_who_needed_a_fallback(conversation: Converse) -> None:
    talk = conversation("a", spare="s")
    talk["a"].refuses()
    client = talk.client()
    client >> get("/")
    up = talk["s"].accepts()
    up << "GET / HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    # The pool that could not serve counts the fallback, the one that did has the request.
    assert pool(talk)["fallbacks"] == 1
    assert pool(talk)["status"] == [0] * 6
    spare = talk.stage.segment.pool_totals(1)
    assert (spare["fallbacks"], spare["status"][2]) == (0, 1)
    assert route(talk)["status"][2] == 1
