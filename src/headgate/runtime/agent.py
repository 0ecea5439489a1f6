"""The worker's side of the control channel: turns snapshots and orders into engine objects.

A snapshot says what should be; the agent compares it with what is, by name, and changes only what differs. What stays
keeps its connections, counters and strategy state, so a snapshot that changes nothing does nothing. Applying is all or
nothing: what can fail (a user's strategy, the log file) is built first, and only then is anything touched.

The same agent works in a worker process and inside a user's asyncio program; it neither knows nor cares.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, TypeVar

from headgate import __version__
from headgate.balancing.base import Strategy
from headgate.config.schema import AccessLog as AccessLogConfig
from headgate.config.schema import Config, PoolTimeouts
from headgate.config.schema import Listener as ListenerConfig
from headgate.config.schema import Pool as PoolConfig
from headgate.config.schema import Route as RouteConfig
from headgate.config.schema import Strategy as StrategyConfig
from headgate.explain.decide import explain
from headgate.explain.question import BadQuestion
from headgate.observe import status
from headgate.routing.match import Entry, Router
from headgate.runtime import messages
from headgate.runtime.cores import worker_count
from headgate.runtime.fallbacks import chain, static_answer
from headgate.runtime.parts import EngineParts, Parts
from headgate.runtime.pool import Member, WorkerPool, set_addresses
from headgate.runtime.snapshot import Snapshot
from headgate.runtime.transport import Channel, TransportError

if TYPE_CHECKING:
    from headgate.engine import AccessLog, Backend, Engine, Listener, Pool, Route, Segment, StaticAnswer

    _Way = list[tuple[Pool, PoolTimeouts]]

T = TypeVar("T")

logger = logging.getLogger("headgate.worker")

# Detectors count in seconds, and a lost supervisor answer is made good after two.
TICK_S = 1.0

# What an old log's file may take to swallow its last lines: nothing else moves in this worker meanwhile.
_LOG_CLOSE_S = 0.25


@dataclass(slots=True)
class _Plan:
    """What an apply needs and could have failed to get."""

    strategies: dict[str, dict[int, Strategy]]
    static_answers: dict[str, StaticAnswer | None]
    access_log: AccessLog | None
    log_changed: bool


class WorkerAgent:
    """Carries out what the controller says on one engine. Call `start()` once, before the engine runs.

    worker: this worker's number in the segment. make_strategy: builds a pool's strategy from its configuration; raises
    when it cannot. on_exit: called once when there is nothing left to do (after a drain or a stop); `engine.stop` by
    default. on_applied: called after each snapshot that came into force. sources: the random sources that strategies were
    given, whose state an explanation puts back.
    """

    def __init__(
        self,
        engine: Engine,
        segment: Segment,
        worker: int,
        channel: Channel,
        *,
        make_strategy: Callable[[StrategyConfig], Strategy],
        parts: Parts | None = None,
        on_exit: Callable[[], None] | None = None,
        on_applied: Callable[[], None] | None = None,
        sources: Sequence[Random] = (),
    ) -> None:
        self._engine = engine
        self._segment = segment
        self._worker = worker
        self._channel = channel
        self._make_strategy = make_strategy
        self._parts = parts or EngineParts(segment, worker)
        self._on_exit = on_exit or engine.stop
        self._on_applied = on_applied
        self._sources = sources
        self._config: Config | None = None
        self._pools: dict[str, WorkerPool] = {}
        self._by_slot: dict[int, Backend] = {}
        self._routes: dict[RouteConfig, tuple[Route, _Way]] = {}
        # By `bind` as configured: where that says port 0, the real one is the supervisor's business.
        self._listeners: dict[str, Listener] = {}
        # Listeners that accept no more: connections they accepted still ask them for routes.
        self._closed_listeners: list[tuple[str, Listener]] = []
        # Removed backends whose last requests are still in flight: their connections are not to be kept.
        self._leaving: list[Backend] = []
        self._leaving_soon = False
        self._draining = False
        self._exited = False

    @property
    def pools(self) -> Mapping[str, WorkerPool]:
        """What this worker balances over now."""
        return self._pools

    @property
    def draining(self) -> bool:
        """New connections are no longer accepted, for good."""
        return self._draining

    def start(self) -> None:
        """Introduce this worker and begin to listen to the controller."""
        self._engine.on_generation = self._refresh
        self._engine.every(TICK_S, self._tick)
        self._channel.send(messages.Hello(self._worker, os.getpid()))
        self._channel.watch(self._receive, self._engine.watch)

    # Orders

    def _receive(self) -> None:
        broken = False
        try:
            received = self._channel.receive()
        except TransportError as error:
            logger.error("%s", error)
            received, broken = [], True
        for message, fds in received:
            try:
                self._obey(message, fds)
            except Exception:
                # Whatever it was, the messages behind it are as good as before.
                logger.exception("worker %d failed to carry out %s", self._worker, type(message).__name__)
        if (broken or self._channel.eof) and not self._exited:
            self._orphaned()

    def _obey(self, message: messages.Message, fds: Sequence[int]) -> None:
        match message:
            case messages.Apply():
                self._apply(message.snapshot)
            case messages.Listen():
                self._listen(message.listener, fds)
                return
            case messages.Addresses():
                if (backend := self._by_slot.get(message.slot)) is not None:
                    set_addresses(backend, message.addresses)
            case messages.Try():
                self._try(message)
            case messages.Explain():
                self._explain(message)
            case messages.Leave():
                self._leave()
            case messages.Drain():
                self._drain(message.deadline_s, message.idle_s)
            case messages.ReopenLogs():
                if self._engine.access_log is not None:
                    self._engine.access_log.reopen()
            case messages.Stop():
                self._exit()
            case _:
                logger.error("a worker is not told %s", type(message).__name__)
        for fd in fds:
            os.close(fd)

    def _orphaned(self) -> None:
        """The controller is gone: accept nothing more at once, finish what is in flight, exit."""
        fd = self._channel.fileno()
        if fd >= 0:
            self._engine.unwatch(fd)  # it would stay readable, and wake the engine without end
        if not self._draining:
            logger.warning("worker %d: the supervisor is gone, finishing what is in flight", self._worker)
            self._drain(self._config.supervisor.drain if self._config is not None else 0.0)

    def _leave(self) -> None:
        """Clients and whoever looks at `ready_path` are told to go elsewhere; everything is served as before."""
        self._leaving_soon = True
        for listener in self._listeners.values():
            listener.closing = True

    def _drain(self, deadline_s: float, idle_s: float = 0.0) -> None:
        """Once more while it drains: another deadline."""
        self._draining = True
        self._closed_listeners += self._listeners.items()
        self._listeners.clear()
        self._engine.drain(deadline_s, self._drained, idle_s)

    def _drained(self) -> None:
        self._channel.send(messages.Drained(self._engine.cut_off))
        self._exit()

    def _exit(self) -> None:
        if not self._exited:
            self._exited = True
            self._channel.flush()
            self._on_exit()

    # Snapshots

    def _explain(self, message: messages.Explain) -> None:
        """Only this worker knows whose turn it is; finding that out changes nothing (see `headgate.explain`)."""
        explanation = None
        problem = ""
        try:
            self._refresh()
            if self._config is None:
                raise BadQuestion("this worker runs no configuration yet")
            listener = next((one for one in self._config.listeners if one.bind.text == message.listener), None)
            if listener is None:
                raise BadQuestion(f"there is no listener {message.listener}")
            looks = {name: pool.look() for name, pool in self._pools.items()}
            explanation = explain(message.question, self._config, listener, looks, sources=self._sources)
        except Exception as error:
            problem = _why(error)
        self._channel.send(messages.Explained(message.number, explanation, problem))

    def _try(self, message: messages.Try) -> None:
        text = ""
        try:
            plan = self._prepare(message.config)
        except Exception as error:
            text = _why(error)
        else:
            if plan.access_log is not None:
                plan.access_log.close(0.0)
        self._channel.send(messages.Tried(message.number, text))

    def _apply(self, snapshot: Snapshot) -> None:
        try:
            plan = self._prepare(snapshot.config)
        except Exception as error:
            self._channel.send(messages.Rejected(snapshot.generation, _why(error)))
            return
        self._commit(snapshot, plan)
        self._segment.set_worker(self._worker, "generation", snapshot.generation)
        self._channel.send(messages.Applied(snapshot.generation))
        if self._on_applied is not None:
            self._on_applied()

    def _prepare(self, config: Config) -> _Plan:
        """Build what may fail. Changes nothing."""
        strategies = {}
        static_answers = {}
        for name, pool_config in config.pools.items():
            try:
                static_answers[name] = static_answer(pool_config.fallback, self._parts)
            except (OSError, ValueError) as error:
                raise ValueError(f"pools.{name}.fallback.file: {error}") from error
            try:
                strategies[name] = self._make_strategies(self._pools.get(name), pool_config)
            except Exception as error:
                raise ValueError(f"pools.{name}.strategy: {error}") from error
        Router([_entry(route, None) for route in config.routes])  # raises when there is a mistake in them
        old = self._config.access_log if self._config is not None else AccessLogConfig(format="off")
        changed = old != config.access_log
        try:
            access_log = self._parts.access_log(config.access_log) if changed else None
        except OSError as error:
            path = config.access_log.path
            raise ValueError(f"access_log.path: cannot open {path}: {error.strerror or error}") from error
        return _Plan(strategies, static_answers, access_log, changed)

    def _make_strategies(self, pool: WorkerPool | None, config: PoolConfig) -> dict[int, Strategy]:
        """The strategies that `pool` has not yet, one for each priority."""
        kept: Mapping[int, Strategy] = {}
        if pool is not None and pool.config.strategy == config.strategy:
            kept = pool.strategies
        wanted = {backend.priority for backend in config.backends} | {0}
        new = {priority: self._make_strategy(config.strategy) for priority in sorted(wanted) if priority not in kept}
        used = [strategy for priority, strategy in {**kept, **new}.items() if priority in wanted]
        if len({id(strategy) for strategy in used}) < len(used):
            raise ValueError("one object cannot serve backends of several priorities: give its class")
        return new

    def _commit(self, snapshot: Snapshot, plan: _Plan) -> None:
        config = snapshot.config
        removed = [pool for name, pool in self._pools.items() if name not in config.pools]
        pools = {}
        for name, pool_config in config.pools.items():
            pool = self._pools.get(name)
            if pool is None:
                pool = self._new_pool(name, snapshot.pool_slots[name], pool_config)
            members = [
                Member(backend, slot, snapshot.addresses.get(slot, []))
                for backend in pool_config.backends
                for slot in (snapshot.backend_slots[name, backend.name],)
            ]
            secret = snapshot.sticky_secrets.get(name, b"")
            self._leaving += pool.apply(pool_config, members, plan.strategies[name], secret)
            pool.pool.fallback_answer = plan.static_answers[name]
            pool.pool.share_reserve(worker_count(config))
            pools[name] = pool
        self._pools = pools
        self._by_slot = {backend.slot: backend for pool in pools.values() for backend in pool.backends}
        self._config = config
        self._set_routes(config)
        self._set_listeners(config)
        # Only now, when no route leads there any more.
        for pool in removed:
            self._leaving += pool.close()
        for backend in self._leaving:
            backend.close_idle()
        if plan.log_changed:
            old, self._engine.access_log = self._engine.access_log, plan.access_log
            if old is not None:
                old.close(_LOG_CLOSE_S)

    def _new_pool(self, name: str, slot: int, config: PoolConfig) -> WorkerPool:
        return WorkerPool(
            name,
            slot,
            config,
            parts=self._parts,
            segment=self._segment,
            worker=self._worker,
            clock=self._clock,
            send=self._channel.send,
            cut_off=self._engine.cut_off_backend,
        )

    def _clock(self) -> float:
        return self._engine.now

    # Listeners and routes

    def _listen(self, config: ListenerConfig, fds: Sequence[int]) -> None:
        if len(fds) != 1:
            # This process was out of descriptors when the message came.
            logger.error("listener %s came with %d descriptors: not accepting on it", config.bind.text, len(fds))
        bind = config.bind.text
        if len(fds) != 1 or self._draining or bind in self._listeners:
            for fd in fds:
                os.close(fd)
            return
        listener = self._parts.listener(fds[0], config)
        listener.status = self._status
        listener.ready = partial(self._ready, bind)
        listener.closing = self._leaving_soon
        self._connect(bind, listener)
        self._listeners[bind] = listener
        self._engine.add_listener(listener)

    def _set_listeners(self, config: Config) -> None:
        """Drop listeners that are no longer configured, and bring the others up to date."""
        wanted = {listener_config.bind.text: listener_config for listener_config in config.listeners}
        for bind, listener in list(self._listeners.items()):
            if bind not in wanted:
                self._engine.remove_listener(listener)
                del self._listeners[bind]
                # What it accepted lives on, and its next requests want routes that lead somewhere.
                self._closed_listeners.append((bind, listener))
            elif listener.config != wanted[bind]:
                listener.configure(wanted[bind])
        for bind, listener in (*self._listeners.items(), *self._closed_listeners):
            self._connect(bind, listener)

    def _set_routes(self, config: Config) -> None:
        """The engine's route for each configured one, with one more for each pool that stands in for another;
        kept while the pools, and the times it takes over from them, are the same."""
        routes = {}
        for route_config in config.routes:
            pools = [self._pools[name].pool for name in chain(route_config.pool, config.pools)]
            way = [(pool, pool.config.timeouts) for pool in pools]
            route, old_way = self._routes.get(route_config, (None, None))
            if route is None or way != old_way:
                made = [self._parts.route(pool, route_config) for pool in pools]
                for each, stands_in in pairwise(made):
                    each.fallback = stands_in
                route = made[0]
            routes[route_config] = route, way
        self._routes = routes

    def _connect(self, bind: str, listener: Listener) -> None:
        """Let a listener's requests find their routes."""
        routes = self._routes_of(bind)
        first, route = routes[0] if routes else (None, None)
        catches_all = len(routes) == 1 and first is not None and not first.host and first.path_prefix == "/"
        listener.only_route = route if catches_all else None
        listener.match = Router([_entry(config, route) for config, route in routes], bind).match

    def _routes_of(self, bind: str) -> list[tuple[RouteConfig, Route]]:
        return [(config, route) for config, (route, _) in self._routes.items() if config.listener in (None, bind)]

    # What listeners answer by themselves

    def _status(self) -> bytes:
        rows = [
            (pool.name, backend.name, backend.url, backend.slot)
            for pool in self._pools.values()
            for backend in pool.backends
        ]
        slots = {pool.name: pool.slot for pool in self._pools.values()}
        panic = {pool.name for pool in self._pools.values() if pool.panic}
        page = status.render(self._segment, rows, version=__version__, pool_slots=slots, in_panic=panic)
        # The supervisor writes a state, and a moment later the generation that makes workers look. Who was told "down"
        # here must not have the next request go there.
        self._refresh()
        return page

    def _ready(self, bind: str) -> bool:
        """Can every pool that this listener leads to serve somebody, or one that stands in for it?"""
        if self._draining or self._leaving_soon or self._config is None:
            return False
        pools = {config.pool for config, _ in self._routes_of(bind)}
        ways = [chain(name, self._config.pools) for name in pools]
        return bool(ways) and all(any(self._pools[name].routable for name in way) for way in ways)

    # Housekeeping

    def _refresh(self) -> None:
        """Some backend's state changed in the segment."""
        for pool in self._pools.values():
            pool.refresh()

    def _tick(self) -> None:
        self._channel.flush()
        for pool in self._pools.values():
            pool.tick()
        if self._leaving:
            # A request that was in flight at the removal leaves its connection behind.
            for backend in self._leaving:
                backend.close_idle()
            self._leaving = [backend for backend in self._leaving if backend.active]


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _entry(config: RouteConfig, target: T) -> Entry[T]:
    return Entry(config.listener or "", config.host or "", config.path_prefix, target)
