"""A second attempt while the first is under way: who wins, and what becomes of the other (engine/hedge.pyx)."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from headgate.errors import Kind

from .conftest import Converse
from .conversation import Conversation, Head, Peer, answer, get, message, ok, post, request

SOON = {"hedge_after": "20ms"}
BAD = answer("503 Service Unavailable", b"not me")


def begin(conversation: Converse, names: str = "ab", **pool: object) -> tuple[Conversation, Peer, Peer, Peer]:
    """Two attempts of a GET: the conversation, the client, the first backend and the second."""
    talk = conversation(names, retry=pool.pop("retry", SOON), **pool)
    client = talk.client()
    client >> get("/1")
    first = talk["a"].accepts()
    first << "GET /1 HTTP/1.1"
    second = talk["b"].accepts()
    second << "GET /1 HTTP/1.1"
    return talk, client, first, second


def all_is_well(talk: Conversation, client: Peer, *, hedges: int = 1, won: int = 0) -> None:
    """Nothing is in flight, the counters add up, and the client's connection can be used."""
    talk.stage.settle()
    for name in "ab":
        assert talk.stage.totals(name).active == 0
    assert talk.stage.engine.in_flight == 0
    assert (talk.stage.worker["hedges"], talk.stage.worker["hedges_won"]) == (hedges, won)
    assert talk.stage.worker["retries"] == 0
    client.hears_nothing()


def test_the_second_one_answers_first(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation)
    second >> ok(b"from b")
    client << "HTTP/1.1 200 OK\n!connection\n\nfrom b"
    first.is_gone()  # HTTP/1 has no other way to say "never mind"
    all_is_well(talk, client, won=1)
    assert (talk.stage.totals("a").failed, talk.stage.totals("a").succeeded) == (0, 0)
    assert (talk.stage.totals("b").failed, talk.stage.totals("b").succeeded) == (0, 1)
    assert talk.stage.totals("a").attempts == talk.stage.totals("b").attempts == 1
    assert talk.stage.reports == []
    client >> get("/next")  # the winner's connection is kept, the loser's is not
    fresh = talk["a"].accepts()
    fresh << "GET /next HTTP/1.1"
    fresh >> ok()
    client << "HTTP/1.1 200 OK"
    url = f"http://127.0.0.1:{talk['b'].port.address[1]}"
    line, _ = talk.stage.log()
    assert (line["backend"], line["status"], line["attempts"]) == (url, 200, 2)
    assert "hedged" in line.values()


def test_the_first_one_answers_first_after_all(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation)
    first >> ok(b"from a")
    client << "HTTP/1.1 200 OK\n!connection\n\nfrom a"
    second.is_gone()
    all_is_well(talk, client)
    assert (talk.stage.totals("a").succeeded, talk.stage.totals("b").succeeded) == (1, 0)
    assert talk.stage.totals("b").failed == 0
    client >> get("/next")
    first << "GET /next HTTP/1.1"
    first >> ok()
    client << "HTTP/1.1 200 OK"


def test_a_fast_answer_is_not_hedged(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> ok(b"a")
    client << "HTTP/1.1 200 OK\n\na"
    talk.stage.passes(0.06)
    talk["b"].is_left_alone()
    all_is_well(talk, client, hedges=0)


@pytest.mark.parametrize("body", [b"", b"x" * 200_000])
def test_a_slow_body_is_not_hedged(conversation: Converse, body: bytes) -> None:
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message(f"HTTP/1.1 200 OK\nContent-Length: {len(body) + 1}") + body[:10]
    talk.stage.passes(0.06)
    talk["b"].is_left_alone()
    up >> body[10:] + b"!"
    client << Head("HTTP/1.1 200 OK") << body + b"!"


# One of the two fails


def resets(up: Peer) -> None:
    up.resets()


def closes(up: Peer) -> None:
    up.leaves()


def babbles(up: Peer) -> None:
    up >> b"this is not HTTP\r\n\r\n"


def is_unavailable(up: Peer) -> None:
    up >> BAD


every_failure = pytest.mark.parametrize("fails", [resets, closes, babbles, is_unavailable])


@every_failure
def test_the_second_one_fails(conversation: Converse, fails: Callable[[Peer], None]) -> None:
    talk, client, first, second = begin(conversation, "abc")
    fails(second)
    talk["c"].is_left_alone()
    client.hears_nothing()
    assert talk.stage.totals("b").failed == 1
    first >> ok(b"from a")
    client << "HTTP/1.1 200 OK\n!connection\n\nfrom a"
    all_is_well(talk, client)
    assert talk.stage.totals("a").succeeded == 1


@every_failure
def test_the_first_one_fails(conversation: Converse, fails: Callable[[Peer], None]) -> None:
    talk, client, first, second = begin(conversation, "abc")
    fails(first)
    talk["c"].is_left_alone()
    client.hears_nothing()
    assert talk.stage.totals("a").failed == 1
    second >> ok(b"from b")
    client << "HTTP/1.1 200 OK\n!connection\n\nfrom b"
    all_is_well(talk, client)


@every_failure
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_both_fail_and_a_third_is_tried(conversation: Converse, fails: Callable[[Peer], None], order: str) -> None:
    talk, client, first, second = begin(conversation, "abcd")
    for name in order:
        fails({"a": first, "b": second}[name])
        talk.stage.settle()
    up = talk["c"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok(b"from c")
    client << "HTTP/1.1 200 OK\n\nfrom c"
    assert talk.stage.totals("a").failed == talk.stage.totals("b").failed == 1
    assert talk.stage.worker["retries"] == 1
    assert talk.stage.worker["hedges"] == 1  # one for an exchange


def test_both_are_unavailable_and_the_last_ones_answer_is_relayed(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation)
    second >> answer("503 Service Unavailable", b"b is tired")
    client.hears_nothing()
    first >> answer("503 Service Unavailable", b"a is tired")
    client << "HTTP/1.1 503 Service Unavailable\n\na is tired"
    all_is_well(talk, client)


def test_a_backends_500_is_an_answer(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation)
    second >> answer("500 Internal Server Error", b"bug")
    client << "HTTP/1.1 500 Internal Server Error\n\nbug"
    first.is_gone()
    all_is_well(talk, client, won=1)


def test_the_second_one_refuses_and_costs_nothing(conversation: Converse) -> None:
    talk = conversation("ab", retry={**SOON, "reserve": 1, "budget": False})
    talk["b"].refuses()
    client = talk.client()
    client >> get()
    first = talk["a"].accepts()
    first << "GET / HTTP/1.1"
    assert talk.stage.until(lambda: talk.stage.totals("b").failed == 1)
    first >> ok(b"a")
    client << "HTTP/1.1 200 OK\n\na"
    all_is_well(talk, client)


def test_a_refused_hedge_gives_its_token_back(conversation: Converse) -> None:
    talk = conversation("ab", retry={**SOON, "reserve": 3})
    talk["b"].refuses()
    client = talk.client()
    client >> get()
    first = talk["a"].accepts()
    first << "GET / HTTP/1.1"
    assert talk.stage.until(lambda: talk.stage.totals("b").failed == 1)
    assert talk.stage.pool.pool.retry_tokens == pytest.approx(3.2)
    first >> ok()
    client << "HTTP/1.1 200 OK"


def test_the_first_one_is_silent_beyond_its_own_time(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation, timeouts={"first_byte": "400ms"})
    first.is_gone()
    assert talk.stage.totals("a").failed == 1
    second >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    all_is_well(talk, client)


def test_the_deadline_of_the_first_one_moves_back_with_it(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation, timeouts={"first_byte": "400ms"})
    second.resets()
    # Nobody answers: a had its 400 ms from its own start, not from b's end.
    client << Head("HTTP/1.1 504 Gateway Timeout")
    first.is_gone()
    assert talk.stage.totals("a").failed == talk.stage.totals("b").failed == 1
    (line,) = talk.stage.log()
    assert line["status"] == 504
    assert "first_byte_timeout,hedged" in line.values()


def test_no_answer_from_either_is_a_timeout_of_each(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation, timeouts={"first_byte": "400ms"}, retry={**SOON, "retries": 1})
    client << Head("HTTP/1.1 504 Gateway Timeout")
    first.is_gone()
    second.is_gone()
    assert talk.stage.totals("a").failed == talk.stage.totals("b").failed == 1
    assert talk.stage.totals("a").active == talk.stage.totals("b").active == 0


# Connecting


def test_a_connection_that_does_not_come_about_is_hedged(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON, timeouts={"connect": "5s"})
    full = talk["a"].listens(backlog=0)  # a queue that is full: SYNs are dropped
    others = []
    for _ in range(2):
        others.append(socket.socket())
        others[-1].setblocking(False)
        others[-1].connect_ex(full)
    client = talk.client()
    client >> get()
    up = talk["b"].accepts()
    up << "GET / HTTP/1.1"
    up >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    all_is_well(talk, client, won=1)
    assert talk.stage.totals("a").failed == 0
    for other in others:
        other.close()


def test_a_connection_that_comes_late_is_used_all_the_same(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON, timeouts={"connect": "9s"})
    full = talk["a"].listens(backlog=0)
    others = []
    for _ in range(2):
        others.append(socket.socket())
        others[-1].setblocking(False)
        others[-1].connect_ex(full)
    client = talk.client()
    client >> get()
    second = talk["b"].accepts()
    second << "GET / HTTP/1.1"
    names = [other.getsockname() for other in others]
    first = talk["a"].accepts()
    while first.socket.getpeername() in names:
        first = talk["a"].accepts()  # in the end it is the balancer: its SYN is sent again after a second
    first << "GET / HTTP/1.1"
    first >> ok(b"a")
    client << "HTTP/1.1 200 OK\n\na"
    second.is_gone()
    all_is_well(talk, client)
    for other in others:
        other.close()


def test_a_kept_connection_that_was_closed_meanwhile_is_only_the_loss_of_one(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> get("/0")
    first = talk["a"].accepts()
    first << "GET /0 HTTP/1.1"
    first >> ok()
    client << "HTTP/1.1 200 OK"
    client >> get("/1")
    first << "GET /1 HTTP/1.1"
    second = talk["b"].accepts()
    second << "GET /1 HTTP/1.1"
    first.leaves()
    talk.stage.settle()
    assert talk.stage.totals("a").failed == 0  # the race of RFC 9112 section 9.3.1
    second >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    all_is_well(talk, client)


# Bodies


@pytest.mark.parametrize("winner", ["a", "b"])
@pytest.mark.parametrize("size", [1, 1000, 10_000])
def test_a_body_that_is_in_the_buffer_is_sent_twice(conversation: Converse, winner: str, size: int) -> None:
    body = bytes(number % 251 for number in range(size))
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> request("PUT", "/", body=body)
    first = talk["a"].accepts()
    first << Head("PUT / HTTP/1.1") << body
    second = talk["b"].accepts()
    second << Head(f"PUT / HTTP/1.1\ncontent-length: {size}") << body
    {"a": first, "b": second}[winner] >> ok(winner.encode())
    client << f"HTTP/1.1 200 OK\n!connection\n\n{winner}"
    {"a": second, "b": first}[winner].is_gone()
    all_is_well(talk, client, won=winner == "b")
    (line,) = talk.stage.log()
    assert line["bytes_received"] == size


def test_a_chunked_body_with_a_trailer_is_sent_twice(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> message("PUT / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked")
    client >> b"3\r\nabc\r\n3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n" + get("/next")
    first = talk["a"].accepts()
    first << "PUT / HTTP/1.1\n\nabcdef"
    second = talk["b"].accepts()
    second << "PUT / HTTP/1.1\n\nabcdef"
    second >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    again = talk["a"].accepts()
    again << "GET /next HTTP/1.1"
    again >> ok()
    client << "HTTP/1.1 200 OK"


def test_the_first_one_wins_while_the_second_still_takes_the_body(conversation: Converse) -> None:
    size = 60_000
    body = bytes(number % 251 for number in range(size))
    talk = conversation("ab", retry=SOON)
    listening = talk["b"]._listening
    assert listening is not None
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)  # it takes little before it is read
    client = talk.client()
    client >> request("PUT", "/", body=body)
    first = talk["a"].accepts()
    first << Head("PUT / HTTP/1.1") << body
    second = talk["b"].accepts()
    second << Head("PUT / HTTP/1.1")
    first >> ok(b"a")
    client << "HTTP/1.1 200 OK\n!connection\n\na"
    talk.stage.settle()
    client >> get("/next")
    first << "GET /next HTTP/1.1"
    first >> ok(b"n")
    client << "HTTP/1.1 200 OK\n\nn"
    all_is_well(talk, client)


def test_while_the_client_sends_nothing_is_hedged(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> message("PUT / HTTP/1.1\nHost: h\nContent-Length: 10") + b"hello"
    first = talk["a"].accepts()
    first << Head("PUT / HTTP/1.1") << b"hello"
    talk.stage.passes(0.06)
    talk["b"].is_left_alone()
    client >> b"world"
    first << b"world"
    second = talk["b"].accepts()  # but once it was all sent
    second << "PUT / HTTP/1.1\n\nhelloworld"
    second >> ok(b"b")
    client << "HTTP/1.1 200 OK\n!connection\n\nb"
    all_is_well(talk, client, won=1)


def test_a_body_that_is_not_kept_is_not_hedged(conversation: Converse) -> None:
    size = 500_000
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> message(f"PUT / HTTP/1.1\nHost: h\nContent-Length: {size}")
    poured = client.pours(b"x" * size)
    first = talk["a"].accepts()
    first << Head("PUT / HTTP/1.1")
    heard = 0
    while heard < size:
        heard += len(first.reader.exactly(min(size - heard, 50_000)))
        poured += client.pours(b"x" * (size - poured))
    talk.stage.passes(0.06)
    talk["b"].is_left_alone()
    assert talk.stage.pool.pool.retry_tokens == pytest.approx(100.2 - 0.2 + 0.0, abs=0.21)
    first >> ok(b"a")
    client << "HTTP/1.1 200 OK\n\na"
    all_is_well(talk, client, hedges=0)


# What is never hedged


def test_post_is_never_hedged(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> post("/", b"hello")
    up = talk["a"].accepts()
    up << "POST / HTTP/1.1\n\nhello"
    talk.stage.passes(0.06)
    talk["b"].is_left_alone()
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_an_upgrade_is_never_hedged(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON)
    client = talk.client()
    client >> get("/", "Connection: upgrade", "Upgrade: websocket")
    up = talk["a"].accepts()
    up << Head("GET / HTTP/1.1")
    talk.stage.passes(0.06)
    talk["b"].is_left_alone()
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_a_bound_session_is_not_sent_away(conversation: Converse) -> None:
    talk = conversation("ab", retry=SOON, sticky="cookie")
    client = talk.client()
    client >> get()
    first = talk["a"].accepts()
    first << "GET / HTTP/1.1"
    second = talk["b"].accepts()
    second << "GET / HTTP/1.1"
    second >> ok(b"b")  # not bound yet: the winner's cookie it is
    client << "HTTP/1.1 200 OK\n\nb"
    assert client.last is not None
    cookie = client.last.headers("set-cookie")[0].partition(";")[0]
    client >> get("/", f"Cookie: {cookie}")
    second << "GET / HTTP/1.1"
    talk.stage.passes(0.06)
    talk["a"].is_left_alone()
    second >> ok()
    client << "HTTP/1.1 200 OK\n!set-cookie"


def test_there_is_nobody_else(conversation: Converse) -> None:
    talk = conversation("a", retry=SOON)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    talk.stage.passes(0.06)
    assert talk.stage.pool.pool.retry_tokens == pytest.approx(100.2)
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert talk.stage.worker["hedges"] == 0


def test_a_spent_budget_allows_none(conversation: Converse) -> None:
    talk = conversation("ab", retry={**SOON, "reserve": 0})
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    talk.stage.passes(0.06)
    talk["b"].is_left_alone()
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert (talk.stage.worker["hedges"], talk.stage.worker["retries_refused"]) == (0, 1)


# Interim answers


def test_an_interim_answer_of_the_first_one_is_not_passed_on(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation)
    first >> message("HTTP/1.1 103 Early Hints\nLink: </a.css>")
    client.hears_nothing()
    second >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    first.is_gone()
    all_is_well(talk, client, won=1)


def test_an_interim_answer_of_the_second_one_decides(conversation: Converse) -> None:
    _, client, first, second = begin(conversation)
    second >> message("HTTP/1.1 103 Early Hints\nLink: </b.css>")
    client << Head("HTTP/1.1 103 Early Hints\nlink: </b.css>")
    first.is_gone()
    second >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"


def test_a_head_in_pieces_is_not_lost(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation)
    first >> b"HTTP/1.1 200 OK\r\nX-From: a\r\nConte"
    second >> b"HTTP/1.1 200 OK\r\nX-From: b\r\nCo"
    talk.stage.settle()
    second.resets()
    talk.stage.settle()
    first >> b"nt-Length: 2\r\n\r\nok"
    client << "HTTP/1.1 200 OK\nx-from: a\n\nok"
    all_is_well(talk, client)


# Ends


def test_the_client_leaves_both(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation)
    client.leaves()
    first.is_gone()
    second.is_gone()
    talk.stage.settle()
    assert talk.stage.totals("a").active == talk.stage.totals("b").active == 0
    assert talk.stage.totals("a").failed == talk.stage.totals("b").failed == 0
    assert talk.stage.ended(Kind.CLIENT_GONE) == 1


def test_the_time_for_the_whole_request_ends_both(conversation: Converse) -> None:
    talk, client, first, second = begin(conversation, timeouts={"request": "600ms"})
    client << Head("HTTP/1.1 504 Gateway Timeout")
    first.is_gone()
    second.is_gone()
    talk.stage.settle()
    assert talk.stage.totals("a").active == talk.stage.totals("b").active == 0
    assert talk.stage.ended(Kind.REQUEST_TIMEOUT) == 1


def test_the_engine_ends_with_both_under_way(conversation: Converse) -> None:
    talk, _, first, second = begin(conversation)
    talk.stage.engine.close()
    first.is_gone()
    second.is_gone()


# After how long


def test_a_percentile_of_recent_latency(conversation: Converse) -> None:
    talk = conversation("ab", retry={"hedge_after": "p90"})
    for n in range(100):
        talk.stage.segment.add_latency(0, 0, (2 if n < 95 else 5000) * 1_000_000, first_byte=True)
    client = talk.client()
    client >> get()
    first = talk["a"].accepts()
    first << "GET / HTTP/1.1"
    second = talk["b"].accepts()  # after 2 ms; p99 would be 5 s
    second << "GET / HTTP/1.1"
    second >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    all_is_well(talk, client, won=1)


def test_a_percentile_of_too_few_is_none(conversation: Converse) -> None:
    talk = conversation("ab", retry={"hedge_after": "p50"})
    for _ in range(10):
        talk.stage.segment.add_latency(0, 0, 1_000_000, first_byte=True)
    client = talk.client()
    client >> get()
    first = talk["a"].accepts()
    first << "GET / HTTP/1.1"
    talk.stage.passes(0.03)
    talk["b"].is_left_alone()
    first >> ok()
    client << "HTTP/1.1 200 OK"
