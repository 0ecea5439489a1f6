"""Expect: 100-continue and the other interim answers (RFC 9110 sections 10.1.1 and 15.2)."""

from __future__ import annotations

import pytest

from headgate.errors import Kind

from .conftest import Converse
from .conversation import Head, answer, get, message, ok, request

EXPECT = message("PUT /x HTTP/1.1\nHost: h\nContent-Length: 5\nExpect: 100-continue")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_the_backend_is_asked_and_says_continue(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> EXPECT
    up = talk["a"].accepts()
    up << Head("PUT /x HTTP/1.1\nexpect: 100-continue\ncontent-length: 5")
    client.hears_nothing()  # it is the backend's to say
    up >> CONTINUE
    client << Head("HTTP/1.1 100 Continue")
    client >> b"hello"
    up << b"hello"
    up.hears_nothing()
    up >> ok(b"thanks")
    client << "HTTP/1.1 200 OK\n!connection\n\nthanks"
    # Both connections serve on.
    client >> get("/next")
    up << "GET /next HTTP/1.1\n!expect"
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_a_final_answer_instead_of_continue(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> EXPECT
    up = talk["a"].accepts()
    up << Head("PUT /x HTTP/1.1")
    up >> answer("417 Expectation Failed", b"no")
    client << "HTTP/1.1 417 Expectation Failed\nconnection: close\n\nno"
    client.is_closed()
    # Whether the body still comes cannot be known, so this connection has to go.
    up.is_closed()
    assert talk.stage.totals("a").failed == 0


def test_a_body_that_comes_without_having_been_asked_for(conversation: Converse) -> None:
    """The client waited for its time and then sent; the backend, which never says 100, hears everything once."""
    talk = conversation()
    client = talk.client()
    client >> EXPECT
    up = talk["a"].accepts()
    up << Head("PUT /x HTTP/1.1")
    client.hears_nothing()
    client >> b"hello"
    up << b"hello"
    up.hears_nothing()
    up >> ok(b"done")
    client << "HTTP/1.1 200 OK\n\ndone"


def test_a_body_that_crosses_the_continue(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> EXPECT
    up = talk["a"].accepts()
    up << Head("PUT /x HTTP/1.1")
    client >> b"hello"
    up >> CONTINUE + ok(b"done")
    client << Head("HTTP/1.1 100 Continue") << Head("HTTP/1.1 200 OK") << b"done"


def test_continue_that_nobody_asked_for_is_not_relayed(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> request("PUT", "/x", body=b"hello")
    up = talk["a"].accepts()
    up << "PUT /x HTTP/1.1\n!expect\n\nhello"
    up >> CONTINUE
    client.hears_nothing()
    up >> ok(b"done")
    client << "HTTP/1.1 200 OK\n\ndone"


def test_an_old_client_hears_no_interim_answers(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> message("PUT /x HTTP/1.0\nContent-Length: 5\nExpect: 100-continue") + b"hello"
    up = talk["a"].accepts()
    up << Head("PUT /x HTTP/1.1") << b"hello"
    up >> CONTINUE + message("HTTP/1.1 103 Early Hints\nLink: </a.css>")
    client.hears_nothing()
    up >> ok(b"done")
    client << "HTTP/1.1 200 OK\n\ndone"
    client.is_closed()


def test_early_hints_are_relayed_as_they_come(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    for name in "xy":
        up >> message(f"HTTP/1.1 103 Early Hints\nLink: </{name}.css>")
        client << Head(f"HTTP/1.1 103 Early Hints\nlink: </{name}.css>\n!content-length")
    up >> ok(b"page")
    client << "HTTP/1.1 200 OK\n\npage"


def test_what_we_answer_ourselves_asks_for_no_body(conversation: Converse) -> None:
    talk = conversation(listener={"limits": {"body": 4096}})
    client = talk.client()
    client >> message("PUT /x HTTP/1.1\nHost: h\nContent-Length: 5000\nExpect: 100-continue")
    client << Head("HTTP/1.1 413 Content Too Large\nconnection: close")
    talk["a"].is_left_alone()


def test_an_expectation_survives_a_refused_connection(conversation: Converse) -> None:
    talk = conversation("ab")
    talk["a"].refuses()
    client = talk.client()
    client >> EXPECT
    up = talk["b"].accepts()
    up << Head("PUT /x HTTP/1.1\nexpect: 100-continue")
    up >> CONTINUE
    client << Head("HTTP/1.1 100 Continue")
    client >> b"hello"
    up << b"hello"
    up >> ok(b"done")
    client << "HTTP/1.1 200 OK\n\ndone"


@pytest.mark.parametrize("status", ["100 Continue", "103 Early Hints"])
def test_a_backend_that_dies_after_an_interim_answer(conversation: Converse, status: str) -> None:
    """The client may still be told: an interim answer is no part of the final one. But it is not asked elsewhere."""
    talk = conversation("ab")
    client = talk.client()
    client >> EXPECT
    up = talk["a"].accepts()
    up << Head("PUT /x HTTP/1.1")
    up >> message(f"HTTP/1.1 {status}")
    client << Head(f"HTTP/1.1 {status}")
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway\nconnection: close")
    talk["b"].is_left_alone()
    assert talk.stage.ended(Kind.RESET) == 1
