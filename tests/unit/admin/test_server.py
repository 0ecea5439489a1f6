"""The server against what a peer may send: one request, one answer, within limits, whatever comes behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from headgate.admin import server, wire
from headgate.admin.access import Access
from headgate.config.schema import Admin

from .client import ask, connected, raw, received
from .world import TOKEN, serving

AUTH = f"Authorization: Bearer {TOKEN}\r\n".encode()
# What a smuggled request would do, and what would show that it was done.
EVIL = b"DELETE /pools/web/backends/a HTTP/1.1\r\nHost: localhost\r\n" + AUTH + b"\r\n"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as (_, where, _):
        yield where


def statuses(answer: bytes) -> list[int]:
    """Of all answers in a connection's bytes."""
    return [int(found) for found in re.findall(rb"(?:^|\r\n\r\n|\n)HTTP/1\.1 (\d{3}) ", answer)]


def still_there(address: str) -> bool:
    return ask(address, "GET", "/pools/web/backends/a").status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + EVIL, 200),
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\n" + AUTH + b"Content-Length: 0\r\n\r\n" + EVIL, 405),
        (b"GET /status HTTP/1.1\r\nHost: localhost\r\n" + AUTH + b"Content-Length: 5\r\n\r\nhello" + EVIL, 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\n" + EVIL, 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0, 40\r\n\r\n" + EVIL, 400),
        (
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            + b"\r\n"
            + EVIL,
            400,
        ),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EVIL, 411),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n" + EVIL, 501),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n" + EVIL, 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n" + EVIL, 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n X: folded\r\n\r\n" + EVIL, 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n" + EVIL, 400),
        (b"GET /livez HTTP/1.1\r\n\r\n" + EVIL, 400),
        (b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n" + EVIL, 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EVIL, 505),
        (b"GET /livez\r\n\r\n" + EVIL, 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n" + EVIL, 405),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + EVIL, 200),
    ],
)
def test_nothing_is_smuggled_in(address: str, data: bytes, status: int) -> None:
    answer = raw(address, data)
    assert statuses(answer) == [status]
    assert b"\r\nConnection: close\r\n" in answer
    assert still_there(address)


@pytest.mark.parametrize("turns", range(6))
def test_who_was_just_accepted_is_answered_before_it_rests(turns: int) -> None:
    """However long a turn of the loop takes, and in whichever turn the end comes."""

    async def run() -> bytes:
        loop = asyncio.get_running_loop()

        async def handle(request: wire.Request) -> wire.Answer:
            return wire.Answer(200, b"{}")

        bound = socket.create_server(("127.0.0.1", 0))
        serving = server.Server(loop, Access(Admin(token=TOKEN)), lambda request: (True, 0), handle)
        with bound, socket.create_connection(bound.getsockname()) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await serving.start(bound.dup())

            resting = asyncio.Event()

            def slow() -> None:
                time.sleep(0.02)
                if not resting.is_set():
                    loop.call_soon(slow)

            loop.call_soon(slow)
            for _ in range(turns):
                await asyncio.sleep(0)
            await serving.rest()
            resting.set()
            # Accepted by now, and then answered; or still in the queue of the socket that is kept.
            bound.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                bound.accept()[0].close()
                return b"queued"
            client.settimeout(10)
            return client.recv(65536)

    answer = asyncio.run(run())
    assert answer == b"queued" or answer.startswith(b"HTTP/1.1 200 "), answer


PIECES = st.sampled_from(
    [
        *(
            b"GET /livez HTTP/1.1\r\n",
            b"POST /plan HTTP/1.1\r\n",
            b"Host: localhost\r\n",
            AUTH,
            b"Content-Length: 3\r\n",
        ),
        *(
            b"Transfer-Encoding: chunked\r\n",
            b"\r\n",
            b"\n",
            b"0\r\n\r\n",
            b"{}",
            b"Content-Length: 99999999999\r\n",
            b" ",
        ),
        *(
            b"Expect: 100-continue\r\n",
            b"Connection: keep-alive\r\n",
            b"\x00",
            b"Content-Length: -1\r\n",
            b"5\r\nhello\r\n",
        ),
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=12))
def test_at_most_one_answer_to_whatever_comes(address: str, pieces: list[bytes]) -> None:
    """Even when what follows would be a request of an operator's own."""
    before = b"".join(pieces)
    assume(before.strip(b"\r\n"))  # else the evil request is the first one, sent and not smuggled
    answer = raw(address, before + EVIL, finish=True).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert len(statuses(answer)) <= 1
    assert still_there(address)


def test_a_request_may_come_byte_by_byte(address: str) -> None:
    with connected(address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b"POST /plan HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        for byte in data + AUTH + b"\r\n{}":
            sock.sendall(bytes([byte]))
        assert statuses(received(sock)) == [200]


def test_a_head_answers_like_a_get_without_its_body(address: str) -> None:
    got = ask(address, "GET", "/log-level")
    head = ask(address, "HEAD", "/log-level")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"x" * wire.HEAD_LIMIT, 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * wire.HEAD_LIMIT, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * (wire.HEADERS_LIMIT + 1) + b"\r\n", 431),
        (b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\n" + AUTH + b"Content-Length: 65537\r\n\r\n", 413),
        (
            b"POST /plan HTTP/1.1\r\nHost: localhost\r\n"
            + AUTH
            + b"Content-Length: %d\r\n\r\n" % (wire.CONFIG_LIMIT + 1),
            413,
        ),
        (b"POST /plan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n", 401),
    ],
    ids=["target", "head", "fields", "body", "configuration", "stranger"],
)
def test_what_is_too_large_is_refused_before_it_is_read(address: str, data: bytes, status: int) -> None:
    assert statuses(raw(address, data)) == [status]


def test_the_answer_reaches_who_still_sends(address: str) -> None:
    """A refusal must not be lost in a reset because the rest of the body was never read."""
    with connected(address) as sock:
        head = b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\n" + AUTH + b"Content-Length: 200000\r\n\r\n"
        sock.sendall(head)
        sock.sendall(b"x" * 200000)
        assert statuses(received(sock)) == [413]


def test_expect_is_answered_only_to_who_may_send(address: str) -> None:
    head = b"POST /plan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
    with connected(address) as sock:
        sock.sendall(head + AUTH + b"Content-Type: application/json\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"{}")
        assert statuses(received(sock)) == [200]
    assert statuses(raw(address, head + b"\r\n")) == [401]


def test_who_is_slow_is_told_and_others_are_served_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.3)
    with serving() as (_, address, _), connected(address) as slow:
        slow.sendall(b"GET /status HTT")
        assert ask(address, "GET", "/livez").status == 200
        assert statuses(received(slow)) == [408]


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 3)
    with serving() as (_, address, _):
        held = [connected(address) for _ in range(3)]
        for sock in held:
            sock.sendall(b"GET /livez HTTP/1.1\r\n")
        # The kernel completes connections by itself; the answer shows that the server has seen them all.
        assert statuses(raw(address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")) == [503]
        held[0].sendall(b"Host: localhost\r\n\r\n")
        assert statuses(received(held[0])) == [200]
        assert statuses(raw(address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")) == [200]
        for sock in held:
            sock.close()


def test_a_peer_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "WRITE_S", 0.3)
    monkeypatch.setattr(server, "CONNECTIONS", 1)
    backends = [{"url": f"http://10.0.0.{n + 1}", "name": "n" * 190 + str(n)} for n in range(60)]
    tree = {"listeners": [{"bind": ":1"}], "pools": {"web": {"backends": backends, "health": {"type": "none"}}}}
    livez = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(tree=tree, path=tmp_path / "s") as (_, address, _), connected(address) as sock:
        # More than a unix socket's buffer holds (212,992 bytes with the bookkeeping).
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(1) == b"H"
        assert statuses(raw(address, livez)) == [503]
        deadline = time.monotonic() + 10
        while statuses(raw(address, livez)) != [200]:
            assert time.monotonic() < deadline, "its place was never free again"


def test_an_error_of_ours_is_logged_and_says_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headgate.observe.status.total_status", None)
    with caplog.at_level(logging.ERROR, logger="headgate.admin"):
        logging.getLogger("headgate").propagate = True
        reply = ask(address, "GET", "/status?", headers={"X-Secret": "s3cret"})
    assert reply.status == 500
    assert reply.json == {"error": "internal", "reason": "see the balancer's log"}
    assert "TypeError" in caplog.text
    assert TOKEN not in caplog.text
    assert "s3cret" not in caplog.text


def test_a_unix_socket_needs_no_token(tmp_path: Path) -> None:
    with serving(path=tmp_path / "s") as (_, address, _):
        assert statuses(raw(address, b"GET /status HTTP/1.1\r\nHost: whatever.example\r\n\r\n")) == [200]
        assert statuses(raw(address, b"GET /status HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n")) == [
            403
        ]
