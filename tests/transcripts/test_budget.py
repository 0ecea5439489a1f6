"""Retries that are not made: the budget is spent, the time is up. And what costs nothing."""

from __future__ import annotations

import pytest

from headgate.engine.hashing import random_words
from headgate.engine.retry import pause_s
from headgate.errors import Kind

from .conftest import Converse
from .conversation import Conversation, Head, answer, get, message, ok, post, request

POOR = {"budget": 0.5, "reserve": 0}
JSON_502 = "HTTP/1.1 502 Bad Gateway\ncontent-type: application/json\n!connection"


def words(talk: Conversation) -> list[object]:
    """The log's word on each request."""
    return [line["error"] for line in talk.stage.log()]


def tokens(talk: Conversation) -> float:
    return talk.stage.pool.pool.retry_tokens


def test_two_requests_pay_for_one_retry(conversation: Converse) -> None:
    talk = conversation("ab", retry=POOR)
    refused = talk.client()
    refused >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up.resets()
    refused << Head(JSON_502)
    talk["b"].is_left_alone()
    client = talk.client()
    client >> get("/2")
    up = talk["a"].accepts()
    up << "GET /2 HTTP/1.1"
    up.resets()
    other = talk["b"].accepts()
    other << "GET /2 HTTP/1.1"
    other >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    assert (talk.stage.worker["retries_refused"], talk.stage.worker["retries"]) == (1, 1)
    assert words(talk) == ["reset,retry_budget", None]


def test_with_the_budget_spent_the_backends_own_answer_is_relayed(conversation: Converse) -> None:
    talk = conversation("ab", retry=POOR)
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> answer("503 Service Unavailable", b"a is tired")
    client << "HTTP/1.1 503 Service Unavailable\n!connection\n\na is tired"
    talk["b"].is_left_alone()
    client >> get("/2")  # that connection is as good as before
    up << "GET /2 HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert words(talk) == ["retry_budget", None]


def test_a_refused_retry_leaves_the_upload_as_it_was(conversation: Converse) -> None:
    """The body is not started again for a retry that is not made."""
    talk = conversation("ab", retry=POOR)
    client = talk.client()
    client >> request("PUT", "/", body=b"hello")
    up = talk["a"].accepts()
    up << "PUT / HTTP/1.1\n\nhello"
    up >> answer("503 Service Unavailable", b"no")
    client << "HTTP/1.1 503 Service Unavailable\n!connection\n\nno"
    up.hears_nothing()
    client >> get("/next")
    up << "GET /next HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_connect_failures_cost_nothing(conversation: Converse) -> None:
    talk = conversation("abc", retry={"budget": 0.01, "reserve": 0})
    talk["a"].refuses()
    talk["b"].refuses()
    client = talk.client()
    client >> post("/", b"x")
    up = talk["c"].accepts()
    up << "POST / HTTP/1.1\n\nx"
    up >> ok(b"c")
    client << "HTTP/1.1 200 OK\n\nc"
    assert tokens(talk) == pytest.approx(0.01)
    assert talk.stage.worker["retries_refused"] == 0


def test_a_stale_connection_costs_nothing(conversation: Converse) -> None:
    talk = conversation("ab", retry={"budget": 0.01, "reserve": 0})
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
    fresh >> ok(b"2")
    client << "HTTP/1.1 200 OK\n\n2"
    assert tokens(talk) == pytest.approx(0.02)


def test_a_retry_with_nobody_left_is_paid_back(conversation: Converse) -> None:
    talk = conversation("a", retry={"reserve": 1})
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up.resets()
    client << Head(JSON_502)
    assert tokens(talk) == pytest.approx(1.2)
    assert words(talk) == ["reset"]


def test_a_retry_that_meets_refusals_is_paid_once(conversation: Converse) -> None:
    talk = conversation("abc", retry={"reserve": 5})
    talk["b"].refuses()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up.resets()
    up = talk["c"].accepts()
    up << "GET / HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert tokens(talk) == pytest.approx(4.2)


def test_a_body_that_was_not_kept_is_paid_back(conversation: Converse) -> None:
    size = 2_000_000
    talk = conversation("ab", retry={"reserve": 1})
    client = talk.client()
    client >> message(f"PUT / HTTP/1.1\nHost: h\nContent-Length: {size}")
    poured = client.pours(b"x" * size)
    up = talk["a"].accepts()
    up << Head("PUT / HTTP/1.1")
    while poured < size:
        up.reader.exactly(min(100_000, poured))
        poured += client.pours(b"x" * (size - poured))
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    assert tokens(talk) == pytest.approx(1.2)
    assert words(talk) == ["reset,replay_cap"]


def test_no_budget_is_no_limit(conversation: Converse) -> None:
    talk = conversation("ab", retry={"budget": False, "reserve": 0})
    client = talk.client()
    for _ in range(3):
        client >> get()
        up = talk["a"].accepts()
        up << "GET / HTTP/1.1"
        up >> answer("503 Service Unavailable")
        up = talk["b"].accepts()
        up << "GET / HTTP/1.1"
        up >> message("HTTP/1.1 200 OK\nContent-Length: 0\nConnection: close")
        client << "HTTP/1.1 200 OK"


# Time


def test_the_second_retry_waits_for_its_random_pause(conversation: Converse) -> None:
    # A seed whose third word (the request's id takes two) gives nearly the whole 25 ms.
    seed, pause = next(
        (seed, pause) for seed in range(1, 1000) if (pause := pause_s(2, random_words((seed, 1), 3)[2])) > 0.024
    )
    talk = conversation("abc")
    talk.stage.engine.seed_random(seed)
    client = talk.client()
    client >> get()
    for name in "ab":
        up = talk[name].accepts()
        up << "GET / HTTP/1.1"
        up.resets()
    assert talk.stage.until(lambda: talk.stage.totals("b").failed == 1)
    # No look at "c" in between: on a busy machine half the pause may be the whole.
    up = talk["c"].accepts()
    up << "GET / HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    (line,) = talk.stage.log()
    assert line["total_s"] >= pause


@pytest.mark.parametrize("slow", [False, True])
def test_a_retry_that_would_not_fit_is_not_made(conversation: Converse, slow: bool) -> None:
    """With 5 s for a whole request, and answers that take 10 s of late, a retry would be cut off."""
    talk = conversation("ab", timeouts={"request": "5s"})
    for _ in range(30):
        talk.stage.segment.add_latency(0, 0, (10_000 if slow else 1) * 1_000_000, first_byte=True)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up.resets()
    if slow:
        client << Head(JSON_502)
        talk["b"].is_left_alone()
        assert words(talk) == ["reset,no_time_left"]
    else:
        up = talk["b"].accepts()
        up << "GET / HTTP/1.1"
        up >> ok(b"b")
        client << "HTTP/1.1 200 OK\n\nb"


def test_an_answer_is_relayed_when_a_retry_would_not_fit(conversation: Converse) -> None:
    talk = conversation("ab", timeouts={"request": "5s"})
    for _ in range(30):
        talk.stage.segment.add_latency(0, 0, 10_000_000_000, first_byte=True)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> answer("503 Service Unavailable", b"mine")
    client << "HTTP/1.1 503 Service Unavailable\n\nmine"
    talk["b"].is_left_alone()
    assert words(talk) == ["no_time_left"]


def test_refusals_after_a_long_attempt_are_a_connect_phase_of_their_own(conversation: Converse) -> None:
    """The 10 s to connect count from the first of a run of connect failures, not from the request."""
    talk = conversation("abcd", timeouts={"first_byte": "60ms"})
    talk["b"].refuses()
    talk["c"].refuses()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    other = talk["d"].accepts()
    other << "GET / HTTP/1.1"
    other >> ok(b"d")
    client << "HTTP/1.1 200 OK\n\nd"
    assert talk.stage.ended(Kind.OK) == 1
