"""Clients behind a proxy that speaks the PROXY protocol, and backends that are spoken to in it."""

from __future__ import annotations

import logging
import socket
import struct

import pytest

from tests.protocol.test_proxy_protocol import BAD, BLOCK4, BLOCK6, EVERY_TLV, UNIX, binary, with_checksum

from .conftest import Converse
from .conversation import Peer, get, ok, post

LISTED = {"proxy_protocol": ["127.0.0.0/8"]}
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n"
BINARY = with_checksum(binary(1, 0x11, BLOCK4 + b"\x04\x00\x03abc"))
CLIENT = "X-Forwarded-For: 192.0.2.1\nX-Real-IP: 192.0.2.1"


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["v1", "v2"])
def test_the_header_and_a_request_cut_anywhere(conversation: Converse, header: bytes) -> None:
    talk = conversation(listener=LISTED)
    up = None
    said = header + get("/x")
    for cut in range(1, len(said)):
        client = talk.client()
        client >> said[:cut]
        talk.stage.settle()
        client >> said[cut:]
        up = up or talk["a"].accepts()
        up << f"GET /x HTTP/1.1\n{CLIENT}"
        up >> ok()
        client << "HTTP/1.1 200 OK"
        client.leaves()
    talk.stage.settle()
    assert talk.stage.worker["refused_connections"] == 0


def test_byte_by_byte_and_more_than_one_request(conversation: Converse) -> None:
    talk = conversation(listener=LISTED)
    client = talk.client()
    for byte in LINE:
        client >> bytes([byte])
        talk.stage.settle()
    client >> get("/1") + post("/2", b"hello")
    up = talk["a"].accepts()
    up << f"GET /1 HTTP/1.1\n{CLIENT}"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    # The header holds for the connection, and is said once.
    up << f"POST /2 HTTP/1.1\n{CLIENT}\n\nhello"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    client >> LINE
    client << b"HTTP/1.1 400 Bad Request\r\n"
    assert [line["client"] for line in talk.stage.log()] == ["192.0.2.1"] * 3


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (binary(1, 0x21, BLOCK6), "2001:db8::1"),
        (binary(1, 0x11, BLOCK4 + EVERY_TLV), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "2001:db8::1"),
        (b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n", "192.0.2.1"),
        # Who speaks for itself, or cannot say for whom, is the one who is connected.
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (b"PROXY UNKNOWN 192.0.2.1 198.51.100.2 1 2\r\n", "127.0.0.1"),
        (binary(0, 0x00, b""), "127.0.0.1"),
        (binary(0, 0x11, BLOCK4), "127.0.0.1"),
        (binary(1, 0x00, b""), "127.0.0.1"),
        (binary(1, 0x12, BLOCK4), "127.0.0.1"),
        (binary(1, 0x31, UNIX), "unix"),
    ],
)
def test_whose_the_connection_is(conversation: Converse, header: bytes, client: str) -> None:
    talk = conversation(listener=LISTED)
    caller = talk.client()
    caller >> header + get()
    up = talk["a"].accepts()
    up << f"GET / HTTP/1.1\nX-Forwarded-For: {client}\nX-Real-IP: {client}"
    up >> ok()
    caller << "HTTP/1.1 200 OK"
    assert [line["client"] for line in talk.stage.log()] == [client]


def test_a_tunnel_begins_behind_the_header(conversation: Converse) -> None:
    talk = conversation(listener=LISTED)
    client = talk.client()
    client >> BINARY + get("/ws", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==") + b"first"
    up = talk["a"].accepts()
    up << f"GET /ws HTTP/1.1\nUpgrade: websocket\n{CLIENT}"
    up >> b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    up << b"first"


# Refused


def test_what_is_no_header_is_not_answered(conversation: Converse) -> None:
    talk = conversation(listener=LISTED)
    for header, _ in BAD:
        client = talk.client()
        client >> header
        client.is_gone()
    assert talk.stage.worker["refused_connections"] == len(BAD)
    assert talk.stage.worker["requests"] == 0


def test_a_header_cut_short(conversation: Converse) -> None:
    talk = conversation(listener=LISTED)
    for header in (LINE, BINARY):
        client = talk.client()
        client >> header[:-1]
        client.finishes()
        client.is_gone()
    assert talk.stage.worker["refused_connections"] == 2


def test_who_says_nothing_at_all_is_no_news(conversation: Converse, caplog: pytest.LogCaptureFixture) -> None:
    """That is how many a balancer checks whether this one is there."""
    talk = conversation(listener=LISTED)
    client = talk.client()
    talk.stage.settle()
    client.leaves()
    talk.stage.settle()
    assert talk.stage.engine.connections == 0
    assert talk.stage.worker["refused_connections"] == 0
    assert caplog.messages == []


@pytest.mark.parametrize("said", [b"", LINE[:20], BINARY[:20]])
def test_the_header_has_its_time(conversation: Converse, said: bytes) -> None:
    talk = conversation(listener=LISTED | {"timeouts": {"client_header": 0.1}})
    client = talk.client()
    client >> said
    client.is_gone()
    assert talk.stage.worker["refused_connections"] == 1


def test_who_is_not_listed_is_refused(conversation: Converse, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    talk = conversation(listener={"proxy_protocol": ["192.0.2.0/24", "unix", "2001:db8::/32"]})
    for said in (b"", LINE + get(), get()):
        client = talk.client()
        client >> said
        client.is_gone()
    assert talk.stage.worker["refused_connections"] == 3
    assert talk.stage.worker["connections"] == 0
    # Said once, and not for each of them.
    (line,) = caplog.messages
    assert line == "listener 127.0.0.1:0: refused a connection from 127.0.0.1: its address is not in proxy_protocol"


def test_without_the_key_a_header_is_a_bad_request(conversation: Converse) -> None:
    talk = conversation()
    for header in (LINE, BINARY):
        client = talk.client()
        client >> header + get()
        client << b"HTTP/1.1 400 Bad Request\r\n"


# What follows from it


def test_trust_is_in_whom_the_header_names(conversation: Converse) -> None:
    talk = conversation(listener=LISTED | {"trusted_proxies": ["10.0.0.0/8"], "status_path": "/status"})
    talk.stage.listener.status = lambda: b"{}"
    forged = ("X-Forwarded-For: 7.7.7.7",)
    up = None
    for source, client in (("10.1.1.1", "7.7.7.7"), ("192.0.2.1", "192.0.2.1")):
        caller = talk.client()
        caller >> f"PROXY TCP4 {source} 198.51.100.2 1 2\r\n".encode() + get("/", *forged)
        up = up or talk["a"].accepts()
        up << f"GET / HTTP/1.1\nX-Real-IP: {client}"
        up >> ok()
        caller << "HTTP/1.1 200 OK"
        # Loopback may see it; those whose connections come over the loopback may not.
        caller >> get("/status", *forged)
        caller << b"HTTP/1.1 404 Not Found\r\n"
    checker = talk.client()
    checker >> b"PROXY UNKNOWN\r\n" + get("/status")
    checker << b"HTTP/1.1 200 OK\r\n"


def test_limits_are_those_of_the_client_named(conversation: Converse) -> None:
    talk = conversation(listener=LISTED | {"max_connections_per_client": 1, "ready_path": "/ready"})
    talk.stage.listener.ready = lambda: True

    def comes(address: str) -> Peer:
        client = talk.client()
        client >> f"PROXY TCP4 {address} 198.51.100.2 1 2\r\n".encode() + get("/ready")
        return client

    first = comes("192.0.2.1")
    first << b"HTTP/1.1 200 OK\r\n"
    comes("192.0.2.1").is_gone()
    comes("192.0.2.2") << b"HTTP/1.1 200 OK\r\n"
    first.leaves()
    talk.stage.settle()
    comes("192.0.2.1") << b"HTTP/1.1 200 OK\r\n"
    assert talk.stage.worker["refused_connections"] == 1


@pytest.mark.parametrize(
    ("form", "client", "forwarded_for", "forwarded"),
    [
        ("x", "2.2.2.2", ["2.2.2.2, 127.0.0.1"], ["for=1.1.1.1", "for=127.0.0.1;proto=http"]),
        ("rfc7239", "1.1.1.1", [], ["for=1.1.1.1", "for=127.0.0.1;host=h.example;proto=http"]),
        ("both", "2.2.2.2", ["2.2.2.2, 127.0.0.1"], ["for=2.2.2.2;host=h.example;proto=http"]),
    ],
)
def test_the_one_field_that_is_believed(
    conversation: Converse, form: str, client: str, forwarded_for: list[str], forwarded: list[str]
) -> None:
    talk = conversation(listener={"trusted_proxies": ["127.0.0.0/8"], "forwarded": form})
    caller = talk.client()
    caller >> get("/", "Forwarded: for=1.1.1.1", "X-Forwarded-For: 2.2.2.2")
    up = talk["a"].accepts()
    up << f"GET / HTTP/1.1\nX-Real-IP: {client}"
    assert up.last is not None
    assert up.last.headers("x-forwarded-for") == forwarded_for
    assert up.last.headers("forwarded") == forwarded
    up >> ok()
    caller << "HTTP/1.1 200 OK"
    assert [line["client"] for line in talk.stage.log()] == [client]


# To backends


def ends_of(client: Peer) -> bytes:
    """The line about this client's own socket."""
    (host, port), (to, to_port) = client.socket.getsockname(), client.socket.getpeername()
    return f"PROXY TCP4 {host} {to} {port} {to_port}\r\n".encode()


def test_a_backend_is_told_who_the_client_is(conversation: Converse) -> None:
    talk = conversation(proxy_protocol="v1")
    client = talk.client()
    for target in ("/1", "/2"):
        client >> post(target, b"hello")
        # The connection was this client's and this request's: the next one has a connection of its own.
        up = talk["a"].accepts()
        up << ends_of(client)
        up << f"POST {target} HTTP/1.1\n\nhello"
        up >> ok()
        client << "HTTP/1.1 200 OK"
        up.is_closed()
    assert talk.stage.totals("a").reused == 0


def test_version_2(conversation: Converse) -> None:
    talk = conversation(proxy_protocol="v2")
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    (host, port), (to, to_port) = client.socket.getsockname(), client.socket.getpeername()
    up << binary(1, 0x11, socket.inet_aton(host) + socket.inet_aton(to) + struct.pack("!HH", port, to_port))
    up << "GET / HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_what_we_were_told_is_told_on(conversation: Converse) -> None:
    talk = conversation(listener=LISTED, proxy_protocol="v2")
    for header, told in [
        (LINE, binary(1, 0x11, BLOCK4)),
        (binary(1, 0x21, BLOCK6 + EVERY_TLV), binary(1, 0x21, BLOCK6)),
        (binary(1, 0x31, UNIX), binary(1, 0x00, b"")),
    ]:
        client = talk.client()
        client >> header + get()
        up = talk["a"].accepts()
        up << told
        up << "GET / HTTP/1.1"
        up >> ok()
        client << "HTTP/1.1 200 OK"


def test_a_client_named_by_a_trusted_proxy_has_no_port(conversation: Converse) -> None:
    talk = conversation(listener={"trusted_proxies": ["127.0.0.0/8"]}, proxy_protocol="v1")
    client = talk.client()
    for address, family in (("192.0.2.1", "TCP4"), ("2001:db8::1", "TCP6")):
        client >> get("/", f"X-Forwarded-For: {address}")
        up = talk["a"].accepts()
        (to, port) = client.socket.getpeername()
        up << f"PROXY {family} {address} {'' if family == 'TCP4' else '::ffff:'}{to} 0 {port}\r\n".encode()
        up << "GET / HTTP/1.1"
        up >> ok()
        client << "HTTP/1.1 200 OK"


def test_another_attempt_is_introduced_too(conversation: Converse) -> None:
    talk = conversation("ab", proxy_protocol="v1")
    client = talk.client()
    client >> get()
    first = talk["a"].accepts()
    first << ends_of(client)
    first << "GET / HTTP/1.1"
    first.resets()
    second = talk["b"].accepts()
    second << ends_of(client)
    second << "GET / HTTP/1.1"
    second >> ok()
    client << "HTTP/1.1 200 OK"


def test_connections_kept_from_before_are_not_used(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/1")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    talk.stage.reconfigure(proxy_protocol="v1")
    up.is_closed()
    client >> get("/2")
    up = talk["a"].accepts()
    up << ends_of(client)
    up << "GET /2 HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
