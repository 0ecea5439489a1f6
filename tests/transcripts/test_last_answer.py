"""The end of a client's connection: at once where nothing can come any more, else not before the client's own end, so
that no reset overtakes the answer (RFC 9112, 9.6)."""

from __future__ import annotations

import pytest

from .conftest import Converse
from .conversation import Conversation, Peer, get, message, ok, post

CLOSE = "Connection: close"
# Through TLS the client's close_notify is waited for.
THROUGH_TLS = ("client", "both")


def answer(talk: Conversation, client: Peer, asked: str) -> None:
    """The backend answers the client's last request."""
    up = talk["a"].accepts()
    up << asked
    up >> ok(b"the last")
    client << f"HTTP/1.1 200 OK\n{CLOSE}\n\nthe last"
    talk.stage.settle()


@pytest.mark.parametrize("asked", [get("/", CLOSE), message("GET / HTTP/1.0\nHost: h.example")], ids=["close", "1.0"])
def test_who_says_that_it_was_the_last_request_is_not_waited_for(
    conversation: Converse, asked: bytes, side: str
) -> None:
    talk = conversation()
    client = talk.client()
    client >> asked
    answer(talk, client, "GET / HTTP/1.1")
    assert talk.stage.engine.connections == (side in THROUGH_TLS)
    client.is_closed()


def test_what_stands_behind_the_last_request_makes_no_reset(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/", CLOSE) + get("/never")
    answer(talk, client, "GET / HTTP/1.1")
    assert talk.stage.engine.connections == 1
    client >> get("/never")
    client.is_closed()
    client.finishes()
    talk.stage.settle()
    assert talk.stage.engine.connections == 0


def test_what_comes_behind_a_body_makes_no_reset(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> post("/", b"hello", CLOSE)
    answer(talk, client, "POST / HTTP/1.1\n\nhello")
    assert talk.stage.engine.connections == 1
    client >> b"\r\n"
    client.is_closed()
    client.finishes()
    talk.stage.settle()
    assert talk.stage.engine.connections == 0


def test_who_would_go_on_is_waited_for(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    talk.stage.listener.closing = True
    up >> ok(b"the last")
    client << f"HTTP/1.1 200 OK\n{CLOSE}\n\nthe last"
    talk.stage.settle()
    assert talk.stage.engine.connections == 1
    client >> get("/too late")
    client.is_closed()
    client.finishes()
    talk.stage.settle()
    assert talk.stage.engine.connections == 0
