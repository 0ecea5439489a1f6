"""An admin API in a test's own process: a real controller and segment, a worker that only answers, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from headgate.admin.feed import Feed
from headgate.admin.host import ListenerState
from headgate.admin.service import Service
from headgate.admin.state_file import StateFile
from headgate.config import diff
from headgate.config.addresses import Bind
from headgate.config.schema import Admin, Config
from headgate.config.validate import validate
from headgate.engine.decisions import Decisions
from headgate.engine.stats import Segment
from headgate.explain.of_file import explain_file
from headgate.runtime.controller import Controller
from headgate.runtime.messages import Applied, Apply, Explain, Explained, Tried, Try
from headgate.runtime.reload import ReloadResult
from headgate.runtime.sockets import BoundSocket
from headgate.runtime.transport import DirectChannel

TOKEN = "a-token-of-24-characters"

TREE: dict[str, Any] = {
    "listeners": [{"bind": "127.0.0.1:18080"}],
    "pools": {
        "web": {
            "backends": [{"url": "http://127.0.0.1:1", "name": "a"}, {"url": "http://127.0.0.1:2", "name": "b"}],
            "health": {"type": "none"},
        },
        "api": {
            "backends": ["http://127.0.0.1:3"],
            "health": {"type": "none", "interval": "1h"},
            "sticky": {"secret": "a secret that is long enough"},
        },
    },
    "routes": [{"pool": "web"}, {"pool": "api", "path_prefix": "/api"}],
}


class World:
    """The host of the API; `read_again` is what the file says when it is read again."""

    config_path = "headgate.toml"
    started_s = 1000.0
    service: Service
    feed: Feed

    def __init__(
        self,
        config: Config,
        state_file: StateFile | None = None,
        *,
        backends: int = 64,
        wall: Callable[[], float] = lambda: 1000.0,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.segment = Segment.create(2, backends=backends, pools=16)
        self.controller = Controller(config, self.segment, loop=loop, wall=wall, secret=b"s" * 32)
        self.ready = True
        self.decisions = Decisions.create(2)
        self.listeners: Sequence[ListenerState] = [ListenerState("127.0.0.1:18080", "open")]
        self.read_again: Config | ReloadResult = config
        self.refuses: str = ""
        self.answers = True
        self.state_file = state_file
        if state_file is not None:
            self.controller.on_changes = state_file.note
        ours, self._channel = DirectChannel.pair(loop.call_soon)
        self.worker = self._channel
        self._channel.watch(self._receive, lambda *_: None)
        self.controller.attach(ours, 0)

    def _receive(self) -> None:
        for message, _ in self._channel.receive():
            if isinstance(message, Apply) and self.answers:
                self._channel.send(Applied(message.snapshot.generation))
            if isinstance(message, Try):
                self._channel.send(Tried(message.number, self.refuses))
            if isinstance(message, Explain) and self.answers:
                self._channel.send(self._explained(message))

    def _explained(self, message: Explain) -> Explained:
        try:
            return Explained(message.number, explain_file(self.controller.config, message.question))
        except ValueError as error:
            return Explained(message.number, None, str(error))

    async def plan(self) -> ReloadResult:
        if isinstance(self.read_again, ReloadResult):
            return self.read_again
        become = self.controller.merged(self.read_again)
        return ReloadResult(True, plan=(*diff.plan(self.controller.config, become.config), *become.notes))

    async def reload(self) -> ReloadResult:
        result = await self.plan()
        if isinstance(self.read_again, Config):
            self.controller.reload(self.read_again)
        return result

    async def drain_listener(self, bind: str) -> None:
        self.listeners = [ListenerState(bind, "draining")]

    async def open_listener(self, bind: str) -> None:
        self.listeners = [ListenerState(bind, "open")]

    async def saved(self) -> str | None:
        return None if self.state_file is None else await self.state_file.saved()

    def close(self) -> None:
        self.controller.close()
        self.segment.close()
        self.decisions.close()


def bound(path: Path | None = None) -> BoundSocket:
    """A socket that listens: on the loopback, or at this path."""
    sock = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
    sock.bind(("127.0.0.1", 0) if path is None else str(path))
    sock.listen()
    text = f"127.0.0.1:{sock.getsockname()[1]}" if path is None else f"unix:{path}"
    return BoundSocket(sock, Bind.parse(text))


@contextlib.contextmanager
def serving(
    *,
    path: Path | None = None,
    tree: dict[str, Any] | None = None,
    state_file: Path | None = None,
    admin: Admin | None = None,
) -> Iterator[tuple[World, str, Callable[[Callable[[], Any]], Any]]]:
    """Serves in a thread: gives the world, the API's address, and a way to run something in the world's thread."""
    started: threading.Event = threading.Event()
    found: list[Any] = []

    async def main() -> None:
        world = World(validate(tree or TREE), StateFile(str(state_file)) if state_file else None)
        socket_ = bound(path)
        service = Service(world, admin or Admin(token=TOKEN), socket_, asyncio.get_running_loop())
        await service.start()
        world.service, world.feed = service, service.feed
        stop = asyncio.Event()
        found.extend((world, service.address, asyncio.get_running_loop(), stop))
        started.set()
        await stop.wait()
        await service.close()
        world.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(10)
    world, address, loop, stop = found

    def within(act: Callable[[], Any]) -> Any:
        async def call() -> Any:
            result = act()
            return await result if isinstance(result, Awaitable) else result

        return asyncio.run_coroutine_threadsafe(call(), loop).result(10)

    try:
        yield world, address, within
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()
