"""Real servers as backends, each with its own habits of framing, keep-alive and closing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import Balance
from .harness.client import Client, head
from .harness.headgate import Headgate
from .harness.processes import Processes
from .harness.servers import KINDS, STARTERS, Server

MIB = 1 << 20
LARGE = 8 * MIB
# Servers that answer one request on each connection.
CLOSING = ("http.server 1.0", "gunicorn sync")

StartServer = Callable[[str, str], Server]


@pytest.fixture
def start_server(processes: Processes, stack: ExitStack, tmp_path: Path) -> StartServer:
    def start(kind: str, name: str) -> Server:
        server = Server(processes, kind, name, tmp_path)
        stack.callback(server.close)
        stack.callback(processes.close)
        return server

    return start


def digest(body: bytes) -> bytes:
    """What the sites answer to an upload."""
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def check_reading(client: Client, name: str) -> None:
    for _ in range(5):
        answer = client.get("/")
        assert (answer.status, answer.body.decode()) == (200, f"{name}\n")
        assert len(answer.headers("date")) == 1
    answer = client.request("HEAD", "/bytes/1000")
    assert (answer.status, answer.headers("content-length")) == (200, ["1000"])
    answer = client.get(f"/bytes/{LARGE}")
    assert (answer.status, answer.headers("content-length"), answer.body) == (200, [str(LARGE)], b"x" * LARGE)


def check_writing(client: Client) -> None:
    large = bytes(range(256)) * (LARGE // 256)
    for method in ["POST", "PUT"]:
        for body in [b"", b"hello", large]:
            assert client.request(method, "/", body=body).body == digest(body)
    for body in [b"", b"hello", large]:
        client.send(head("POST", "/", [("Transfer-Encoding", "chunked")]) + chunked(body, 100_000))
        assert client.response().body == digest(body)
    client.send(head("POST", "/", [("Expect", "100-continue"), ("Content-Length", "5")]))
    assert client.response(interim=True).status == 100
    client.send(b"hello")
    assert client.response().body == digest(b"hello")


@pytest.mark.parametrize("kind", STARTERS)
def test_a_server(start_server: StartServer, balance: Balance, kind: str) -> None:
    server = start_server(kind, "one")
    headgate = balance(server.url)
    # One connection throughout, whatever the server does with its own.
    with headgate.client() as client:
        check_reading(client, "one")
        answer = client.get(f"/chunked/{LARGE}")
        assert (answer.headers("transfer-encoding"), answer.body) == (["chunked"], b"x" * LARGE)
        if kind == "http.server 1.0":
            # It knows no 100 and waits for the body; so does its client, for a while.
            assert client.request("POST", "/", [("Expect", "100-continue")], b"hello").body == digest(b"hello")
        else:
            check_writing(client)
    check_http10_client(headgate)
    counted = headgate.backend(server.url)
    assert counted["failed"] == 0
    assert (counted["reusedConnections"] > 5) is (kind not in CLOSING)


def check_http10_client(headgate: Headgate) -> None:
    for target in ["/bytes/100000", "/chunked/100000"]:
        with headgate.client() as client:
            client.send(f"GET {target} HTTP/1.0\r\nHost: h\r\n\r\n".encode())
            answer = client.response()
            assert (answer.body, answer.headers("transfer-encoding")) == (b"x" * 100_000, [])
            assert client.closed_by_peer()


def test_nginx(start_server: StartServer, balance: Balance, tmp_path: Path) -> None:
    server = start_server("nginx", "one")
    (tmp_path / "files" / "bytes").mkdir()
    for size in [1000, LARGE]:
        (tmp_path / "files" / "bytes" / str(size)).write_bytes(b"x" * size)
    headgate = balance(server.url)
    body = bytes(range(256)) * (LARGE // 256)
    with headgate.client() as client:
        check_reading(client, "one")
        assert client.request("PUT", "/put/length", body=body).status == 201
        client.send(head("PUT", "/put/chunked", [("Transfer-Encoding", "chunked")]) + chunked(body, 100_000))
        assert client.response().status == 201
        client.send(head("PUT", "/put/expected", [("Expect", "100-continue"), ("Content-Length", "5")]))
        assert client.response(interim=True).status == 100
        client.send(b"hello")
        assert client.response().status == 201
        for name, expected in [("length", body), ("chunked", body), ("expected", b"hello")]:
            assert client.get(f"/put/{name}").body == expected
        # Part of a file, and none of it.
        answer = client.get("/bytes/1000", [("Range", "bytes=10-19")])
        assert (answer.status, answer.body) == (206, b"x" * 10)
        tag = answer.header("etag")
        assert tag is not None
        assert client.get("/bytes/1000", [("If-None-Match", tag)]).status == 304
        # It answers before it has read the body, and does not mind.
        assert client.request("POST", "/bytes/1000", body=b"x" * 100_000).status == 405
    counted = headgate.backend(server.url)
    assert (counted["failed"], counted["reusedConnections"] > 5) == (0, True)


def test_all_of_them_in_one_pool(start_server: StartServer, balance: Balance) -> None:
    servers = [start_server(kind, kind) for kind in KINDS]
    headgate = balance(*(server.url for server in servers))
    assert Counter(headgate.names(4 * len(servers))) == dict.fromkeys(KINDS, 4)
