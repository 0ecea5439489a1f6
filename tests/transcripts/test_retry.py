"""What is tried at another backend, and what never is (RFC 9110 section 9.2.2; design: attempt, retries)."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from headgate.errors import Kind

from .conftest import Converse
from .conversation import Head, Peer, answer, get, message, ok, post

FAST = {"first_byte": "50ms", "body_idle": "50ms", "connect": "50ms"}


def resets(up: Peer) -> None:
    up.resets()


def closes(up: Peer) -> None:
    up.leaves()


def babbles(up: Peer) -> None:
    up >> b"this is not HTTP\r\n\r\n"


def keeps_silent(up: Peer) -> None:
    """The first-byte timeout does the rest."""


def dies_in_its_head(up: Peer) -> None:
    up >> b"HTTP/1.1 200 OK\r\nContent-Le"
    up.leaves()


def is_unavailable(up: Peer) -> None:
    up >> answer("503 Service Unavailable", b"not me")


def is_a_bad_gateway(up: Peer) -> None:
    up >> answer("502 Bad Gateway", b"not me")


FAILURES: dict[Callable[[Peer], None], tuple[str, Kind]] = {
    resets: ("502 Bad Gateway", Kind.RESET),
    closes: ("502 Bad Gateway", Kind.RESET),
    babbles: ("502 Bad Gateway", Kind.BAD_HEAD),
    keeps_silent: ("504 Gateway Timeout", Kind.FIRST_BYTE_TIMEOUT),
    dies_in_its_head: ("502 Bad Gateway", Kind.RESET),
}
every_failure = pytest.mark.parametrize("fails", [*FAILURES, is_unavailable, is_a_bad_gateway])


# Nothing was sent


@pytest.mark.parametrize("size", [0, 5, 100_000, 20_000_000])
def test_a_refused_connection_is_nothing_whatever_the_size(conversation: Converse, size: int) -> None:
    talk = conversation("abc")
    talk["a"].refuses()
    talk["b"].refuses()
    client = talk.client()
    body = b"x" * size
    client >> message(f"POST / HTTP/1.1\nHost: h\nContent-Length: {size}")
    poured = client.pours(body)
    up = talk["c"].accepts()
    up << Head(f"POST / HTTP/1.1\ncontent-length: {size}")
    heard = 0
    while heard < size:
        heard += len(up.reader.exactly(min(100_000, size - heard)))
        poured += client.pours(body[poured:]) if poured < size else 0
    up.hears_nothing()
    up >> ok(b"c")
    client << "HTTP/1.1 200 OK\n\nc"
    assert talk.stage.totals("a").failed == 1  # which is what health is told
    assert talk.stage.totals("c").retried == 1


def test_connect_timeouts_are_nothing_too(conversation: Converse) -> None:
    talk = conversation("ab", timeouts=FAST)
    # A queue that is full: SYNs are dropped.
    full = talk["a"].listens(backlog=0)
    others = []
    for _ in range(2):
        others.append(socket.socket())
        others[-1].setblocking(False)
        others[-1].connect_ex(full)
    client = talk.client()
    client >> post("/", b"hello")
    up = talk["b"].accepts()
    up << "POST / HTTP/1.1\n\nhello"
    up >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    for other in others:
        other.close()


def test_refused_connections_do_not_count_against_the_retries(conversation: Converse) -> None:
    talk = conversation("abcd", retry={"retries": 0})
    for name in "abc":
        talk[name].refuses()
    client = talk.client()
    client >> get()
    up = talk["d"].accepts()
    up << "GET / HTTP/1.1"
    up >> ok(b"d")
    client << "HTTP/1.1 200 OK\n\nd"


def test_when_everybody_refuses_the_client_is_told(conversation: Converse) -> None:
    talk = conversation("ab")
    talk["a"].refuses()
    talk["b"].refuses()
    client = talk.client()
    client >> post("/", b"hello") + get("/next")
    client << Head("HTTP/1.1 502 Bad Gateway\ncontent-type: application/json")
    assert talk.stage.totals("a").attempts == 1
    assert talk.stage.totals("b").attempts == 1


# An idempotent request


@every_failure
def test_get_is_tried_elsewhere(conversation: Converse, fails: Callable[[Peer], None]) -> None:
    talk = conversation("ab", timeouts=FAST)
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    fails(up)
    other = talk["b"].accepts()
    other << "GET /1 HTTP/1.1"
    other >> ok(b"from b")
    client << "HTTP/1.1 200 OK\n\nfrom b"
    client.hears_nothing()
    assert talk.stage.totals("a").failed == 1
    assert talk.stage.totals("a").idle == 0
    assert [(line["status"], line["attempts"]) for line in talk.stage.log()] == [(200, 2)]


@every_failure
def test_post_is_never_tried_elsewhere_once_it_was_sent(conversation: Converse, fails: Callable[[Peer], None]) -> None:
    talk = conversation("ab", timeouts=FAST)
    client = talk.client()
    client >> post("/1", b"hello")
    up = talk["a"].accepts()
    up << "POST /1 HTTP/1.1\n\nhello"
    fails(up)
    if fails in FAILURES:
        status, kind = FAILURES[fails]
        client << Head(f"HTTP/1.1 {status}\ncontent-type: application/json")
        assert talk.stage.ended(kind) == 1
    else:  # its own answer is the answer
        status = "503 Service Unavailable" if fails is is_unavailable else "502 Bad Gateway"
        client << f"HTTP/1.1 {status}\n\nnot me"
    talk["b"].is_left_alone()


@pytest.mark.parametrize("fails", [resets, closes])
def test_post_is_not_tried_elsewhere_when_only_its_head_was_sent(
    conversation: Converse, fails: Callable[[Peer], None]
) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> message("POST / HTTP/1.1\nHost: h\nContent-Length: 5")
    up = talk["a"].accepts()
    up << Head("POST / HTTP/1.1")
    fails(up)
    client << Head("HTTP/1.1 502 Bad Gateway\nconnection: close")
    talk["b"].is_left_alone()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_idempotent_methods_are_tried_elsewhere(conversation: Converse, method: str) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> message(f"{method} / HTTP/1.1\nHost: h")
    up = talk["a"].accepts()
    up << f"{method} / HTTP/1.1"
    up.resets()
    other = talk["b"].accepts()
    other << f"{method} / HTTP/1.1"
    other >> message("HTTP/1.1 204 No Content")
    client << Head("HTTP/1.1 204 No Content")


@pytest.mark.parametrize("method", ["PATCH", "POST", "MYOWN"])
def test_all_other_methods_are_not(conversation: Converse, method: str) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> message(f"{method} / HTTP/1.1\nHost: h\nContent-Length: 0")
    up = talk["a"].accepts()
    up << f"{method} / HTTP/1.1"
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    talk["b"].is_left_alone()


def test_three_attempts_and_no_more(conversation: Converse) -> None:
    talk = conversation("abcd")
    client = talk.client()
    client >> get()
    for name in "abc":
        up = talk[name].accepts()
        up << "GET / HTTP/1.1"
        up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway\n!connection")
    talk["d"].is_left_alone()
    assert [line["attempts"] for line in talk.stage.log()] == [3]


def test_the_last_backends_own_answer_is_relayed(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> get()
    for name in "ab":
        up = talk[name].accepts()
        up << "GET / HTTP/1.1"
        up >> answer("503 Service Unavailable", f"{name} is tired".encode())
    client << "HTTP/1.1 503 Service Unavailable\n\nb is tired"
    client.hears_nothing()


def test_the_answer_of_the_last_attempt_is_relayed_though_others_are_left(conversation: Converse) -> None:
    talk = conversation("abc", retry={"retries": 1})
    client = talk.client()
    client >> get()
    for name in "ab":
        up = talk[name].accepts()
        up << "GET / HTTP/1.1"
        up >> answer("504 Gateway Timeout", name.encode())
    client << "HTTP/1.1 504 Gateway Timeout\n\nb"
    talk["c"].is_left_alone()


def test_a_backends_500_is_an_answer(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> answer("500 Internal Server Error", b"bug")
    client << "HTTP/1.1 500 Internal Server Error\n\nbug"
    talk["b"].is_left_alone()


# Response bytes went out


def test_nothing_is_tried_again_once_response_bytes_went_out(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 10") + b"hello"
    client << Head("HTTP/1.1 200 OK\ncontent-length: 10") << b"hello"
    up.resets()
    client.is_closed()
    talk["b"].is_left_alone()
    assert talk.stage.ended(Kind.TRUNCATED) == 1


@pytest.mark.parametrize("fails", [resets, closes])
def test_a_head_that_still_waits_for_its_body_did_not_go_out(
    conversation: Converse, fails: Callable[[Peer], None]
) -> None:
    """The head is held for up to 10 ms, so a backend that dies between its two writes can be replaced."""
    talk = conversation("ab")
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 10\nX-From: a")
    fails(up)
    other = talk["b"].accepts()
    other << "GET / HTTP/1.1"
    other >> ok(b"whole", "X-From: b")
    client << "HTTP/1.1 200 OK\nx-from: b\n\nwhole"
    client.hears_nothing()


def test_after_ten_milliseconds_the_head_goes_out_alone(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 10")
    client << Head("HTTP/1.1 200 OK\ncontent-length: 10")
    up.resets()
    client.is_closed()
    talk["b"].is_left_alone()


def test_a_head_in_waiting_is_not_tried_again_for_a_post(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> post("/", b"hello")
    up = talk["a"].accepts()
    up << "POST / HTTP/1.1\n\nhello"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 10")
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    talk["b"].is_left_alone()


# Bodies


@pytest.mark.parametrize("size", [5, 1000, 10_000])
def test_a_body_that_is_still_in_the_buffer_is_sent_again(conversation: Converse, size: int) -> None:
    body = bytes(number % 251 for number in range(size))
    talk = conversation("ab")
    client = talk.client()
    client >> message(f"PUT / HTTP/1.1\nHost: h\nContent-Length: {size}") + body
    up = talk["a"].accepts()
    up << Head("PUT / HTTP/1.1") << body
    up.resets()
    other = talk["b"].accepts()
    other << Head(f"PUT / HTTP/1.1\ncontent-length: {size}") << body
    other.hears_nothing()
    other >> ok(b"got it")
    client << "HTTP/1.1 200 OK\n!connection\n\ngot it"
    client >> get("/next")  # the connection is where it should be
    again = talk["a"].accepts()
    again << "GET /next HTTP/1.1"
    again >> ok()
    client << "HTTP/1.1 200 OK"


def test_a_chunked_body_is_sent_again(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> message("PUT / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked") + b"3\r\nabc\r\n"
    up = talk["a"].accepts()
    up << Head("PUT / HTTP/1.1") << b"3\r\nabc\r\n"
    client >> b"3\r\ndef\r\n0\r\n\r\n" + get("/next")
    up << b"3\r\ndef\r\n0\r\n\r\n"
    up.resets()
    other = talk["b"].accepts()
    other << "PUT / HTTP/1.1\n\nabcdef"
    other.hears_nothing()
    other >> ok(b"got it")
    client << "HTTP/1.1 200 OK\n\ngot it"
    again = talk["a"].accepts()
    again << "GET /next HTTP/1.1"
    again >> ok()
    client << "HTTP/1.1 200 OK"


def test_the_rest_of_a_body_follows_to_the_second_backend(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> message("PUT / HTTP/1.1\nHost: h\nContent-Length: 10") + b"hello"
    up = talk["a"].accepts()
    up << Head("PUT / HTTP/1.1") << b"hello"
    up.resets()
    other = talk["b"].accepts()
    other << Head("PUT / HTTP/1.1") << b"hello"
    client >> b"world"
    other << b"world"
    other >> ok(b"got it")
    client << "HTTP/1.1 200 OK\n!connection\n\ngot it"


def test_a_body_that_had_to_be_overwritten_is_given_up(conversation: Converse) -> None:
    """Half of it would be the only thing worse than nothing."""
    size = 2_000_000
    body = b"x" * size
    talk = conversation("ab")
    client = talk.client()
    client >> message(f"PUT / HTTP/1.1\nHost: h\nContent-Length: {size}")
    poured = client.pours(body)
    up = talk["a"].accepts()
    up << Head("PUT / HTTP/1.1")
    while poured < size:
        up.reader.exactly(min(100_000, poured))
        poured += client.pours(body[poured:])
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    talk["b"].is_left_alone()


# Who is told


def test_a_failure_counts_against_the_one_that_failed(conversation: Converse) -> None:
    talk = conversation("ab", breaker={"failure_threshold": 2, "failure_rate": False})
    client = talk.client()
    other: Peer | None = None
    for _ in range(2):
        client >> get()
        up = talk["a"].accepts()
        up << "GET / HTTP/1.1"
        up.resets()
        other = other or talk["b"].accepts()
        other << "GET / HTTP/1.1"
        other >> ok()
        client << "HTTP/1.1 200 OK"
    (trip,) = talk.stage.reports
    assert type(trip).__name__ == "Trip"
    assert talk.stage.totals("b").failed == 0
    # From now on nobody asks a.
    assert other is not None
    client >> get()
    other << "GET / HTTP/1.1"
    other >> ok()
    client << "HTTP/1.1 200 OK"
    talk["a"].is_left_alone()
