"""A FIN from the client: gone, unless half-closing is allowed; in a tunnel each direction ends by itself."""

from __future__ import annotations

import pytest

from headgate.errors import Kind

from .conftest import Converse
from .conversation import Head, get, message, ok, post
from .test_upgrade import tunnel

ALLOWED = {"allow_half_close": True}


def test_fin_while_the_answer_is_awaited_means_gone(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    client.finishes()
    up.is_closed()
    client.is_closed()
    assert talk.stage.ended(Kind.CLIENT_GONE) == 1
    assert [line["status"] for line in talk.stage.log()] == [499]


def test_fin_right_behind_the_request_means_gone(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    client.finishes()
    client.is_closed()
    talk.stage.settle()
    assert talk.stage.ended(Kind.CLIENT_GONE) == 1
    assert talk.stage.totals("a").active == 0


def test_fin_after_the_request_where_it_is_allowed(conversation: Converse) -> None:
    talk = conversation(listener=ALLOWED)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    client.finishes()
    up.hears_nothing()
    up >> ok(b"for you")
    client << "HTTP/1.1 200 OK\n\nfor you"
    client.is_closed()
    assert talk.stage.ended(Kind.OK) == 1


def test_fin_with_the_request_where_it_is_allowed(conversation: Converse) -> None:
    talk = conversation(listener=ALLOWED)
    client = talk.client()
    client >> get("/1") + post("/2", b"hello")
    client.finishes()
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok(b"1")
    up << "POST /2 HTTP/1.1\n\nhello"
    up >> ok(b"2")
    client << "HTTP/1.1 200 OK\n\n1" << "HTTP/1.1 200 OK\n\n2"
    client.is_closed()


def test_fin_in_the_middle_of_a_long_answer_where_it_is_allowed(conversation: Converse) -> None:
    talk = conversation(listener=ALLOWED)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 10") + b"hello"
    client << Head("HTTP/1.1 200 OK") << b"hello"
    client.finishes()
    up.hears_nothing()
    up >> b"world"
    client << b"world"
    client.is_closed()


def test_fin_in_the_middle_of_a_body_is_never_allowed(conversation: Converse) -> None:
    talk = conversation(listener=ALLOWED)
    client = talk.client()
    client >> message("POST / HTTP/1.1\nHost: h\nContent-Length: 10") + b"hello"
    up = talk["a"].accepts()
    up << Head("POST / HTTP/1.1") << b"hello"
    client.finishes()
    up.is_closed()
    client.is_closed()
    assert talk.stage.ended(Kind.CLIENT_GONE) == 1
    assert talk.stage.totals("a").failed == 0


@pytest.mark.parametrize("total", [16_384, 16_384 + 1_000])
def test_fin_behind_what_the_first_read_takes_of_a_body(conversation: Converse, total: int) -> None:
    """What is known of a body is read before the backend is asked: an end that is met there must not be lost."""
    talk = conversation(listener=ALLOWED)
    client = talk.client()
    head = message("POST / HTTP/1.1\nHost: h\nContent-Length: 60000")
    client >> head + b"x" * (total - len(head))
    client.finishes()
    up = talk["a"].accepts()
    up << Head("POST / HTTP/1.1")
    client.is_closed()
    talk.stage.settle()
    assert talk.stage.ended(Kind.CLIENT_GONE) == 1
    assert talk.stage.totals("a").active == 0


def test_an_upload_is_passed_on_whole(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> post("/1", b"x" * 65_536) + get("/2")
    up = talk["a"].accepts()
    up << Head("POST /1 HTTP/1.1") << b"x" * 65_536
    up >> ok(b"1")
    up << "GET /2 HTTP/1.1"
    up >> ok(b"2")
    client << "HTTP/1.1 200 OK\n\n1" << "HTTP/1.1 200 OK\n\n2"


def test_fin_in_the_middle_of_a_chunked_body_makes_no_whole_of_it(conversation: Converse) -> None:
    talk = conversation(listener=ALLOWED)
    client = talk.client()
    client >> message("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked") + b"5\r\nhello\r\n"
    up = talk["a"].accepts()
    up << Head("POST / HTTP/1.1") << b"5\r\nhello\r\n"
    client.finishes()
    up.is_closed()


def test_fin_in_the_middle_of_a_head(conversation: Converse) -> None:
    talk = conversation(listener=ALLOWED)
    client = talk.client()
    client >> b"GET / HTTP/1.1\r\nHo"
    client.finishes()
    client.is_closed()
    talk["a"].is_left_alone()


def test_the_client_ends_its_direction_of_a_tunnel(conversation: Converse) -> None:
    talk = conversation()  # tunnels need no leave for it
    client, up = tunnel(talk)
    client >> b"that is all"
    client.finishes()
    up << b"that is all"
    up.is_closed()
    up >> b"a long" + b"!" * 300_000
    client << b"a long" + b"!" * 300_000
    up.leaves()
    client.is_closed()
    assert talk.stage.worker["tunnels"] == 0
    assert talk.stage.ended(Kind.OK) == 1


def test_the_backend_ends_its_direction_of_a_tunnel(conversation: Converse) -> None:
    talk = conversation()
    client, up = tunnel(talk)
    up >> b"that is all"
    up.finishes()
    client << b"that is all"
    client.is_closed()
    client >> b"still here" * 50_000
    up << b"still here" * 50_000
    client.leaves()
    up.is_closed()
    assert talk.stage.worker["tunnels"] == 0


def test_the_backend_ends_its_direction_of_an_ordinary_connection(conversation: Converse) -> None:
    """A backend that says FIN once it has read the request still answers (fault 12)."""
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 5") + b"he"
    client << Head("HTTP/1.1 200 OK") << b"he"
    up >> b"llo"
    up.finishes()
    client << b"llo"
    up.is_closed()
    client >> get("/next")
    fresh = talk["a"].accepts()
    fresh << "GET /next HTTP/1.1"
    fresh >> ok()
    client << "HTTP/1.1 200 OK"
