"""Backends and a client inside the test's own event loop, for tests of the Python API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast


@dataclass
class Server:
    """A backend that answers every request with its name. A request for /wait is answered once `open` is set."""

    name: str
    url: str = ""
    paths: list[str] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, path: str) -> bytes:
        self.paths.append(path)
        if path == "/wait":
            self.waiting.set()
            await self.open.wait()
        body = self.name.encode()
        status = b"500 No" if path == "/fail" else b"200 OK"
        return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


class _Connection(asyncio.Protocol):
    """One connection of the balancer's: requests without bodies, answered in order."""

    def __init__(self, server: Server, tasks: set[asyncio.Task[None]], transports: set[asyncio.Transport]) -> None:
        self._server = server
        self._tasks = tasks
        self._transports = transports
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transports.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, self._data = self._data.split(b"\r\n\r\n", 1)
            task = asyncio.get_running_loop().create_task(self._answer(head.split()[1].decode()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, path: str) -> None:
        self._transport.write(await self._server.answer(path))


@asynccontextmanager
async def servers(*names: str) -> AsyncIterator[list[Server]]:
    """Backends of these names, each on a port that the kernel chose."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    transports: set[asyncio.Transport] = set()
    there = []
    listening = []
    for name in names:
        server = Server(name)
        one = await loop.create_server(partial(_Connection, server, tasks, transports), "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}"
        there.append(server)
        listening.append(one)
    try:
        yield there
    finally:
        for one in listening:
            one.close()
        for task in tasks:
            task.cancel()
        for transport in transports:
            transport.abort()
        while transports:  # noqa: ASYNC110 (a callback for each would be more than this is worth)
            await asyncio.sleep(0)


async def get(address: str, path: str = "/", **headers: str) -> tuple[int, str]:
    """(status, body) of one request on a connection of its own. `address` is as in `LoadBalancer.addresses`."""
    head, body = await exchange(address, path, **headers)
    return int(head.split()[1]), body.decode()


async def exchange(address: str, path: str = "/", **headers: str) -> tuple[bytes, bytes]:
    """Head and body as they came."""
    if address.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n".encode())
    try:
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    return head, body


async def names(address: str, count: int) -> list[str]:
    """Who answers so many requests, one after the other. All must succeed."""
    answers = [await get(address) for _ in range(count)]
    assert {status for status, _ in answers} == {200}
    return [body for _, body in answers]
