"""Bytes beyond an answer never answer another request (fault 16), nor does one client hear another's answer."""

from __future__ import annotations

import pytest

from .conftest import Converse
from .conversation import Conversation, Head, Peer, get, message, ok

POISON = ok(b"poison")
CHUNKED = message("HTTP/1.1 200 OK\nTransfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n"

ANSWERS = {
    "length": ok(b"ok"),
    "chunked": CHUNKED,
    "no content": message("HTTP/1.1 204 No Content"),
    "empty": ok(),
}


def follows(talk: Conversation, client: Peer) -> None:
    """The next request has a connection of its own, and its own answer."""
    client >> get("/next")
    fresh = talk["a"].accepts()
    fresh << "GET /next HTTP/1.1"
    fresh >> ok(b"clean")
    client << "HTTP/1.1 200 OK\n\nclean"
    client.hears_nothing()


@pytest.mark.parametrize("kind", ANSWERS)
def test_surplus_in_the_same_packet(conversation: Converse, kind: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ANSWERS[kind] + POISON
    client << Head(ANSWERS[kind].split(b"\r\n")[0].decode())
    rest = b"2\r\nok\r\n0\r\n\r\n" if kind == "chunked" else b"ok" if kind == "length" else b""
    if rest:
        client << rest
    up.is_gone()
    follows(talk, client)


@pytest.mark.parametrize("kind", ANSWERS)
def test_surplus_that_comes_later(conversation: Converse, kind: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ANSWERS[kind]
    client << ("HTTP/1.1 204 No Content" if kind == "no content" else "HTTP/1.1 200 OK" + "\n\nok" * (kind != "empty"))
    up >> POISON
    up.is_gone()
    follows(talk, client)


@pytest.mark.parametrize("size", [16384, 65536, 1_000_000])
def test_surplus_right_behind_the_last_read(conversation: Converse, size: int) -> None:
    """The engine reads just to the end of the answer, into a full buffer or by splice: the surplus is still unread,
    and the kernel will not speak of it again."""
    # Head and body together; 16384 of them fill the first buffer.
    head = message(f"HTTP/1.1 200 OK\nContent-Length: {size - 42}")
    whole = head + b"x" * (size - 42)
    talk = conversation()
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up.pours(whole + POISON)
    client << Head("HTTP/1.1 200 OK") << whole[len(head) :]
    up.is_gone()
    follows(talk, client)


def test_surplus_that_comes_just_before_the_next_request(conversation: Converse) -> None:
    """The engine learns of both at once, and looks at the request first: what had arrived when that was sent cannot be
    its answer."""
    talk = conversation()
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok(b"ok")
    client << "HTTP/1.1 200 OK\n\nok"
    client >> get("/2")
    up >> POISON
    fresh = talk["a"].accepts()
    fresh << "GET /2 HTTP/1.1"
    fresh >> ok(b"clean")
    client << "HTTP/1.1 200 OK\n\nclean"
    assert talk.stage.totals("a").failed == 0


def test_a_pipelined_request_does_not_get_the_surplus(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/1") + get("/2")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok(b"ok") + POISON
    client << "HTTP/1.1 200 OK\n\nok"
    fresh = talk["a"].accepts()
    fresh << "GET /2 HTTP/1.1"
    fresh >> ok(b"clean")
    client << "HTTP/1.1 200 OK\n\nclean"


def test_a_body_behind_the_answer_to_head(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> message("HEAD /1 HTTP/1.1\nHost: h")
    up = talk["a"].accepts()
    up << "HEAD /1 HTTP/1.1"
    up >> ok(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    client << Head("HTTP/1.1 200 OK")
    client.hears_nothing()
    up.is_gone()
    follows(talk, client)


def test_an_answer_before_any_question(conversation: Converse) -> None:
    """A backend that speaks first: its bytes are on the way before the request is."""
    talk = conversation("ab")
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up >> POISON + POISON
    up << "GET /1 HTTP/1.1"
    client << "HTTP/1.1 200 OK\n\npoison"  # its own client's, which it may serve as it likes
    up.is_gone()
    follows(talk, client)


def test_two_clients_never_share_an_answer(conversation: Converse) -> None:
    talk = conversation()
    first, second = talk.client(), talk.client()
    first >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok(b"one") + ok(b"two")
    first << "HTTP/1.1 200 OK\n\none"
    second >> get("/2")
    fresh = talk["a"].accepts()
    fresh << "GET /2 HTTP/1.1"
    fresh >> ok(b"for the second")
    second << "HTTP/1.1 200 OK\n\nfor the second"
    first.hears_nothing()
