"""The stream as it goes over a socket, and the page's files."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.admin import page, server
from headgate.config.schema import Admin

from ...e2e.harness.waiting import eventually
from .client import ask, connected, received
from .world import TOKEN, World, serving

GET = f"GET /stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()


class Served:
    def __init__(self, world: World, address: str, within: Any) -> None:
        self.world, self.address, self.within = world, address, within


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as (world, address, within):
        yield Served(world, address, within)


class Reading:
    """One open stream."""

    def __init__(self, address: str, request: bytes = GET) -> None:
        self.sock = connected(address)
        self.sock.sendall(request)
        self.file = self.sock.makefile("rb")
        self.head = b"".join(iter(self.file.readline, b"\r\n")).decode()

    def event(self) -> tuple[str, Any]:
        name = self.file.readline().decode().strip().removeprefix("event: ")
        data = self.file.readline().removeprefix(b"data: ")
        assert self.file.readline() == b"\n"
        return name, json.loads(data)

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    @property
    def ended(self) -> bool:
        """Whether it ends, after what is left of it."""
        try:
            while self.file.readline():
                pass
        except ConnectionError:
            pass
        return True


def test_a_stream_says_everything_and_goes_on(served: Served) -> None:
    reading = Reading(served.address)
    assert reading.head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/event-stream\r\n" in reading.head
    assert "Content-Length" not in reading.head
    assert reading.event()[0] == "state"
    ticks = [reading.event() for _ in range(2)]
    assert [name for name, _ in ticks] == ["tick", "tick"]
    reading.close()


@pytest.mark.parametrize(
    ("lines", "status", "word"),
    [
        ("", 401, "token_missing"),
        ("Authorization: Bearer not-the-token-at-all\r\n", 401, "token_wrong"),
        (f"Authorization: Bearer {TOKEN}\r\nOrigin: http://evil.example\r\n", 403, "cross_origin"),
        (f"Authorization: Bearer {TOKEN}\r\nSec-Fetch-Site: cross-site\r\n", 403, "cross_origin"),
        (
            f"Authorization: Bearer {TOKEN}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
            403,
            "cross_origin",
        ),
    ],
)
def test_a_stream_is_not_for_everybody(served: Served, lines: str, status: int, word: str) -> None:
    request = f"GET /stream HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()
    with connected(served.address) as sock:
        sock.sendall(request)
        answer = received(sock)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert word.encode() in answer


def test_a_name_that_nobody_gave_is_refused(served: Served) -> None:
    with connected(served.address) as sock:
        sock.sendall(GET.replace(b"localhost", b"rebound.example"))
        assert received(sock).startswith(b"HTTP/1.1 421 ")


def test_over_the_unix_socket_no_token_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with serving(path=path, admin=Admin()) as (_, address, _):
        reading = Reading(address, b"GET /stream HTTP/1.1\r\nHost: localhost:9900\r\n\r\n")
        assert reading.event()[0] == "state"
        reading.close()
        reading = Reading(address, b"GET /dashboard/access HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert json.loads(reading.file.read()) == {"token": False}
        reading.close()


def test_what_is_malformed_is_refused(served: Served) -> None:
    assert ask(served.address, "GET", "/stream?after=-1").status == 400
    assert ask(served.address, "GET", "/stream?what=1").status == 400
    assert ask(served.address, "POST", "/stream").status == 405
    assert ask(served.address, "HEAD", "/stream").headers["content-type"] == "text/event-stream"


def test_streams_do_not_keep_others_from_asking(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STREAMS", 3)
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    readings = [Reading(served.address) for _ in range(3)]
    assert [reading.event()[0] for reading in readings] == ["state"] * 3
    refused = ask(served.address, "GET", "/stream")
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert ask(served.address, "GET", "/status").status == 200
    readings.pop().close()
    # The place is free as soon as the reader's leaving has been noticed.
    readings.append(_there(eventually(lambda: _open(served.address), "a place")))
    for reading in readings:
        reading.close()


def _there(reading: Reading | None) -> Reading:
    assert reading is not None
    return reading


def _open(address: str) -> Reading | None:
    reading = Reading(address)
    if "200 OK" in reading.head:
        return reading
    reading.close()
    return None


def test_a_reader_that_leaves_is_forgotten(served: Served) -> None:
    feed = served.within(lambda: served.world.feed)
    reading = Reading(served.address)
    reading.event()
    assert len(feed._readers) == 1
    reading.close()
    eventually(lambda: not feed._readers, "the reader to be forgotten")


def test_a_reader_that_takes_nothing_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WRITE_S", 0.2)
    feed = served.world.feed
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    host, _, port = served.address.rpartition(":")
    sock.connect((host, int(port)))
    sock.sendall(GET)
    eventually(lambda: len(feed._readers) == 1, "the reader")
    # More than the kernel's buffers hold, on both sides.
    deadline = time.monotonic() + 20
    while feed._readers and time.monotonic() < deadline:
        served.within(lambda: feed._tell(b": " + b"x" * 200_000 + b"\n\n"))
    eventually(lambda: not feed._readers, "the reader to be dropped")
    sock.close()
    assert ask(served.address, "GET", "/livez").status == 200


def test_another_token_ends_the_streams_of_the_old_one(served: Served) -> None:
    reading = Reading(served.address)
    reading.event()
    served.within(lambda: served.world.service.configure(Admin(token=TOKEN)))
    assert reading.event()[0] == "tick"  # nothing has changed
    served.within(lambda: served.world.service.configure(Admin(token="another-token-of-24-char")))
    assert reading.ended
    reading.close()
    assert ask(served.address, "GET", "/stream").status == 401


def test_the_shell_is_open_and_holds_nothing(served: Served) -> None:
    shell = ask(served.address, "GET", "/", token=None)
    assert shell.status == 200
    policy = shell.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert shell.headers["x-content-type-options"] == "nosniff"
    assert shell.headers["referrer-policy"] == "no-referrer"
    text = shell.body.decode()
    assert "127.0.0.1" not in text.replace('placeholder="127.0.0.1"', "")
    assert " style=" not in text
    assert "<style" not in text
    for name, body in page._files().items():
        found = ask(served.address, "GET", f"/dashboard/{name}", token=None)
        assert (found.status, found.body) == (200, body)
        elsewhere = set(re.findall(rb"https?://[^\s\"']*|url\([^)]*\)|@import|=\"//", body))
        # A name of XML's, and what stands in an empty field.
        assert elsewhere <= {b"http://www.w3.org/2000/svg", b"http://shop.example/api/orders"}, name
    assert ask(served.address, "GET", "/dashboard/access", token=None).json == {"token": True}


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2fpage.py", "%2e%2e", "__init__.py", "index.html%00", "%2fetc%2fpasswd"]
)
def test_no_other_file_is_served(served: Served, name: str) -> None:
    assert ask(served.address, "GET", f"/dashboard/{name}", token=None).status in (400, 404)


def test_a_link_from_elsewhere_leads_to_the_shell_and_to_nothing_else(served: Served) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(served.address, "GET", "/", token=None, headers=link).status == 200
    assert ask(served.address, "GET", "/status", headers=link).status == 403
    frame = {**link, "Sec-Fetch-Dest": "iframe"}
    assert ask(served.address, "GET", "/", token=None, headers=frame).status == 403
    script = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
    assert ask(served.address, "GET", "/dashboard/app.js", token=None, headers=script).status == 403
