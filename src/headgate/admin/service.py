"""The admin API as the supervisor runs it: bound with the listeners, served while the loop runs, closed last."""

from __future__ import annotations

from asyncio import AbstractEventLoop

from headgate.admin.access import Access
from headgate.admin.feed import Feed
from headgate.admin.host import Host
from headgate.admin.server import Server
from headgate.admin.table import TABLE
from headgate.admin.wire import Answer, Request, Streaming
from headgate.config.schema import Admin
from headgate.runtime.sockets import BoundSocket


class Service:
    """One admin API. config: may be replaced while it runs, all but `bind`. feed: for tests."""

    def __init__(
        self, host: Host, config: Admin, bound: BoundSocket, loop: AbstractEventLoop, feed: Feed | None = None
    ) -> None:
        self._host = host
        self._bound = bound
        self._config = config
        self.feed = feed or Feed(host, loop)
        self._feeding = False
        self._server = Server(loop, Access(config), TABLE.plan, self._answer)

    async def start(self) -> None:
        """Serve, for the first time or after `rest`."""
        if not self._feeding:  # it goes on while the server rests
            self._feeding = True
            self.feed.start()
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
        if config != self._config:
            self._config = config
            self._server.end_streams()  # they were opened by the old rules; who may read still, comes again

    async def close(self) -> None:
        """Stop, and remove the socket's file."""
        await self._server.close()
        self.feed.close()
        self._bound.close()

    async def _answer(self, request: Request) -> Answer | Streaming:
        return await TABLE.answer(self._host, self.feed, request)
