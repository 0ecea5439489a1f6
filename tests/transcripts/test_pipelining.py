"""Pipelined requests are answered in order, with one at a time upstream (RFC 9112 section 9.3.2)."""

from __future__ import annotations

from .conftest import Converse
from .conversation import get, message, ok, post


def test_answers_come_in_the_order_of_the_requests(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/one") + get("/two")
    up = talk["a"].accepts()
    up << "GET /one HTTP/1.1"
    up.hears_nothing()  # the second waits for the first
    up >> ok(b"1")
    client << "HTTP/1.1 200 OK\n!connection\n\n1"
    up << "GET /two HTTP/1.1"
    up >> ok(b"2")
    client << "HTTP/1.1 200 OK\n\n2"
    client.hears_nothing()
    talk["a"].is_left_alone()  # one connection served both


def test_five_hundred_in_a_row(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> b"".join(get(f"/{number}") for number in range(500))
    up = talk["a"].accepts()
    for number in range(500):
        up << f"GET /{number} HTTP/1.1"
        up >> ok(b"%d" % number)
    for number in range(500):
        client << f"HTTP/1.1 200 OK\n\n{number}"
    client.hears_nothing()
    assert talk.stage.worker["answered"] == 500
    assert talk.stage.totals("a").connects == 1


def test_a_request_behind_a_body(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    chunked = message("PUT /b HTTP/1.1\nHost: h\nTransfer-Encoding: chunked") + b"3\r\nxyz\r\n0\r\n\r\n"
    client >> post("/a", b"hello") + chunked + get("/c")
    up = talk["a"].accepts()
    up << "POST /a HTTP/1.1\ncontent-length: 5\n\nhello"
    up.hears_nothing()
    up >> ok(b"a")
    up << "PUT /b HTTP/1.1\ntransfer-encoding: chunked\n\nxyz"
    up.hears_nothing()
    up >> ok(b"b")
    up << "GET /c HTTP/1.1"
    up >> ok(b"c")
    client << "HTTP/1.1 200 OK\n\na" << "HTTP/1.1 200 OK\n\nb" << "HTTP/1.1 200 OK\n\nc"


def test_nothing_is_served_behind_connection_close(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/last", "Connection: close") + get("/never")
    up = talk["a"].accepts()
    up << "GET /last HTTP/1.1"
    up >> ok(b"last")
    client << "HTTP/1.1 200 OK\nconnection: close\n\nlast"
    client.is_closed()
    up.hears_nothing()
    assert talk.stage.worker["requests"] == 1


def test_a_broken_request_waits_for_its_turn(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/good") + b"nonsense\r\n\r\n" + get("/never")
    up = talk["a"].accepts()
    up << "GET /good HTTP/1.1"
    client.hears_nothing()
    up >> ok(b"good")
    client << "HTTP/1.1 200 OK\n\ngood"
    client.reader.response_head()  # of the 400, whose body holds a request id
    assert client.reader.exactly(9) == b'{"error":'
    up.hears_nothing()


def test_a_slow_answer_holds_the_next_one_back(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/slow") + get("/fast")
    up = talk["a"].accepts()
    up << "GET /slow HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nTransfer-Encoding: chunked") + b"3\r\none\r\n"
    up.hears_nothing()
    up >> b"3\r\ntwo\r\n0\r\n\r\n"
    up << "GET /fast HTTP/1.1"
    up >> ok(b"fast")
    client << "HTTP/1.1 200 OK\n\nonetwo" << "HTTP/1.1 200 OK\n\nfast"


def test_each_answer_may_need_a_connection_of_its_own(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/1") + get("/2")
    for number in (1, 2):
        up = talk["a"].accepts()
        up << f"GET /{number} HTTP/1.1"
        up >> ok(b"%d" % number, "Connection: close")
        client << f"HTTP/1.1 200 OK\n!connection\n\n{number}"
        up.is_closed()
