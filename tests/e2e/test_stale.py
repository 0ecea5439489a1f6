"""Backends that close kept connections just when they are used again: nobody notices (promises P2 and P3, fault 9).

About 3,000 GETs with each backend. HEADGATE_STALE_GETS=50000 is the long form.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from .conftest import Balance
from .harness.headgate import Headgate
from .harness.ports import HeldPort
from .harness.tools import require_open_files

GETS = int(os.environ.get("HEADGATE_STALE_GETS", "3000"))
IDLE_S = 1.0
# So many at once, so that a round uses as many kept connections, all of one age.
CLIENTS = 400
# One request in so many is a POST.
POSTS = 10


@dataclass
class Tally:
    """What clients were answered, and what the backend saw."""

    gets: Counter[int] = field(default_factory=Counter)
    posts: Counter[int] = field(default_factory=Counter)
    seen: Counter[bytes] = field(default_factory=Counter)  # POSTs by their target
    connections: int = 0
    closed: int = 0  # by the backend, without a word

    def assert_nothing_was_noticed(self, headgate: Headgate, url: str) -> None:
        assert set(self.gets) == {200}, self.gets
        twice = [target for target, count in self.seen.items() if count > 1]
        assert not twice, f"POSTs that the backend saw more than once: {twice}"
        # One that was under way on a connection as it closed cannot be repeated: it is answered 502.
        assert set(self.posts) <= {200, 502}, self.posts
        state = headgate.backend(url)
        assert (state["failed"], state["healthy"], state["idleConnections"] >= 0) == (0, True, True), state


class Backend:
    """Answers every request, and closes connections: after `idle_s` without a request, or after so many `answers`."""

    def __init__(self, tally: Tally, *, idle_s: float | None = None, answers: int | None = None) -> None:
        self._tally = tally
        self._idle_s = idle_s
        self._answers = answers
        self._random = random.Random(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tally.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._answer_all(reader, writer)
        finally:
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered = 0
        while answered != self._answers:
            try:
                async with asyncio.timeout(self._idle_s if answered else None):
                    head = await reader.readuntil(b"\r\n\r\n")
            except TimeoutError:
                self._tally.closed += 1
                return
            method, target, _ = head.split(b" ", 2)
            if method == b"POST":
                self._tally.seen[target] += 1
                await reader.readexactly(2)
            # Long enough for all clients of a round to be under way together.
            await asyncio.sleep(0.01 if self._idle_s else 0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            answered += 1
        # Not at once, when every next request would still be on its way, but just about when it arrives.
        await asyncio.sleep(self._random.uniform(0, 0.003))
        self._tally.closed += 1


class Client:
    """One connection to the balancer, opened again when a 502 has ended it."""

    def __init__(self, address: tuple[str, int], number: int, tally: Tally) -> None:
        self._address = address
        self._number = number
        self._tally = tally
        self._sent = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(self) -> None:
        self._sent += 1
        post = (self._sent + self._number) % POSTS == 0
        target = f"/{self._number}/{self._sent}"
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        rest = "Content-Length: 2\r\n\r\nhi" if post else "\r\n"
        self._writer.write(f"{'POST' if post else 'GET'} {target} HTTP/1.1\r\nHost: h.example\r\n{rest}".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        (self._tally.posts if post else self._tally.gets)[int(head.split(b" ", 2)[1])] += 1
        if b"connection: close" in head:
            await self.close()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
        self._reader = self._writer = None


async def _with_clients(
    count: int,
    address: tuple[str, int],
    tally: Tally,
    backend: Backend,
    port: HeldPort,
    load: Callable[[list[Client]], Awaitable[None]],
) -> None:
    server = await asyncio.start_server(backend.serve, sock=port.listen(), backlog=1024)
    clients = [Client(address, number, tally) for number in range(count)]
    try:
        await load(clients)
    finally:
        for client in clients:
            await client.close()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


def test_a_backend_that_closes_after_an_idle_second(balance: Balance, port: HeldPort) -> None:
    """Rounds of requests, with pauses around that second."""
    require_open_files(4 * CLIENTS)
    tally = Tally()
    pauses = random.Random(2)

    async def load(clients: list[Client]) -> None:
        while tally.gets.total() < GETS:
            await asyncio.gather(*(client.request() for client in clients))
            await asyncio.sleep(IDLE_S + pauses.uniform(-0.06, 0.04))

    with HeldPort() as held:
        headgate = balance(held.url, top={"access_log": {"format": "off"}}, keepalive=2 * CLIENTS)
        asyncio.run(_with_clients(CLIENTS, port.address, tally, Backend(tally, idle_s=IDLE_S), held, load))
        assert tally.gets.total() >= GETS
        assert tally.closed > CLIENTS  # it did what it is here for
        tally.assert_nothing_was_noticed(headgate, held.url)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_backend_that_closes_after_every_third_answer(balance: Balance, port: HeldPort, workers: int) -> None:
    """Without saying so, and just about when the next request arrives."""
    tally = Tally()

    async def work(client: Client, until: int) -> None:
        while tally.gets.total() < until:
            await client.request()

    async def load(clients: list[Client]) -> None:
        await asyncio.gather(*(work(client, GETS) for client in clients))

    with HeldPort() as held:
        headgate = balance(held.url, top={"access_log": {"format": "off"}, "workers": workers})
        asyncio.run(_with_clients(8, port.address, tally, Backend(tally, answers=3), held, load))
        assert tally.gets.total() >= GETS
        assert tally.connections >= GETS // 3
        # Each was used three times, so every further one that was opened was thrown away while it was good.
        assert tally.connections < GETS // 2
        tally.assert_nothing_was_noticed(headgate, held.url)
