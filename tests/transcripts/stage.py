"""A balancer in the test's own thread: the real engine with the real policy glue, and states a test may set."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket
from ssl import SSLContext
from typing import TYPE_CHECKING, Any

from headgate.balancing.base import Backend as BackendView
from headgate.balancing.base import Request, Strategy
from headgate.config.schema import Config
from headgate.engine import AccessLog, Engine, Listener, Route, Segment, pack_address
from headgate.engine.stats import CHECKED, ENABLED, PRESENT, UP, BackendTotals, Totals
from headgate.errors import Kind
from headgate.runtime.messages import Message
from headgate.runtime.parts import EngineParts
from headgate.runtime.pool import Member, WorkerPool

from ..e2e.harness.ports import HeldPort

if TYPE_CHECKING:
    from headgate.engine.stats import PoolTotals

ROUTABLE = PRESENT | ENABLED | CHECKED | UP

# Waiting ends with the event that is waited for; these only bound a failure.
PATIENCE_S = 10.0
MOST_TURNS = 50_000
# The engine is taken to be at rest after so many looks that found nothing to do.
LOOKS = 3


class InOrder:
    """The first backend that was not tried: so a test knows who is asked first."""

    def __init__(self) -> None:
        self._backends: list[BackendView] = []

    def update(self, backends: Sequence[BackendView]) -> None:
        self._backends = list(backends)

    def pick(self, request: Request, tried: Collection[BackendView]) -> BackendView | None:
        return next((backend for backend in self._backends if backend not in tried), None)


class Stage:
    """One listener, one pool, one backend for each name. Nothing happens by itself: `turn` and its friends run it.

    listener, pool: their tables in the configuration, beside what is decided here. strategy: `InOrder` by default.
    spare: the backends of a second pool, which stands in for the first. workers: for how many there is room; the others
    are stages with `beside` this one, which share its segment.
    """

    def __init__(
        self,
        directory: Path,
        ports: Mapping[str, HeldPort],
        listener: Mapping[str, object],
        pool: Mapping[str, object],
        strategy: Strategy | None = None,
        route: Mapping[str, object] | None = None,
        limits: Mapping[str, Mapping[str, int]] | None = None,
        spare: Mapping[str, HeldPort] | None = None,
        spare_pool: Mapping[str, object] | None = None,
        workers: int = 1,
        beside: Stage | None = None,
    ) -> None:
        self.backend_tls: tuple[SSLContext, str] | None = None
        """What is spoken with backends, and their name."""
        self._table = {"health": False, **pool}
        self._strategy = strategy or InOrder()
        self._ports = ports
        pools = {"web": self._pool_table(limits)}
        if spare:
            backends = [{"url": port.url, "name": name} for name, port in spare.items()]
            pools["spare"] = {"backends": backends, "health": False, **(spare_pool or {})}
        config = Config.from_dict(
            {
                "listeners": [{"bind": "127.0.0.1:0", **listener}],
                "routes": [{"pool": "web", **(route or {})}],
                "pools": pools,
            }
        )
        self.reports: list[Message] = []
        """What the worker would have told the supervisor."""
        self._log_path = directory / "access.log"
        self._log = AccessLog("json", str(self._log_path))
        self.slots = {name: slot for slot, name in enumerate([*ports, *(spare or {})])}
        self._owner = beside is None
        self._worker: int = 0 if beside is None else beside._worker + 1
        self.segment: Segment = Segment.create(workers, backends=8, pools=2) if beside is None else beside.segment
        for slot in self.slots.values():
            self.segment.set_backend(slot, flags=ROUTABLE, weight=1)
        self.engine = Engine(self.segment, self._worker)
        self.engine.access_log = self._log
        self._poller = select.poll()
        self._poller.register(self.engine.fileno(), select.POLLIN)
        self.pool = self._make_pool(config, "web", ports, self._strategy)
        self.spare = self._make_pool(config, "spare", spare, InOrder()) if spare else None
        self.engine.on_generation = self._refresh
        self.address = self._listen(config)

    def _pool_table(self, limits: Mapping[str, Mapping[str, int]] | None) -> dict[str, object]:
        backends = [
            {"url": port.url, "name": name, **(limits or {}).get(name, {})} for name, port in self._ports.items()
        ]
        return {"backends": backends, **self._table}

    def _make_pool(self, config: Config, name: str, ports: Mapping[str, HeldPort], strategy: Strategy) -> WorkerPool:
        pool = WorkerPool(
            name,
            0 if name == "web" else 1,
            config.pools[name],
            parts=EngineParts(self.segment, self._worker),
            segment=self.segment,
            worker=self._worker,
            clock=lambda: self.engine.now,
            send=self.reports.append,
            cut_off=self.engine.cut_off_backend,
        )
        self._apply(pool, config, ports, strategy)
        return pool

    def _apply(
        self, pool: WorkerPool, config: Config, ports: Mapping[str, HeldPort], strategy: Strategy | None
    ) -> None:
        pool_config = config.pools[pool.name]
        members = [
            Member(backend, self.slots[backend.name], [pack_address(AF_INET, ports[backend.name].address)])
            for backend in pool_config.backends
        ]
        pool.apply(pool_config, members, {0: strategy} if strategy else {}, b"a secret that is long enough")
        self.backends_speak_tls(pool)

    def backends_speak_tls(self, pool: WorkerPool) -> None:
        """As if their URLs said https; applying a configuration in which they do not takes it back."""
        if self.backend_tls is not None:
            for backend in pool.pool.members:
                backend.tls, backend.server_name = self.backend_tls

    def reconfigure(self, limits: Mapping[str, Mapping[str, int]] | None = None, **pool: object) -> None:
        """A reload: the same pool with other limits of its backends, or other keys of its own."""
        self._table |= pool
        tree = {"listeners": [{"bind": "127.0.0.1:0"}], "pools": {"web": self._pool_table(limits)}}
        self._apply(self.pool, Config.from_dict(tree), self._ports, None)
        self.settle()

    def use(self, strategy: Strategy) -> None:
        """Another strategy from now on: one that is given the engine's clock can only be made when there is one."""
        config = Config.from_dict({"listeners": [{"bind": "127.0.0.1:0"}], "pools": {"web": self._pool_table(None)}})
        self._apply(self.pool, config, self._ports, strategy)
        self.settle()

    def relisten(self, **listener: object) -> None:
        """The same listener with these keys, as a reload gives it them."""
        tree = {"listeners": [{"bind": "127.0.0.1:0", **listener}], "pools": {"web": self._pool_table(None)}}
        self.listener.configure(Config.from_dict(tree).listeners[0])

    def _refresh(self) -> None:
        for pool in (self.pool, self.spare):
            if pool is not None:
                pool.refresh()

    def _listen(self, config: Config) -> tuple[str, int]:
        listening = socket(AF_INET, SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        listening.setblocking(False)
        address: tuple[str, int] = listening.getsockname()
        self.listener = Listener(listening.detach(), config.listeners[0])
        route = self.listener.only_route = Route(self.pool.pool, config.routes[0])
        if self.spare is not None:
            route.fallback = Route(self.spare.pool, config.routes[0])
        self.engine.add_listener(self.listener)
        return address

    # Running

    def until(self, condition: Callable[[], bool], sock: socket | None = None, events: int = select.POLLIN) -> bool:
        """Run the engine until `condition()`, waiting for its events and for `events` of `sock`. False: in vain."""
        deadline = time.monotonic() + PATIENCE_S
        if sock is not None:
            self._poller.register(sock, events)
        try:
            for _ in range(MOST_TURNS):
                self.engine.run_once()
                if condition():
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._poller.poll(left * 1000)
            return False
        finally:
            if sock is not None:
                self._poller.unregister(sock)

    def settle(self) -> None:
        """Run the engine until it has nothing to do (timers that are still to come do not count)."""
        looks = 0
        for _ in range(MOST_TURNS):
            if looks == LOOKS:
                return
            looks = 0 if self._poller.poll(0) else looks + 1
            self.engine.run_once()
        raise AssertionError(f"the engine did not come to rest in {MOST_TURNS} turns")

    def busy(self) -> bool:
        """Does the engine have something to do now?"""
        return bool(self._poller.poll(0))

    def passes(self, seconds: float) -> None:
        """Run the engine until its clock has moved on by `seconds`."""
        self.engine.run_once()
        start = self.engine.now
        while (left := start + seconds - self.engine.now) > 0:
            self._poller.poll(left * 1000)
            self.engine.run_once()

    # Looking

    def totals(self, backend: str) -> BackendTotals:
        """The counters of one backend."""
        return self.segment.backend_totals(self.slots[backend])

    @property
    def queue(self) -> PoolTotals:
        """The pool's limits and its queue."""
        return self.segment.pool_totals(0)

    def places(self, backend: str) -> tuple[int, int]:
        """(requests, connections) that hold a place at this backend, of those it limits."""
        return self.segment.places(self.slots[backend])

    @property
    def worker(self) -> Totals:
        """The worker's counters."""
        return self.segment.totals()

    def ended(self, kind: Kind) -> int:
        """How many exchanges ended in this way."""
        return self.segment.kind_counts()[kind]

    def set_state(self, backend: str, flags: int) -> None:
        """What the supervisor would write into the segment."""
        self.segment.set_backend(self.slots[backend], flags=flags)
        self.segment.bump_generation()
        self.settle()

    def log(self) -> list[dict[str, Any]]:
        """The access log, which ends here."""
        self.engine.access_log = None
        self._log.close()
        return [json.loads(line) for line in self._log_path.read_text().splitlines()]

    def close(self) -> None:
        self.engine.access_log = None
        self._log.close()
        self.engine.close()
        if self._owner:
            self.segment.close()
