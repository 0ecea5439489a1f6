"""What is not HTTP, or too much of it, is answered by the balancer itself and ends the connection."""

from __future__ import annotations

import pytest

from .conftest import Balance, MakeBackend
from .harness.client import head


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 150 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, 400),
    ],
)
def test_refused_and_closed(make_backend: MakeBackend, balance: Balance, data: bytes, status: int) -> None:
    backend = make_backend()
    headgate = balance(backend)
    with headgate.client() as client:
        client.send(data)
        answer = client.response()
        assert answer.status == status
        assert answer.header("content-type") == "application/json"
        assert set(answer.json()) >= {"error", "reason", "request_id"}
        assert client.closed_by_peer()
    assert backend.requests == []
    # The balancer is none the worse for it.
    assert headgate.get().status == 200


def test_a_body_above_the_limit(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, listener={"limits": {"body": "1KiB"}})
    with headgate.client() as client:
        assert client.request("POST", "/", body=b"x" * 1024).status == 200
        client.send(head("POST", "/", [("Content-Length", "1025")]) + b"x" * 1025)
        assert client.response().status == 413
        assert client.closed_by_peer()
    assert len(backend.requests) == 1


def test_a_chunked_body_above_the_limit(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, listener={"limits": {"body": "1KiB"}})
    with headgate.client() as client:
        client.send(head("POST", "/", [("Transfer-Encoding", "chunked")]) + b"800\r\n" + b"x" * 2048 + b"\r\n0\r\n\r\n")
        assert client.response().status == 413
        assert client.closed_by_peer()
    assert backend.requests == []


def test_limits_can_be_set(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), listener={"limits": {"head": "4KiB", "headers": 10, "request_line": "1KiB"}})
    for data, status in [
        (head("GET", "/" + "a" * 900), 200),
        (head("GET", "/" + "a" * 1100), 414),
        (head("GET", "/", [("X", "y")] * 9), 200),
        (head("GET", "/", [("X", "y")] * 11), 431),
        (head("GET", "/", [("X", "y" * 5000)]), 431),
    ]:
        with headgate.client() as client:
            client.send(data)
            assert client.response().status == status
