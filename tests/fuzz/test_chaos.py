"""Many clients and backends that do whatever comes to mind: the engine neither crashes nor keeps anything.

Nothing is compared here. What counts is that every path crosses every other: bodies in both directions that stop half
way, splice, tunnels, resets, timeouts of a few milliseconds, retries, the cap on buffers. Best under `make sanitize`.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ..protocol.test_differential import REPLIES, SEEDS, mutate
from .rig import LONGER, Peer, Rig

STEPS = 8000
MOST_CLIENTS = 12
LARGE = 300_000

CHUNKED = b"5\r\nhello\r\n4000\r\n" + b"w" * 0x4000 + b"\r\n0\r\nX-Trailer: t\r\n\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"

# Whole messages: what most say most of the time, or nobody would get far.
REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (LARGE, b"x" * LARGE),
    b"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    b"GET /a HTTP/1.1\r\nHost: h\r\n" + UPGRADE,
    b"GET /a HTTP/1.1\r\nHost: h\r\nX-Large: " + b"b" * 6000 + b"\r\n\r\n",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n",
    b"HTTP/1.1 502 Bad\r\nContent-Length: 3\r\n\r\nbad",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (LARGE, b"y" * LARGE),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    b"HTTP/1.1 200 OK\r\n\r\n" + b"z" * LARGE,
    b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE,
    b"HTTP/1.1 200 OK\r\nX-Large: " + b"c" * 40_000 + b"\r\nContent-Length: 0\r\n\r\n",
]
# Parts of messages, and wrong ones.
CLIENT_NOISE = [
    b"POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % LARGE,
    b"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\nX-Large: " + b"b" * 70_000 + b"\r\n\r\n",
    *SEEDS,
]
BACKEND_NOISE = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    *REPLIES,
]
BODIES = [
    b"x",
    b"hello",
    b"y" * 3000,
    b"z" * 70_000,
    b"5\r\nhello\r\n",
    b"4000\r\n" + b"w" * 0x4000 + b"\r\n",
    b"0\r\n\r\n",
    b"0\r\nX-Trailer: t\r\n\r\n",
]


class Chaos:
    """One run: a seed decides everything but the time that passes."""

    def __init__(self, rig: Rig, seed: int, limits: Mapping[str, int] | None = None) -> None:
        self.rig = rig
        self.limits = limits or {}
        self.chance = random.Random(seed)
        self._actions: list[Callable[[], None]] = [
            self._connect,
            self._client_says,
            self._client_says,
            self._client_reads,
            self._client_leaves,
            self._backend_says,
            self._backend_says,
            self._backend_says,
            self._backend_reads,
            self._backend_leaves,
            self._drop_idle,
            self._change_limits,
        ]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.chance.choice(self._actions)()
            for _ in range(self.chance.randrange(3)):
                self.rig.engine.run_once()

    def _noise(self, heads: list[bytes]) -> bytes:
        data = self.chance.choice(heads if self.chance.random() < 0.5 else BODIES)
        if self.chance.random() < 0.2:
            data = mutate(data, self.chance)
        if self.chance.random() < 0.2:
            data = data[: self.chance.randrange(len(data) + 1)]
        return data

    def _client(self) -> Peer | None:
        return self.chance.choice(self.rig.clients) if self.rig.clients else None

    def _peer(self) -> Peer | None:
        backend = self.chance.choice(self.rig.backends)
        backend.accept()
        return self.chance.choice(backend.peers) if backend.peers else None

    def _connect(self) -> None:
        if len(self.rig.clients) < MOST_CLIENTS:
            client = self.rig.connect()
            if self.chance.random() < 0.3:
                # A slow reader: answers come to a halt early.
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def _client_says(self) -> None:
        client = self._client()
        if client is not None:
            noise = self.chance.random() < 0.15
            client.send(self._noise(CLIENT_NOISE) if noise else self.chance.choice(REQUESTS))

    def _client_reads(self) -> None:
        client = self._client()
        if client is not None:
            client.read(self.chance.choice([1, 1000, 1 << 20]))

    def _client_leaves(self) -> None:
        client = self._client()
        if client is None or self.chance.random() < 0.7:
            return
        if self.chance.random() < 0.3:
            client.finish()
            return
        self.rig.clients.remove(client)
        client.reset() if self.chance.random() < 0.5 else client.close()

    def _backend_says(self) -> None:
        peer = self._peer()
        if peer is None:
            return
        if peer.read():
            peer.send(self.chance.choice(ANSWERS))
        elif self.chance.random() < 0.3:
            peer.send(self._noise(BACKEND_NOISE))

    def _backend_reads(self) -> None:
        peer = self._peer()
        if peer is not None:
            peer.read(self.chance.choice([1, 1000, 1 << 20]))

    def _backend_leaves(self) -> None:
        backend = self.chance.choice(self.rig.backends)
        if not backend.peers or self.chance.random() < 0.7:
            return
        peer = self.chance.choice(backend.peers)
        if self.chance.random() < 0.4:
            peer.finish()
            return
        backend.peers.remove(peer)
        peer.reset() if self.chance.random() < 0.5 else peer.close()

    def _drop_idle(self) -> None:
        if self.chance.random() < 0.1:
            for backend in self.rig.stage.pool.backends:
                backend.close_idle()

    def _change_limits(self) -> None:
        if self.chance.random() < 0.1:
            self.rig.engine.buffer_limit = self.chance.choice([1 << 20, 1 << 32])
        if self.limits and self.chance.random() < 0.05:
            each = {name: self.limits for name in self.rig.stage.slots if self.chance.random() < 0.8}
            self.rig.stage.reconfigure(each)


# A few milliseconds each, so that they run out while the others act.
SHORT = {"client_header": "20ms", "client_body": "15ms", "client_idle": "25ms", "client_write": "10ms"}
SHORT_POOL = {"connect": "50ms", "first_byte": "15ms", "body_idle": "10ms", "keepalive": "30ms", "tunnel_idle": "20ms"}
SETTINGS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "plain": ({}, {}),
    "short": ({"timeouts": SHORT}, {"timeouts": {**SHORT_POOL, "request": "40ms"}}),
    "strict": (
        {"allow_half_close": True, "limits": {"head": 8192, "body": 100_000}, "max_connections_per_client": 8},
        {
            "timeouts": {"first_byte": "50ms"},
            "retry": {"retries": 3, "on": ["reset", "first_byte_timeout", 502, 503]},
            "sticky": "cookie",
            "keepalive": 2,
        },
    ),
    # Two attempts of nearly everything, and a budget that runs out.
    "hedged": (
        {"timeouts": {"client_write": "30ms"}},
        {
            "timeouts": {"connect": "50ms", "first_byte": "12ms", "body_idle": "30ms", "request": "80ms"},
            "retry": {"hedge_after": "2ms", "retries": 3, "reserve": 200},
            "fallback": {"body": "sorry"},
        },
    ),
    # Nearly everybody waits, and most of them not to the end.
    "limited": (
        {"timeouts": SHORT},
        {
            "timeouts": SHORT_POOL,
            "queue": {"size": 6, "timeout": "12ms"},
            "limits": {"max_requests": 4},
            "sticky": "cookie",
        },
    ),
}
LIMITS = {"limited": {"max_requests": 2, "max_connections": 2}}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("seed", range(LONGER))
def test_nothing_is_left_of_chaos(tmp_path: Path, name: str, seed: int) -> None:
    listener, pool = SETTINGS[name]
    limits = LIMITS.get(name)
    rig = Rig(tmp_path, 3, listener=listener, pool=pool, limits=limits)
    chaos = Chaos(rig, seed, limits)
    for _ in range(4):
        chaos.run(STEPS // 4)
        rig.leave()
        # A FIN may wait behind requests that nobody reads, or be one half of a tunnel's end: that takes the backends.
        rig.backends_leave()
        rig.backends_answer(ANSWERS[0])
        rig.assert_empty()
        rig.engine.buffer_limit = 1 << 32
        # With time enough: where processes stand in line for the processor, bytes on loopback are late by a dozen
        # milliseconds, too, and three attempts of 15 ms each are then over before the first answer is there.
        each = dict.fromkeys(rig.stage.slots, limits) if limits else None
        rig.stage.reconfigure(each, timeouts={})
        rig.stage.relisten(**{**listener, "timeouts": {}})
        client = rig.connect()
        client.send(REQUESTS[0])
        rig.until(lambda client=client: client.received.endswith(b"ok"), "an ordinary answer")  # type: ignore[misc]
        rig.backends_answer(None)
        rig.stage.reconfigure(each, timeouts=pool.get("timeouts", {}))
        rig.stage.relisten(**listener)
    rig.close()


@pytest.mark.parametrize("seed", range(LONGER))
def test_the_end_comes_in_the_middle(tmp_path: Path, seed: int) -> None:
    """The engine is closed while everything is under way."""
    rig = Rig(tmp_path, 3)
    for moment in range(3):
        Chaos(rig, seed * 100 + moment).run(STEPS // 5)
    rig.engine.close()
    assert (rig.engine.connections, rig.engine.in_flight, rig.engine.buffers_in_use) == (0, 0, 0)
    assert rig.engine.pipes_in_use == 0
    rig.close()
