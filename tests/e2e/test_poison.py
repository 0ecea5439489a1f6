"""Hostile backends next to a good one: what they send reaches nobody but the client that asked for it (promise P8).

A seeded generator makes answers that are broken, too long, cut short, in pieces, or followed by others, each carrying
the number of the request it belongs to. Clients ask the hostile backend and the good one in turn, over one connection;
a bystander asks the good one only. Nobody may ever hear a number that is not of the own request, and every byte that is
heard must be strict HTTP. HEADGATE_POISON=20000 asks for more, HEADGATE_SEED for others.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .conftest import MakeBackend, Run
from .harness.backends import Connection
from .harness.client import Client, head
from .harness.headgate import Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.wire import Incomplete, Malformed, Response

ASKED = int(os.environ.get("HEADGATE_POISON", "1200"))
SEED = os.environ.get("HEADGATE_SEED", "1")
CLIENTS = 6

# Stands for the number of the request, which is put in last: so no mutation makes another number of it.
MARK = b"@@"
_NUMBER = re.compile(rb"EVIL-([0-9]+)-LIVE")

EVIL = b"HTTP/1.1 200 OK\r\nX-Evil: @@\r\nContent-Length: 2\r\n\r\n@@"
CHUNKED = b"HTTP/1.1 200 OK\r\nX-Evil: @@\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nX-Evil: @@\r\n"


def _chunks(rng: random.Random) -> bytes:
    sizes = [rng.choice([1, 2, 10, 1000]) for _ in range(rng.randrange(4))]
    return b"".join(b"%x\r\n%s\r\n" % (size, b"c" * size) for size in sizes) + b"0\r\n\r\n"


def _clean(rng: random.Random) -> bytes:
    """A whole answer without fault."""
    size = rng.choice([0, 1, 100, 5000])
    with_length = OK + b"Content-Length: %d\r\n\r\n" % size + b"l" * size
    return rng.choice([with_length, CHUNKED + _chunks(rng), OK.replace(b"200 OK", b"204 No Content") + b"\r\n"])


def _surplus(rng: random.Random) -> bytes:
    """An answer, and what nobody asked for."""
    return _clean(rng) + rng.choice(
        [EVIL, EVIL * 3, EVIL[:20], b"\r\n", b"\0", b"x" * 5000, b"HTTP/1.1 100 Continue\r\n\r\n" + EVIL]
    )


def _full_buffer(rng: random.Random) -> bytes:
    """An answer that ends just where a proxy's read may end, and what nobody asked for: so that is left unread.

    All of it leaves in one segment, so the surplus is there as soon as the answer is: the kernel sends what exceeds
    half the peer's first window (32 KiB) before it has taken the rest, and what comes later nobody can tell from an
    answer. (Spliced bodies: tests/transcripts/test_poison.py.)
    """
    total = rng.choice([4096, 8192, 16384, 16384])
    start = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    length = total - len(start % total)
    return (start % length).ljust(total, b"l") + EVIL


def _ambiguous(rng: random.Random) -> bytes:
    """Framing that two readers may read differently, and an answer for the one that errs."""
    fields = rng.choice(
        [
            b"Content-Length: 2\r\nContent-Length: 40",
            b"Content-Length: 2, 40",
            b"Content-Length: +2",
            b"Content-Length: 0x2",
            b"Content-Length: 2 \x0b",
            b"Content-Length: -2",
            b"Content-Length: 99999999999999999999999",
            b"Content-Length: 2\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 2",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding:\x0bchunked",
            b"Content-Length: 2\r\n Transfer-Encoding: chunked",
            b"Content-Length\r\n: 2",
        ]
    )
    return OK + fields + b"\r\n\r\n" + rng.choice([b"ok", b"2\r\nok\r\n0\r\n\r\n", b"0\r\n\r\n"]) + EVIL


def _bad_head(rng: random.Random) -> bytes:
    return rng.choice(
        [
            b"HTTP/1.1 200 OK\nX-Evil: @@\nContent-Length: 0\n\n",
            OK + b"X-A: a\rb\r\nContent-Length: 0\r\n\r\n",
            OK + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
            OK + b"X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
            OK + b"X-A: a\nX-B: b\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2000 High\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
            b"@@ just text",
            b"\x16\x03\x03\x00\x02\x02\x28",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n@@",
            OK + b"X-Long: " + b"y" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
            OK + b"X-Many: y\r\n" * 300 + b"Content-Length: 0\r\n\r\n",
        ]
    ) + rng.choice([b"", EVIL])


def _bad_chunks(rng: random.Random) -> bytes:
    return (
        CHUNKED
        + rng.choice([b"", b"3\r\nabc\r\n"])
        + rng.choice(
            [
                b"-1\r\n",
                b"g\r\n",
                b"3\r\nabcd\r\n",
                b"3\nabc\n",
                b"ffffffffffffffffff\r\n",
                b"3 \r\nabc",
                b"0\r\nX: \0\r\n\r\n",
            ]
        )
        + EVIL
    )


def _interim(rng: random.Random) -> bytes:
    """Many answers that are none."""
    few = [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: <@@>\r\n\r\n",
        b"HTTP/1.1 199 X\r\n\r\n",
    ]
    return b"".join(rng.choice(few) for _ in range(rng.randrange(1, 20))) + _clean(rng) + rng.choice([b"", EVIL])


def _unasked_body(rng: random.Random) -> bytes:
    """A body where there is none, by the status."""
    status = rng.choice([b"204 No Content", b"304 Not Modified"])
    return OK.replace(b"200 OK", status) + b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL


def _mutated(rng: random.Random) -> bytes:
    """Any of the others with some bytes changed."""
    data = bytearray(rng.choice(KINDS)(rng))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(min(len(data), 200))
        data[at : at + rng.randrange(2)] = bytes([rng.choice(b"\r\n\0 :;,\t0aZ\xff-+/")]) * rng.randrange(3)
    return bytes(data)


KINDS: list[Callable[[random.Random], bytes]] = [
    _clean, _surplus, _full_buffer, _ambiguous, _bad_head, _bad_chunks, _interim, _unasked_body,
]  # fmt: skip


class Hostile:
    """The script of the hostile backend."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, connection: Connection) -> None:
        for request in connection.each():
            number = request.target.rpartition("/")[2]
            rng = random.Random(f"{SEED} {number}")
            kind = rng.choice([*KINDS, _mutated, _mutated])
            with self._lock:
                self.said[kind.__name__] += 1
            data = kind(rng).replace(MARK, b"EVIL-%s-LIVE" % number.encode())
            ends = rng.choice(["keeps", "keeps", "keeps", "closes", "is cut", "resets"])
            if ends == "is cut":
                data = data[: rng.randrange(len(data))]
            self._send(connection, data, rng)
            if ends == "resets":
                connection.reset()
            if ends != "keeps":
                return

    @staticmethod
    def _send(connection: Connection, data: bytes, rng: random.Random) -> None:
        """In pieces, all of them of the first head. What follows an answer must come with its end: surplus that comes
        when the next request is already out cannot be told from its answer, by nobody."""
        for _ in range(rng.choice([0, 0, 0, 1, 5])):
            size = rng.randrange(1, 40)
            if 0 < size <= data.find(b"\r\n\r\n"):
                connection.send(data[:size])
                data = data[size:]
        connection.send(data)


def good(connection: Connection) -> None:
    """Answers with what it was asked for."""
    for request in connection.each():
        connection.respond(request.target.encode(), headers=[("X-Good", "1")])


class Asker:
    """A client that asks the hostile backend and the good one over one connection, and listens closely."""

    def __init__(self, headgate: Headgate, number: int) -> None:
        self._headgate = headgate
        self._rng = random.Random(f"{SEED} client {number}")
        self._client: Client | None = None
        self.heard: Counter[str] = Counter()

    def ask(self, number: int) -> None:
        """Ask for the bad, and then for the good."""
        self._client = self._client or self._headgate.client(timeout_s=5.0)
        method = self._rng.choice(["GET", "GET", "GET", "HEAD", "POST"])
        bad = head(method, f"/bad/{number}", [("Content-Length", "2")] if method == "POST" else [])
        bad += b"hi" if method == "POST" else b""
        plain = head("GET", f"/good/{number}")
        together = self._rng.random() < 0.5
        self._client.send(bad + plain if together else bad)
        if self._hear(self._client, method, number) and not together:
            self._client.send(plain)
        if self._client is not None:
            self._hear_good(self._client, number)

    def _hear(self, client: Client, method: str, number: int) -> bool:
        """The answer of the bad one; False if the connection is over."""
        start = len(client.received) - len(client.reader.pending)
        try:
            response = client.response(method)
        except Incomplete:
            response = None
        except ConnectionResetError:
            response = None
        except Malformed as error:
            raise AssertionError(
                f"request {number} split the framing: {error}\n{bytes(client.received[start:])!r}"
            ) from error
        raw = bytes(client.received[start : len(client.received) - len(client.reader.pending)])
        foreign = set(_NUMBER.findall(raw)) - {b"%d" % number}
        assert not foreign, f"request {number} heard the answer of {foreign}: {raw!r}"
        self.heard["broken off" if response is None else str(response.status)] += 1
        if response is None or response.closed or "close" in response.list_header("connection"):
            self.hang_up()
            return False
        return True

    def _hear_good(self, client: Client, number: int) -> None:
        response = client.response()
        _assert_good(response, number)

    def hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _assert_good(response: Response, number: int) -> None:
    said = (response.status, response.header("x-good"), response.header("x-evil"), response.body)
    assert said == (200, "1", None, b"/good/%d" % number), response


@pytest.fixture
def hostile() -> Hostile:
    return Hostile()


def test_nothing_of_a_hostile_backend_reaches_another_request(
    make_backend: MakeBackend, run: Run, port: HeldPort, hostile: Hostile
) -> None:
    bad, fine = make_backend(hostile, "bad"), make_backend(good, "good")
    short = {"first_byte": "300ms", "body_idle": "300ms"}
    pools = {"bad": pool(bad.url, timeouts=short), "good": pool(fine.url)}
    routes = [{"path_prefix": "/bad", "pool": "bad"}, {"path_prefix": "/", "pool": "good"}]
    headgate = run(configuration(port, pools, routes=routes, access_log={"format": "off"}))
    workers = headgate.workers()
    over = threading.Event()

    def ask(client: int) -> Counter[str]:
        asker = Asker(headgate, client)
        try:
            for number in range(client, ASKED, CLIENTS):
                asker.ask(number)
        finally:
            asker.hang_up()
        return asker.heard

    def stand_by() -> int:
        """Somebody who has nothing to do with it."""
        with headgate.client() as client:
            number = 0
            while not over.is_set():
                number += 1
                _assert_good(client.get(f"/good/{number}"), number)
        return number

    with ThreadPoolExecutor(CLIENTS + 1) as executor:
        bystander = executor.submit(stand_by)
        try:
            heard = sum(executor.map(ask, range(CLIENTS)), Counter[str]())
        finally:
            over.set()
        assert bystander.result() > 100
    assert heard.total() == ASKED
    # The good answers among them came through, and the bad ones were seen for what they are.
    assert min(heard["200"], heard["502"], heard["broken off"]) > 0, heard
    assert len(hostile.said) == len(KINDS) + 1, hostile.said
    assert headgate.workers() == workers, f"a worker died:\n{headgate.process.output}"
