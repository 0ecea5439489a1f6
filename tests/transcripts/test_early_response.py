"""An answer that comes before the request is complete ends the upload; the client hears it (RFC 9112 section 9.3)."""

from __future__ import annotations

import pytest

from .conftest import Converse
from .conversation import Head, answer, get, message, ok

UPLOAD = message("POST /big HTTP/1.1\nHost: h\nContent-Length: 1000000")
PART = b"x" * 1000


@pytest.mark.parametrize("goes", ["leaves", "finishes", "stays"])
def test_413_while_uploading(conversation: Converse, goes: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> UPLOAD + PART
    up = talk["a"].accepts()
    up << Head("POST /big HTTP/1.1\ncontent-length: 1000000") << PART
    up >> answer("413 Content Too Large", b"too much")
    if goes == "leaves":
        up.leaves()
    elif goes == "finishes":
        up.finishes()
    client << "HTTP/1.1 413 Content Too Large\nconnection: close\n\ntoo much"
    client.is_closed()
    if goes != "leaves":
        up.is_closed()  # a request that stays incomplete cannot be followed by another
    # What the client was still sending is swallowed for a while, so that no reset overtakes the answer.
    client >> PART
    talk.stage.settle()
    client.leaves()
    talk.stage.settle()
    assert talk.stage.engine.connections == 0
    assert talk.stage.totals("a").failed == 0
    assert talk.stage.totals("a").idle == 0


def test_413_while_the_client_pours(conversation: Converse) -> None:
    """The upload is stuck in full buffers when the answer comes, and the backend resets."""
    talk = conversation()
    client = talk.client()
    client >> message("POST /big HTTP/1.1\nHost: h\nContent-Length: 100000000")
    up = talk["a"].accepts()
    up << Head("POST /big HTTP/1.1")
    poured = client.pours(b"x" * 50_000_000)
    assert poured < 50_000_000  # nobody collects what the backend does not read
    up >> answer("413 Content Too Large", b"too much")
    client << "HTTP/1.1 413 Content Too Large\nconnection: close\n\ntoo much"


def test_a_chunked_upload_is_stopped_too(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> message("POST /big HTTP/1.1\nHost: h\nTransfer-Encoding: chunked") + b"5\r\nhello\r\n"
    up = talk["a"].accepts()
    up << Head("POST /big HTTP/1.1\ntransfer-encoding: chunked") << b"5\r\nhello\r\n"
    up >> answer("401 Unauthorized", b"who?")
    client << "HTTP/1.1 401 Unauthorized\nconnection: close\n\nwho?"
    client.is_closed()
    up.is_closed()  # and no last chunk, which would make a whole of a part


def test_an_early_answer_without_end(conversation: Converse) -> None:
    """The answer begins while the upload runs, and goes on after it: neither is cut."""
    talk = conversation()
    client = talk.client()
    client >> message("POST /echo HTTP/1.1\nHost: h\nContent-Length: 10") + b"hello"
    up = talk["a"].accepts()
    up << Head("POST /echo HTTP/1.1") << b"hello"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 10") + b"hello"
    client << Head("HTTP/1.1 200 OK\ncontent-length: 10\nconnection: close") << b"hello"
    client >> b"world"
    up << b"world"
    up >> b"world"
    client << b"world"
    client.is_closed()
    assert talk.stage.worker["answered"] == 1


def test_our_own_413_leaves_the_backend_alone(conversation: Converse) -> None:
    talk = conversation(listener={"limits": {"body": 500_000}})
    client = talk.client()
    client >> UPLOAD + PART
    client << Head("HTTP/1.1 413 Content Too Large\nconnection: close")
    talk["a"].is_left_alone()


def test_a_chunked_body_over_the_limit_is_never_made_whole(conversation: Converse) -> None:
    talk = conversation(listener={"limits": {"body": 4096}})
    client = talk.client()
    client >> message("POST /big HTTP/1.1\nHost: h\nTransfer-Encoding: chunked") + b"3e8\r\n" + PART + b"\r\n"
    up = talk["a"].accepts()
    up << Head("POST /big HTTP/1.1\ntransfer-encoding: chunked") << b"3e8\r\n" + PART + b"\r\n"
    client >> (b"1000\r\n" + b"y" * 4096 + b"\r\n0\r\n\r\n")
    client << Head("HTTP/1.1 413 Content Too Large\nconnection: close")
    up.is_gone()
    assert talk.stage.totals("a").failed == 0


def test_the_next_client_is_served_after_an_early_answer(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> UPLOAD + PART
    up = talk["a"].accepts()
    up << Head("POST /big HTTP/1.1") << PART
    up >> answer("403 Forbidden", b"no")
    client << "HTTP/1.1 403 Forbidden\n\nno"
    other = talk.client()
    other >> get("/next")
    fresh = talk["a"].accepts()
    fresh << "GET /next HTTP/1.1"
    fresh >> ok(b"yes")
    other << "HTTP/1.1 200 OK\n\nyes"
