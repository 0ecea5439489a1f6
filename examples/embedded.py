"""A load balancer inside an asyncio program, which also decides what stands behind it.

    python examples/embedded.py

The program starts backends of its own, balances over them, and does a rolling replacement: each backend is drained,
waited for, removed, and its successor added, while clients go on asking. Not one request fails.
"""

from __future__ import annotations

import asyncio

from headgate import LoadBalancer, PoolView


class Application:
    """A small HTTP server that answers every request with its version."""

    def __init__(self, version: str) -> None:
        self.version = version

    async def start(self) -> str:
        """Listen; returns the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(65536):  # nothing comes when the balancer only checks that somebody is there
            body = self.version.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()
        await writer.wait_closed()


async def replace(pool: PoolView, old: str, new: str) -> None:
    """Put `new` in the place of `old` without losing a request."""
    pool.add(new)
    await pool.wait_until(new, lambda backend: backend.healthy)
    pool.drain(old)
    await pool.wait_until(old, lambda backend: not backend.active)
    pool.remove(old)


async def ask(address: str) -> str:
    """One request; the answer's body."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode() if b" 200 " in head else "failed"


async def keep_asking(address: str, answers: list[str], until: str) -> None:
    """A client that asks until it has had the same answer ten times in a row."""
    own: list[str] = []
    while own[-10:] != [until] * 10:
        own.append(await ask(address))
    answers += own


async def main() -> None:
    applications = [Application("version 1") for _ in range(3)]
    urls = [await application.start() for application in applications]
    answers: list[str] = []
    async with LoadBalancer(to=urls, listen="127.0.0.1:0", strategy="p2c") as balancer:
        pool = balancer.pools["web"]
        address = balancer.addresses[0]
        clients = [asyncio.create_task(keep_asking(address, answers, "version 2")) for _ in range(4)]
        for old in urls:
            successor = Application("version 2")
            await replace(pool, old, await successor.start())
            applications.append(successor)
        await asyncio.gather(*clients)
        for backend in pool.backends:
            print("in use:", backend.state, "-", "some" if backend.total else "no", "requests")
    for application in applications:
        application.stop()
    print("failed:", answers.count("failed"))


if __name__ == "__main__":
    asyncio.run(main())
