"""What tests of the controller stand on: a segment, backends that accept, and workers that only answer messages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from headgate.config.addresses import BackendUrl
from headgate.config.schema import Backend, Config, Health, Pool
from headgate.engine import stats
from headgate.engine.stats import Segment
from headgate.runtime.controller import Controller
from headgate.runtime.messages import (
    Applied,
    Apply,
    Message,
)
from headgate.runtime.snapshot import Snapshot
from headgate.runtime.transport import DirectChannel

GOOD = stats.PRESENT | stats.ENABLED | stats.CHECKED | stats.UP
# Checks that never come by themselves after the first.
RARELY = Health(interval=3600.0, fall=1, rise=1)
NONE = Health(type="none")


class Worker:
    """The other end of a channel: keeps what it is told and acknowledges snapshots, unless told not to."""

    def __init__(self, controller: Controller, number: int = 0, *, answers: bool = True) -> None:
        ours, self.channel = DirectChannel.pair(asyncio.get_running_loop().call_soon)
        self.answers = answers
        self.told: list[Message] = []
        self.news = asyncio.Event()
        self.channel.watch(self._receive, lambda *_: None)
        self.link = controller.attach(ours, number)

    def _receive(self) -> None:
        for message, _ in self.channel.receive():
            self.told.append(message)
            if isinstance(message, Apply) and self.answers:
                self.channel.send(Applied(message.snapshot.generation))
        self.news.set()

    def acknowledge(self) -> None:
        self.channel.send(Applied(self.snapshot.generation))

    @property
    def snapshot(self) -> Snapshot:
        return [message.snapshot for message in self.told if isinstance(message, Apply)][-1]

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()


class Listener:
    """A TCP backend that accepts and says nothing; `off` makes its port refuse while nobody else can take it."""

    def __init__(self) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port = self._holder.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._socket: socket.socket | None = None
        self.on()

    def on(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self.port))
        self._socket.listen(100)

    def off(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self.off()
        self._holder.close()


def config(urls: Iterable[str], *, health: Health = RARELY, **pool: Any) -> Config:
    backends = tuple(Backend(url=BackendUrl.parse(url)) for url in urls)
    return Config(pools={"web": Pool(backends=backends, health=health, **pool)})


class World:
    """A segment, some listeners, and names that the test decides about."""

    def __init__(self, listeners: int) -> None:
        self.segment = Segment.create(4, backends=8, pools=4)
        self.listeners = [Listener() for _ in range(listeners)]
        self.urls = [listener.url for listener in self.listeners]
        self.names: dict[str, list[bytes]] = {}

    def lookup(self, host: str, port: int) -> list[bytes]:
        if host not in self.names:
            raise socket.gaierror(-2, "Name or service not known")
        return self.names[host]

    def control(self, configuration: Config) -> Controller:
        return Controller(
            configuration,
            self.segment,
            loop=asyncio.get_running_loop(),
            lookup=self.lookup,
            wall=lambda: 1000.0,
            secret=b"s" * 32,
        )

    async def until(self, controller: Controller, condition: Callable[[], bool]) -> None:
        """Wait until the states show it: each change raises the segment's generation from the loop."""
        async with asyncio.timeout(10):
            while not condition():
                seen = len(controller.events)
                await asyncio.sleep(0)
                if len(controller.events) == seen:
                    await asyncio.sleep(0.005)

    def flags(self, controller: Controller, number: int) -> int:
        return int(self.segment.backend_flags(controller.backends()[number].slot))

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        self.segment.close()


def run(
    scenario: Callable[[World, Controller], Awaitable[None]],
    listeners: int = 2,
    make: Callable[[World], Config] | None = None,
) -> None:
    async def main() -> None:
        world = World(listeners)
        controller = world.control(make(world) if make else config(world.urls))
        try:
            await scenario(world, controller)
        finally:
            controller.close()
            world.close()

    asyncio.run(main())
