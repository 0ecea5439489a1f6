"""An answer that is cut short is seen to be (promise P4)."""

from __future__ import annotations

import pytest

from headgate.errors import Kind

from .conftest import Converse
from .conversation import Head, Peer, get, message, ok

LENGTH = message("HTTP/1.1 200 OK\nContent-Length: 10") + b"hello"
CHUNKED = message("HTTP/1.1 200 OK\nTransfer-Encoding: chunked") + b"5\r\nhello\r\n"
CLOSE = message("HTTP/1.1 200 OK") + b"hello"


def ends(up: Peer, how: str) -> None:
    up.leaves() if how == "leaves" else up.resets()


every_way = pytest.mark.parametrize("how", ["leaves", "resets"])


@every_way
def test_content_length(conversation: Converse, how: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> LENGTH
    client << Head("HTTP/1.1 200 OK\ncontent-length: 10") << b"hello"
    ends(up, how)
    client.is_closed()  # five bytes too early, which is what shows it
    assert talk.stage.ended(Kind.TRUNCATED) == 1
    assert talk.stage.totals("a").failed == 1


@every_way
def test_chunked(conversation: Converse, how: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> CHUNKED
    client << Head("HTTP/1.1 200 OK\ntransfer-encoding: chunked") << b"5\r\nhello\r\n"
    ends(up, how)
    client.is_closed()  # and no last chunk was made up
    assert talk.stage.ended(Kind.TRUNCATED) == 1


@every_way
def test_within_a_chunk(conversation: Converse, how: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nTransfer-Encoding: chunked") + b"ff\r\nhello"
    client << Head("HTTP/1.1 200 OK") << b"5\r\nhello\r\n"
    ends(up, how)
    client.is_closed()


def test_without_the_end_of_the_trailers(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> CHUNKED + b"0\r\n"
    client << Head("HTTP/1.1 200 OK") << b"5\r\nhello\r\n"
    up.leaves()
    client.is_closed()


def test_the_end_of_a_body_without_length_is_its_end(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> CLOSE
    up.leaves()
    client << "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\nhello"
    assert talk.stage.ended(Kind.OK) == 1


def test_a_reset_in_a_body_without_length(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> CLOSE
    client << Head("HTTP/1.1 200 OK\ntransfer-encoding: chunked") << b"5\r\nhello\r\n"
    up.resets()
    client.is_closed()


@pytest.mark.parametrize("said", [CLOSE, CHUNKED])
def test_an_old_client_sees_a_reset(conversation: Converse, said: bytes) -> None:
    """HTTP/1.0 knows no chunks: FIN would be the end of the body, so it must not be FIN."""
    talk = conversation()
    client = talk.client()
    client >> message("GET / HTTP/1.0")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> said
    client << Head("HTTP/1.1 200 OK\n!transfer-encoding\nconnection: close") << b"hello"
    up.resets()
    client.is_reset()


@pytest.mark.parametrize("broken", [b"xyz\r\nhello\r\n", b"5\r\nhelloXX5\r\n", b"-5\r\n", b"10000000000000000\r\n"])
def test_chunks_that_are_none(conversation: Converse, broken: bytes) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> CHUNKED
    client << Head("HTTP/1.1 200 OK") << b"5\r\nhello\r\n"
    up >> broken
    up.is_gone()
    assert b"\r\n0\r\n" not in client.reader.rest()
    assert talk.stage.ended(Kind.BAD_BODY) == 1


def test_a_body_that_stalls(conversation: Converse) -> None:
    talk = conversation(timeouts={"body_idle": "50ms"})
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> LENGTH
    client << Head("HTTP/1.1 200 OK") << b"hello"
    client.is_closed()
    up.is_gone()
    assert talk.stage.ended(Kind.BODY_TIMEOUT) == 1


def test_a_pipelined_request_is_not_answered_behind_a_cut(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/1") + get("/2")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> LENGTH
    client << Head("HTTP/1.1 200 OK") << b"hello"
    up.leaves()
    client.is_closed()
    talk["a"].is_left_alone()


def test_a_large_body_that_goes_by_splice_is_cut_visibly(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 1000000")
    client << Head("HTTP/1.1 200 OK")
    for _ in range(9):
        up >> b"x" * 100_000
        client << b"x" * 100_000
    up >> b"y" * 99_999
    up.leaves()
    client << b"y" * 99_999
    client.is_closed()


def test_the_next_request_of_another_client_is_well(conversation: Converse) -> None:
    talk = conversation()
    client, other = talk.client(), talk.client()
    client >> get("/cut")
    up = talk["a"].accepts()
    up << "GET /cut HTTP/1.1"
    up >> CHUNKED
    client << Head("HTTP/1.1 200 OK") << b"5\r\nhello\r\n"
    up.leaves()
    client.is_closed()
    other >> get("/whole")
    fresh = talk["a"].accepts()
    fresh << "GET /whole HTTP/1.1"
    fresh >> ok(b"whole")
    other << "HTTP/1.1 200 OK\n\nwhole"
