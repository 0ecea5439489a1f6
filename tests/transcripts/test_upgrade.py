"""Upgrade: after 101 both connections carry opaque bytes (RFC 9110 section 7.8, RFC 6455)."""

from __future__ import annotations

import pytest

from .conftest import Converse
from .conversation import Conversation, Head, Peer, get, message, ok

WEBSOCKET = (
    "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13"
)
ASK = message(f"GET /chat HTTP/1.1\nHost: h\n{WEBSOCKET}")
SWITCH = message("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Accept: x")
ASKED = Head("GET /chat HTTP/1.1\nupgrade: websocket\nconnection: upgrade")
SWITCHED = Head("HTTP/1.1 101 Switching Protocols\nupgrade: websocket\nsec-websocket-accept: x")


def tunnel(talk: Conversation) -> tuple[Peer, Peer]:
    """A client and a backend that have switched."""
    client = talk.client()
    client >> ASK
    up = talk["a"].accepts()
    up << ASKED
    up >> SWITCH
    client << SWITCHED
    return client, up


def test_accepted(conversation: Converse) -> None:
    talk = conversation()
    client, up = tunnel(talk)
    client >> b"\x81\x05hello"
    up << b"\x81\x05hello"
    up >> b"\x81\x05world" + bytes(100_000)
    client << b"\x81\x05world" + bytes(100_000)
    # In a tunnel nothing looks like HTTP any more.
    client >> get("/not-a-request")
    up << get("/not-a-request")
    assert talk.stage.worker["tunnels"] == 1
    assert talk.stage.totals("a").active == 1
    client.finishes()
    up.is_closed()
    up.leaves()
    client.is_closed()
    assert talk.stage.worker["tunnels"] == 0
    assert talk.stage.totals("a").active == 0
    assert [line["status"] for line in talk.stage.log()] == [101]


def test_refused_is_an_ordinary_answer(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> ASK
    up = talk["a"].accepts()
    up << ASKED
    up >> ok(b"no websockets here")
    client << "HTTP/1.1 200 OK\n!upgrade\n!connection\n\nno websockets here"
    client >> get("/next")
    up << "GET /next HTTP/1.1"
    up >> ok(b"next")
    client << "HTTP/1.1 200 OK\n\nnext"


def test_a_refused_upgrade_is_followed_by_what_was_pipelined(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> ASK + get("/next")
    up = talk["a"].accepts()
    up << ASKED
    up.hears_nothing()
    up >> ok(b"no")
    up << "GET /next HTTP/1.1"
    up >> ok(b"next")
    client << "HTTP/1.1 200 OK\n\nno" << "HTTP/1.1 200 OK\n\nnext"


def test_bytes_that_follow_the_question_wait_for_101(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> ASK + b"early bytes"
    up = talk["a"].accepts()
    up << ASKED
    up.hears_nothing()
    up >> SWITCH
    client << SWITCHED
    up << b"early bytes"


def test_bytes_that_come_with_101(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> ASK
    up = talk["a"].accepts()
    up << ASKED
    up >> SWITCH + b"\x81\x02hi"
    client << SWITCHED << b"\x81\x02hi"
    client >> b"\x81\x02ho"
    up << b"\x81\x02ho"


def test_the_backend_says_goodbye_with_101(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> ASK
    up = talk["a"].accepts()
    up << ASKED
    up >> SWITCH + b"bye"
    up.finishes()
    client << SWITCHED << b"bye"
    client.is_closed()
    client >> b"goodbye"  # the other direction is still open
    up << b"goodbye"


def test_an_upgrade_takes_a_connection_of_its_own(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/before")
    up = talk["a"].accepts()
    up << "GET /before HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    client >> ASK
    fresh = talk["a"].accepts()
    fresh << ASKED
    up.hears_nothing()


def test_101_that_nobody_asked_for(conversation: Converse) -> None:
    talk = conversation(retry={"retries": 0})
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1\n!upgrade"
    up >> SWITCH + b"raw"
    client << Head("HTTP/1.1 502 Bad Gateway")
    up.is_gone()
    assert talk.stage.worker["tunnels"] == 0


@pytest.mark.parametrize(
    "fields",
    [
        "Connection: Upgrade\nUpgrade: foo",
        "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Upgrade: websocket",  # without Connection it is nothing
    ],
)
def test_what_the_route_does_not_allow_is_not_offered(conversation: Converse, fields: str) -> None:
    talk = conversation()
    client = talk.client()
    client >> message(f"GET / HTTP/1.1\nHost: h\n{fields}")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1\n!upgrade\n!http2-settings"
    up >> ok(b"plain")
    client << "HTTP/1.1 200 OK\n\nplain"


def test_another_protocol_that_the_route_allows(conversation: Converse) -> None:
    talk = conversation(route={"upgrade": ["Foo"]})
    client = talk.client()
    client >> message("GET / HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: foo")
    up = talk["a"].accepts()
    up << Head("GET / HTTP/1.1\nupgrade: foo")
    up >> message("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: foo") + b"foo!"
    client << Head("HTTP/1.1 101 Switching Protocols\nupgrade: foo") << b"foo!"


def test_an_upgrade_is_tried_elsewhere_only_if_nothing_was_sent(conversation: Converse) -> None:
    talk = conversation("abc")
    talk["a"].refuses()
    client = talk.client()
    client >> ASK
    up = talk["b"].accepts()
    up << ASKED
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    talk["c"].is_left_alone()


def test_a_silent_tunnel_ends(conversation: Converse) -> None:
    talk = conversation(timeouts={"tunnel_idle": "50ms"})
    client, up = tunnel(talk)
    client.is_reset()
    up.is_gone()
    assert talk.stage.worker["tunnels"] == 0
    assert talk.stage.totals("a").failed == 0


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_tunnel_that_breaks_on_one_side_breaks_on_the_other(conversation: Converse, who: str) -> None:
    talk = conversation()
    client, up = tunnel(talk)
    breaks, notices = (client, up) if who == "client" else (up, client)
    breaks.resets()
    notices.is_gone()
    assert talk.stage.worker["tunnels"] == 0
    assert talk.stage.totals("a").failed == 0
