"""A strategy of your own: all requests of one tenant go to the same backend.

See it work:            python examples/custom_strategy.py
Use it from the shell:  headgate proxy --listen :8080 --to http://a:9001 --to http://b:9002 \
                            --app-dir examples --strategy custom_strategy:ByTenant
Use it in a file:       [pools.web.strategy]
                        name = "custom_strategy:ByTenant"
                        header = "X-Tenant"
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from headgate import Backend, Context, LoadBalancer, Request


class ByTenant:
    """Rendezvous hashing (Thaler and Ravishankar 1998): of all backends the one whose hash with the tenant is highest.

    When a backend goes, only its own tenants move, and they spread over all others. Costs one hash for each backend, so
    it suits pools of tens; for thousands take "ip_hash".

    header: the request field that names the tenant. A request without it goes by the client's address.
    """

    def __init__(self, context: Context, *, header: str = "X-Tenant") -> None:
        self._hash = context.hash64
        self._header = header
        self._backends: list[tuple[bytes, Backend]] = []

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = [(backend.name.encode(), backend) for backend in backends]

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        tenant = request.header(self._header) or request.client_bytes
        left = [(self._hash(tenant + b"\0" + name, 0), name, backend) for name, backend in self._backends]
        left = [entry for entry in left if entry[2] not in tried]
        return max(left)[2] if left else None


async def main() -> None:
    """Three small backends, a balancer, and a few tenants who come twice."""
    servers = {name: await asyncio.start_server(_answer(name), "127.0.0.1", 0) for name in ("red", "green", "blue")}
    backends = [
        {"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "name": name}
        for name, server in servers.items()
    ]
    async with LoadBalancer(to=backends, listen="127.0.0.1:0", strategy=ByTenant) as balancer:
        for tenant in ("ada", "bob", "cleo", "dora"):
            print(tenant, *[await _ask(balancer.addresses[0], tenant) for _ in range(3)])
    for server in servers.values():
        server.close()


def _answer(name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    """A backend that says its name, once per connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(65536):  # nothing comes when the balancer only checks that somebody is there
            body = name.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()
        await writer.wait_closed()

    return answer


async def _ask(address: str, tenant: str) -> str:
    """Who answers a request of this tenant."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET / HTTP/1.1\r\nHost: example.test\r\nX-Tenant: {tenant}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n\r\n")[2].decode()


if __name__ == "__main__":
    asyncio.run(main())
