"""A client that goes away: its attempt ends at once, and the backend is not to blame (faults 18 and 19)."""

from __future__ import annotations

import pytest

from headgate.errors import Kind

from .conftest import Converse
from .conversation import Conversation, Head, Peer, get, message, ok, post


def goes(client: Peer, how: str) -> None:
    client.leaves() if how == "leaves" else client.resets()


every_way = pytest.mark.parametrize("how", ["leaves", "resets"])


def assert_gone(talk: Conversation, status: int = 499) -> None:
    talk.stage.settle()
    totals = talk.stage.totals("a")
    assert (totals.active, totals.failed, totals.idle) == (0, 0, 0)
    assert talk.stage.reports == []
    assert talk.stage.ended(Kind.CLIENT_GONE) == 1
    assert talk.stage.engine.in_flight == 0
    assert talk.stage.engine.connections == 0
    assert [line["status"] for line in talk.stage.log()] == [status]


@every_way
def test_while_the_answer_is_awaited(conversation: Converse, how: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    goes(client, how)
    up.is_closed()
    assert_gone(talk)


@every_way
def test_in_the_middle_of_an_upload(conversation: Converse, how: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> message("POST / HTTP/1.1\nHost: h\nContent-Length: 10") + b"hello"
    up = talk["a"].accepts()
    up << Head("POST / HTTP/1.1") << b"hello"
    goes(client, how)
    up.is_closed()  # a part must not be taken for the whole
    assert_gone(talk)


@every_way
def test_in_the_middle_of_a_chunked_upload(conversation: Converse, how: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> message("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked") + b"5\r\nhello\r\n"
    up = talk["a"].accepts()
    up << Head("POST / HTTP/1.1") << b"5\r\nhello\r\n"
    goes(client, how)
    up.is_closed()
    assert_gone(talk)


@every_way
def test_in_the_middle_of_an_answer(conversation: Converse, how: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 10") + b"hello"
    client << Head("HTTP/1.1 200 OK") << b"hello"
    goes(client, how)
    up.is_closed()
    assert_gone(talk, 200)


def test_while_the_balancer_connects(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    client.resets()
    talk.stage.settle()
    assert talk.stage.totals("a").active == 0
    assert talk.stage.totals("a").failed == 0


def test_between_two_attempts(conversation: Converse) -> None:
    talk = conversation("ab")
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up.resets()
    client.resets()
    talk.stage.settle()
    assert talk.stage.engine.in_flight == 0
    assert talk.stage.totals("b").active == 0
    assert talk.stage.totals("b").failed == 0


def test_while_it_waits_for_its_pipelined_turn(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/1") + post("/2", b"hello")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    client.leaves()
    up.is_closed()
    talk["a"].is_left_alone()
    assert talk.stage.worker["requests"] == 1


def test_after_its_answer_nothing_is_lost(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok(b"1")
    client << "HTTP/1.1 200 OK\n\n1"
    client.resets()
    talk.stage.settle()
    assert talk.stage.ended(Kind.OK) == 1
    other = talk.client()
    other >> get("/2")
    up << "GET /2 HTTP/1.1"  # the backend's connection was kept
    up >> ok(b"2")
    other << "HTTP/1.1 200 OK\n\n2"


def test_a_client_that_takes_nothing_is_given_up(conversation: Converse) -> None:
    talk = conversation(listener={"timeouts": {"client_write": "100ms"}})
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 50000000")
    assert up.pours(b"x" * 50_000_000) < 50_000_000
    up.is_gone()
    assert talk.stage.ended(Kind.SLOW_CLIENT) == 1
    assert talk.stage.totals("a").failed == 0
