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
from headgate.explain.question import BadQuestion
from headgate.explain.standing import PoolLook
from headgate.observe import status
from headgate.observe.names import route_name
from headgate.routing.identified import Guarded, IdentifiedRouter
from headgate.routing.match import Entry, Router
from headgate.runtime import messages
from headgate.runtime.cores import worker_count
from headgate.runtime.fallbacks import chain, stand_in, static_answer
from headgate.runtime.parts import EngineParts, Parts
from headgate.runtime.pool import Member, WorkerPool, set_addresses
from headgate.runtime.snapshot import Snapshot
from headgate.runtime.transport import Channel, TransportError
from headgate.tls.built import Built
from headgate.tls.files import TlsFiles
from headgate.tls.identity import identify
from headgate.tls.inventory import Used, used

if TYPE_CHECKING:
    from headgate.engine import AccessLog, Backend, Engine, Listener, Pool, Route, Segment, StaticAnswer
    from headgate.engine.decisions import Decisions

    _Way = list[tuple[Pool, PoolTimeouts]]

T = TypeVar("T")

logger = logging.getLogger("headgate.worker")

# Detectors count in seconds, and a lost supervisor answer is made good after two.
TICK_S = 1.0

# What an old log's file may take to swallow its last lines: nothing else moves in this worker meanwhile.
_LOG_CLOSE_S = 0.25

# What is kept of a query, in the engine's numbers.
_QUERIES = ("drop", "names", "keep")


@dataclass(slots=True)
class _Plan:
    """What an apply needs and could have failed to get."""

    strategies: dict[str, dict[int, Strategy]]
    static_answers: dict[str, StaticAnswer | None]
    access_log: AccessLog | None
    log_changed: bool
    tls: Built


class WorkerAgent:
    """Carries out what the controller says on one engine. Call `start()` once, before the engine runs.

    worker: this worker's number in the segment. make_strategy: builds a pool's strategy from its configuration; raises
    when it cannot. on_exit: called once when there is nothing left to do (after a drain or a stop); `engine.stop` by
    default. on_applied: called after each snapshot that came into force. sources: the random sources that strategies
    were given, whose state an explanation puts back. decisions: where the engine keeps where requests went.
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
        decisions: Decisions | None = None,
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
        self._decisions = decisions
        self._config: Config | None = None
        self._tls = Built()
        self._certificates: list[Used] = []
        self._listener_slots: dict[str, int] = {}
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
        # Imported here: seldom asked for, and a quarter of a MiB in each worker.
        from headgate.explain.decide import explain

        explanation = None
        problem = ""
        try:
            self._refresh()
            if self._config is None:
                raise BadQuestion("this worker runs no configuration yet")
            listener = next((one for one in self._config.listeners if one.bind.text == message.listener), None)
            if listener is None:
                raise BadQuestion(f"there is no listener {message.listener}")

            def look(name: str) -> PoolLook:
                return self._pools[name].look()

            explanation = explain(message.question, self._config, listener, look, sources=self._sources)
        except Exception as error:
            problem = _why(error)
        self._channel.send(messages.Explained(message.number, explanation, problem))

    def _try(self, message: messages.Try) -> None:
        text = ""
        try:
            plan = self._prepare(message.config, message.tls)
        except Exception as error:
            text = _why(error)
        else:
            if plan.access_log is not None:
                plan.access_log.close(0.0)
        self._channel.send(messages.Tried(message.number, text))

    def _apply(self, snapshot: Snapshot) -> None:
        try:
            plan = self._prepare(snapshot.config, snapshot.tls)
        except Exception as error:
            self._channel.send(messages.Rejected(snapshot.generation, _why(error)))
            return
        self._commit(snapshot, plan)
        self._segment.set_worker(self._worker, "generation", snapshot.generation)
        self._channel.send(messages.Applied(snapshot.generation))
        if self._on_applied is not None:
            self._on_applied()

    def _prepare(self, config: Config, tls: TlsFiles) -> _Plan:
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
        IdentifiedRouter([_guarded(route, None) for route in config.routes])  # raises when there is a mistake in them
        built = Built(config, tls, self._tls)
        old = self._config.access_log if self._config is not None else AccessLogConfig(format="off")
        changed = old != config.access_log
        try:
            access_log = self._parts.access_log(config.access_log) if changed else None
        except OSError as error:
            path = config.access_log.path
            raise ValueError(f"access_log.path: cannot open {path}: {error.strerror or error}") from error
        return _Plan(strategies, static_answers, access_log, changed, built)

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
        self._tls = plan.tls
        self._certificates = used(config, snapshot.tls)
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
            context = plan.tls.of_pool(pool_config)
            self._leaving += pool.apply(pool_config, members, plan.strategies[name], secret, context)
            pool.pool.fallback_answer = plan.static_answers[name]
            pool.pool.share_reserve(worker_count(config))
            pools[name] = pool
        self._pools = pools
        self._by_slot = {backend.slot: backend for pool in pools.values() for backend in pool.backends}
        self._config = config
        self._listener_slots = snapshot.listener_slots
        self._set_routes(config, snapshot.route_slots)
        self._set_listeners(config)
        # Only now, when no route leads there any more.
        for pool in removed:
            self._leaving += pool.close()
        for backend in self._leaving:
            backend.close_idle()
        self._set_recording(config)
        if plan.log_changed:
            old, self._engine.access_log = self._engine.access_log, plan.access_log
            if old is not None:
                old.close(_LOG_CLOSE_S)

    def _set_recording(self, config: Config) -> None:
        """What of requests is kept among the decisions, and what becomes of traces."""
        kept = config.decisions
        self._engine.decisions = self._decisions if kept is not None else None
        share = kept.sample if kept is not None else None
        self._engine.sample(round(1 / share) if share else 0, _QUERIES.index(kept.query) if kept is not None else 0)
        tracing = config.tracing
        mode = 0 if tracing is None else 2 if tracing.traceparent == "create" else 1
        self._engine.trace(mode, (tracing.sample or 0.0) if tracing is not None else 0.0)

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
        listener = self._parts.listener(fds[0], config, self._listener_slots.get(bind, 0))
        listener.status = self._status
        listener.ready = partial(self._ready, bind)
        listener.closing = self._leaving_soon
        self._secure(listener, config)
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
            else:
                if listener.config != wanted[bind]:
                    listener.configure(wanted[bind])
                self._secure(listener, wanted[bind])
        for bind, listener in (*self._listeners.items(), *self._closed_listeners):
            self._connect(bind, listener)

    def _secure(self, listener: Listener, config: ListenerConfig) -> None:
        """The certificates for new connections; those that are open keep what they have."""
        context = self._tls.of_listener(config)
        if context is not listener.tls:
            listener.tls = context
        listener.identify = identify if config.tls is not None and config.tls.client_ca else None

    def _set_routes(self, config: Config, slots: Mapping[str, int]) -> None:
        """The engine's route for each configured one, with one more for each pool that stands in for another;
        kept while the pools, and the times it takes over from them, are the same."""
        routes = {}
        for route_config in config.routes:
            pools = [self._pools[name].pool for name in chain(route_config.pool, config.pools)]
            way = [(pool, pool.config.timeouts) for pool in pools]
            slot = slots.get(route_name(route_config), 0)
            route, old_way = self._routes.get(route_config, (None, None))
            if route is None or way != old_way or route.slot != slot:
                made = [self._parts.route(pool, route_config, slot) for pool in pools]
                for each, stands_in in pairwise(made):
                    each.fallback = stands_in
                route = made[0]
            routes[route_config] = route, way
        self._routes = routes

    def _connect(self, bind: str, listener: Listener) -> None:
        """Let a listener's requests find their routes."""
        routes = self._routes_of(bind)
        first, route = routes[0] if routes else (None, None)
        catches_all = (
            len(routes) == 1
            and first is not None
            and not first.host
            and first.path_prefix == "/"
            and first.client_cert is None
        )
        listener.only_route = route if catches_all else None
        # Without routes that ask for a certificate nobody has to ask who the client is.
        listener.match_identity = any(config.client_cert is not None for config, _ in routes)
        if listener.match_identity:
            listener.match = IdentifiedRouter([_guarded(config, route) for config, route in routes], bind).match
        else:
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
        config = self._config or Config()
        stand_ins = {
            name: stand_in(name, config.pools, lambda other: self._pools[other].routable)
            for name, pool in self._pools.items()
            if not pool.routable
        }
        page = status.render(
            self._segment,
            rows,
            version=__version__,
            pool_slots=slots,
            in_panic=panic,
            stand_ins=stand_ins,
            certificates=self._certificates,
        )
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


def _guarded(config: RouteConfig, target: T) -> Guarded[T]:
    allows = None if config.client_cert is None else config.client_cert.matches
    return Guarded(_entry(config, target), allows)


def _entry(config: RouteConfig, target: T) -> Entry[T]:
    return Entry(config.listener or "", config.host or "", config.path_prefix, target)
