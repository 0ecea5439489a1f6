"""The admin API as the supervisor runs it: bound with the listeners, served while the loop runs, closed last."""

from __future__ import annotations

from asyncio import AbstractEventLoop

from headgate.admin.access import Access
from headgate.admin.host import Host
from headgate.admin.server import Server
from headgate.admin.table import TABLE
from headgate.admin.wire import Answer, Request
from headgate.config.schema import Admin
from headgate.runtime.sockets import BoundSocket


class Service:
    """One admin API. config: may be replaced while it runs, all but `bind`."""

    def __init__(self, host: Host, config: Admin, bound: BoundSocket, loop: AbstractEventLoop) -> None:
        self._host = host
        self._bound = bound
        self._server = Server(loop, Access(config), TABLE.plan, self._answer)

    async def start(self) -> None:
        """Serve, for the first time or after `rest`."""
        # A copy, for the server closes what it listens on: while it rests, clients go on queueing at ours.
        await self._server.start(self._bound.sock.dup())

    async def rest(self) -> None:
        """Answer what was asked, and nothing more for now; who asks meanwhile waits. (For an upgrade.)"""
        await self._server.rest()

    @property
    def address(self) -> str:
        """Where it listens: "unix:/run/headgate/admin.sock", "127.0.0.1:9900"."""
        return self._bound.bind.text

    def configure(self, config: Admin) -> None:
        """Other rules for who may ask, from the next request on."""
        self._server.access = Access(config)

    async def close(self) -> None:
        """Stop, and remove the socket's file."""
        await self._server.close()
        self._bound.close()

    async def _answer(self, request: Request) -> Answer:
        return await TABLE.answer(self._host, request)
