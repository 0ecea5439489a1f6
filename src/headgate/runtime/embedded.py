"""A balancer inside somebody's asyncio program: controller, worker agent and engine in one process and one thread.

The engine's epoll descriptor is itself watched by the event loop, so traffic, checks and the program's own tasks take
turns. Everything else is as in a process tree: the same controller and agent, joined by a `DirectChannel`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from headgate.admin.state_file import StateFileError
from headgate.config.schema import Config
from headgate.engine import Engine, Segment
from headgate.engine.clock import clock as engine_clock
from headgate.engine.decisions import Decisions
from headgate.runtime.agent import WorkerAgent
from headgate.runtime.closing import let_in_no_more
from headgate.runtime.controller import Controller
from headgate.runtime.embedded_admin import EmbeddedAdmin, bind_admin
from headgate.runtime.holder import describe_holder
from headgate.runtime.links import Link
from headgate.runtime.messages import Drain, Listen, ReopenLogs
from headgate.runtime.overrides import Changes
from headgate.runtime.sockets import BoundSocket, bind_all
from headgate.runtime.steering import load_changes
from headgate.runtime.strategies import StrategyMaker
from headgate.runtime.transport import DirectChannel
from headgate.tls import check

# Room for what may be added while it runs; memory that is not used is not allocated.
_LEAST_BACKENDS = 8192
_LEAST_POOLS = 1024
# Nothing but this process's own event loop has to answer.
_APPLY_TIMEOUT_S = 10.0
# The engine ends a drain by itself at its deadline; this is for a loop that is too busy to notice in time.
_GRACE_S = 2.0


class CannotStart(RuntimeError):
    """The configuration is sound and yet nothing can run from it (a strategy cannot be built, for example)."""


class Embedded:
    """One run, from bound sockets to closed ones. Create with `start`, inside a running event loop."""

    def __init__(self, config: Config, strategies: Mapping[str, object], app_dir: str | None, changes: Changes) -> None:
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._ended = False
        backends = sum(len(pool.backends) for pool in config.pools.values())
        self.segment = Segment.create(
            1, backends=max(_LEAST_BACKENDS, 2 * backends), pools=max(_LEAST_POOLS, 2 * len(config.pools))
        )
        self.decisions = Decisions.create(1)
        self._engine = engine = Engine(self.segment, 0)
        self.make_strategy = StrategyMaker(engine_clock(engine), app_dir=app_dir, local=strategies)
        self.controller = Controller(config, self.segment, loop=self._loop, changes=changes)
        ours, theirs = DirectChannel.pair(self._loop.call_soon)
        self.agent = WorkerAgent(
            engine,
            self.segment,
            0,
            theirs,
            make_strategy=self.make_strategy,
            on_exit=self._exited.set,
            sources=[self.make_strategy.random],
            decisions=self.decisions,
        )
        self.agent.start()
        self._link: Link = self.controller.attach(ours, 0)
        self._fd = engine.fileno()
        self._loop.add_reader(self._fd, engine.run_once)
        self._bound: list[BoundSocket] = []
        self._serving = False
        self._admin: EmbeddedAdmin | None = None

    @classmethod
    async def start(cls, config: Config, strategies: Mapping[str, object], app_dir: str | None = None) -> Embedded:
        """Bind, resolve, check, and let clients in. Raises CannotBind and CannotStart, with nothing left behind."""
        try:
            check.read(config)
        except check.Problems as error:
            raise CannotStart(str(error)) from None
        bound = bind_all((listener.bind for listener in config.listeners), describe_holder)
        run = admin = None
        try:
            try:
                admin = bind_admin(config)
                changes = load_changes(config)
            except (ValueError, StateFileError) as error:
                raise CannotStart(str(error)) from error
            run = cls(config, strategies, app_dir, changes)
            run._bound = bound
            await run._come_up(config, admin)
        except BaseException:
            for socket in (*bound, *([] if admin is None else [admin])):
                socket.close()
            if run is not None:
                run._end()
            raise
        return run

    async def _come_up(self, config: Config, admin: BoundSocket | None) -> None:
        if not await self.controller.applied(_APPLY_TIMEOUT_S):
            raise CannotStart(self._link.rejected or f"not ready after {_APPLY_TIMEOUT_S:g} s")
        await self.controller.first_round()
        for socket, listener in zip(self._bound, config.listeners, strict=True):
            socket.listen()
            self._link.send(Listen(listener), [socket.sock.fileno()])
        self._serving = True
        if admin is not None:
            serves = EmbeddedAdmin(self.controller, self.decisions, self._bound, lambda: self._serving, self._loop)
            await serves.start(admin)
            self._admin = serves

    @property
    def addresses(self) -> list[str]:
        """Where clients are let in, with the ports that the kernel chose."""
        return [bound.bind.text for bound in self._bound]

    def settle(self) -> None:
        """Put changes in force now. From inside a callback of the engine they wait for the loop's next turn instead."""
        if not self._engine.in_batch:
            self.controller.publish_now()

    def reopen_logs(self) -> None:
        """Open the access log anew, by name."""
        self._link.send(ReopenLogs())

    async def stop(self, drain_s: float) -> None:
        """Let nobody in, finish what is in flight for so many seconds at most, close everything.

        Called again while it waits, it sets another deadline; both calls return when all is over.
        """
        self._serving = False
        wait_s = let_in_no_more(bound.sock for bound in self._bound if bound.sock.fileno() >= 0)
        try:
            if wait_s and drain_s:
                await asyncio.sleep(min(wait_s, drain_s))
            for socket in self._bound:
                socket.close()
            self._link.send(Drain(drain_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s + _GRACE_S):
                    await self._exited.wait()
        finally:
            for socket in self._bound:
                socket.close()
            try:
                if self._admin is not None:
                    admin, self._admin = self._admin, None
                    await admin.close()
            finally:
                self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._exited.set()
        self._loop.remove_reader(self._fd)
        self.controller.close()
        self._engine.close()
        if self._engine.access_log is not None:
            self._engine.access_log.close()
            self._engine.access_log = None
        # The segment is unmapped when the last engine object that points into it is gone, not here.
