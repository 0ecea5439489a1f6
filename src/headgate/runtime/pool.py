"""One pool in one worker: joins the engine's pool to the policies that decide over it.

The engine asks for a backend and says how attempts ended; strategy, eligibility, detector and stickiness are pure; the
supervisor writes states. This file carries values between them; how attempts end is for `attempts`, which strategy
places a request for `levels`.
"""

from __future__ import annotations

import os
import ssl
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import random
from typing import TYPE_CHECKING, NamedTuple

from headgate.balancing import sticky
from headgate.balancing.base import Strategy
from headgate.balancing.round_robin import RoundRobin
from headgate.config import schema
from headgate.engine.stats import DRAINED, HALF_OPEN
from headgate.explain.standing import PoolLook, Standing
from headgate.observe import status
from headgate.resilience import slow_start
from headgate.resilience.eligibility import Level, eligible
from headgate.resilience.gradient2 import Gradient2
from headgate.runtime.attempts import Attempts
from headgate.runtime.levels import Levels
from headgate.runtime.messages import Message, StrategyError
from headgate.runtime.parts import Parts

if TYPE_CHECKING:
    from headgate.engine import Backend, Pool, Segment


@dataclass(frozen=True, slots=True)
class Member:
    """A backend as a snapshot has it."""

    config: schema.Backend
    slot: int
    addresses: list[bytes]


class _View(NamedTuple):
    """A backend with its state as it was read at one moment."""

    backend: Backend
    flags: int
    weight: int
    priority: int
    factor: float


class WorkerPool:
    """Call `apply` with what should be, `refresh` when states changed, `tick` once a second.

    pool: the engine's object, which lives as long as this one. send: passes a message to the supervisor. clock:
    monotonic seconds. cut_off: closes all connections to a backend.
    """

    def __init__(
        self,
        name: str,
        slot: int,
        config: schema.Pool,
        *,
        parts: Parts,
        segment: Segment,
        worker: int,
        clock: Callable[[], float],
        send: Callable[[Message], object],
        cut_off: Callable[[Backend], None],
    ) -> None:
        self.name = name
        self.slot = slot
        self.config = config
        self.pool: Pool = parts.pool(name, slot, config)
        self._parts = parts
        self._segment = segment
        self._worker = worker
        self._clock = clock
        self._send = send
        self._cut_off = cut_off
        self._drained: set[Backend] = set()
        self._members: dict[tuple[str, int], Backend] = {}
        self._attempts = Attempts(segment, worker, clock=clock, send=send, changed=self._reconsider)
        self._fallback = Levels(random)
        self._strategies = Levels(random)
        self._strategy_works = False
        self._known_errors: set[str] = set()
        # What was last read from the segment, and what came of it.
        self._views: list[_View] = []
        self._levels: list[Level[Backend]] = []
        self._shares: list[float] = []
        self._ramping = False
        self._panic = False
        self._limiter: Gradient2 | None = None
        self.pool.fallback = self.pool.pick = self._fallback.pick
        self.pool.outcome = self._attempts.outcome
        self.pool.strategy_error = self._strategy_error

    @property
    def backends(self) -> Collection[Backend]:
        """In configuration order."""
        return self._members.values()

    @property
    def strategies(self) -> Mapping[int, Strategy]:
        """What picks, while it works: one for each priority."""
        return self._strategies.strategies

    @property
    def routable(self) -> bool:
        """Is there a backend for a new session?"""
        return any(level.backends for level in self._levels)

    @property
    def panic(self) -> bool:
        """Are ejected backends used, since too few others are left?"""
        return self._panic

    def look(self) -> PoolLook:
        """Everything that decides where a request to this pool goes now, for an explanation."""
        factors = {view.backend: (view.flags, view.factor) for view in self._views}
        return PoolLook(
            name=self.name,
            config=self.config,
            backends=[self._standing(backend, *factors[backend]) for backend in self.backends],
            levels=self._levels,
            panic=self._panic,
            sticky=self.pool.sticky,
            placer=self._strategies,
            fallback=self._fallback,
            works=self._strategy_works,
            probe=self._attempts.next_probe,
            full=self._full(),
        )

    def _standing(self, backend: Backend, flags: int, factor: float) -> Standing:
        known, weight, reason, _ = self._segment.backend_state(backend.slot)
        return Standing(
            backend=backend,
            state=status.state_of(flags),
            flags=flags,
            reason=reason,
            weight=weight,
            factor=factor,
            priority=backend.priority,
            active=backend.active,
            eligible=backend.eligible,
            bound_ok=backend.bound_ok,
            full=self._backend_full(backend),
            here="its breaker tripped in this worker a moment ago" if flags != known else "",
        )

    def _backend_full(self, backend: Backend) -> str:
        config = backend.config
        if config.max_requests and backend.active >= config.max_requests:
            return f"full: {backend.active} of max_requests = {config.max_requests} in flight"
        if config.max_connections:
            counted = self._segment.backend_totals(backend.slot)
            if counted.connections >= config.max_connections and not counted.idle:
                return f"full: all of max_connections = {config.max_connections} are in use"
        return ""

    def _full(self) -> str:
        limit = self.config.limits.max_requests
        active = sum(backend.active for backend in self.backends) if limit else 0
        return f"the pool is full: {active} of max_requests = {limit} in flight" if limit and active >= limit else ""

    # What should be

    def apply(
        self,
        config: schema.Pool,
        members: Sequence[Member],
        strategies: Mapping[int, Strategy],
        secret: bytes,
        tls: ssl.SSLContext | None = None,
    ) -> list[Backend]:
        """Become this. Members that stay keep their engine object. Returns those that do not, to be watched out.

        strategies: new ones, by priority; a priority that is not in it keeps what it has. secret: signs the stickiness
        cookies. tls: the context for https backends.
        """
        breaker_changed = config.breaker != self.config.breaker
        if config != self.config:
            self.config = config
            self.pool.configure(config)
        before = self._members
        self._members = {}
        for member in members:
            key = (member.config.name, member.slot)
            backend = before.pop(key, None)
            if backend is None:
                backend = self._parts.backend(self.pool, member.slot, member.config)
            elif backend.config != member.config:
                backend.configure(member.config)
            set_addresses(backend, member.addresses)
            _secure(backend, member.config, config, tls)
            backend.priority = member.config.priority
            self._members[key] = backend
        left = list(before.values())
        for backend in left:
            backend.eligible = backend.bound_ok = backend.watched = False
            backend.set_cookie = b""
        self.pool.members = list(self._members.values())
        self._set_limiter()
        self._set_sticky(secret)
        self._set_strategies(strategies)
        self._attempts.forget(left)
        self._attempts.watch(self.backends, config.breaker, anew=breaker_changed)
        self._evaluate(self._read(), renewed=bool(strategies))
        return left

    def close(self) -> list[Backend]:
        """The pool is gone: nothing is picked any more. Returns all its backends."""
        return self.apply(self.config, [], {}, b"")

    def _set_strategies(self, new: Mapping[int, Strategy]) -> None:
        wanted = sorted({backend.priority for backend in self.config.backends} | {0})
        if not new and wanted == list(self._strategies.strategies):
            return
        have = {**self._strategies.strategies, **new}
        fallbacks = self._fallback.strategies
        self._fallback.use({priority: fallbacks.get(priority) or RoundRobin() for priority in wanted})
        self._strategies.use({priority: have.get(priority) or RoundRobin() for priority in wanted})
        if new:
            self._known_errors.clear()
        # Only when it has been told of its backends again may it pick.
        self._strategy_works = False
        self.pool.done = self._strategies.done

    def _set_sticky(self, secret: bytes) -> None:
        config = self.config.sticky
        if config is None:
            self.pool.sticky = None
            self.pool.sticky_name = b""
            for backend in self.backends:
                backend.set_cookie = b""
            return
        name = config.name.encode()
        table = sticky.lookup(secret, self.name, self.backends)
        for value, backend in table.items():
            backend.set_cookie = sticky.set_cookie_line(
                name,
                value,
                secure=config.secure,
                same_site=config.same_site.capitalize(),
                ttl_s=config.ttl or None,
            )
        self.pool.sticky_name = name
        self.pool.sticky = table

    def _set_limiter(self) -> None:
        if not self.config.limits.adaptive:
            self.pool.limiter = None
        elif self._limiter is None or self.pool.limiter is None:
            self._limiter = self.pool.limiter = Gradient2(len(self._members))
        else:
            self._limiter.resize(len(self._members))

    # What may be picked

    def refresh(self) -> None:
        """Look at the segment again. Costs little when nothing in this pool changed."""
        views = self._read()
        if views != self._views:
            self._evaluate(views)

    def _reconsider(self) -> None:
        self._evaluate(self._read())

    def _read(self) -> list[_View]:
        """The state of each backend, with what this worker knows earlier than the supervisor."""
        now = self._clock()
        return [
            _View(
                backend,
                self._attempts.flags(backend),
                backend.weight,
                backend.priority,
                slow_start.factor(now, *backend.ramp),
            )
            for backend in self.backends
        ]

    def _evaluate(self, views: list[_View], *, renewed: bool = False) -> None:
        """Work out who may be picked; tell the engine, and the strategies if that changed, or if `renewed`."""
        self._views = views
        result = eligible(views, self.config.panic)
        self._panic = result.panic
        self._ramping = any(view.factor < 1.0 for view in result.new_sessions)
        new_sessions = {view.backend for view in result.new_sessions}
        bound = {view.backend for view in result.bound}
        half_open = [view.backend for view in result.half_open]
        shares = []
        for view in views:
            backend = view.backend
            backend.eligible = backend in new_sessions
            backend.bound_ok = backend in bound
            backend.watched = bool(view.flags & HALF_OPEN)
            backend.share = view.weight * view.factor
            if backend.eligible:
                shares.append(backend.share)
            if not backend.watched:
                self._attempts.unwatched(backend)
        self._attempts.offer(half_open)
        self.pool.probe = self._attempts.probe if half_open else None
        levels = [
            Level(level.priority, [view.backend for view in level.backends], level.load) for level in result.levels
        ]
        if renewed or levels != self._levels or shares != self._shares or not self._strategy_works:
            self._levels = levels
            self._shares = shares
            self._update_strategies()
        self.pool.eligible_count = len(new_sessions)
        self.pool.changed()
        self._cut_off_drained(views)

    def _cut_off_drained(self, views: list[_View]) -> None:
        """The deadline of a drain has passed: nothing goes there any more, and what is there ends."""
        drained = {view.backend for view in views if view.flags & DRAINED}
        new, self._drained = drained - self._drained, drained
        for backend in new:
            self._cut_off(backend)

    def _update_strategies(self) -> None:
        self._fallback.update(self._levels)
        self.pool.fallback = self._fallback.pick
        try:
            self._strategies.update(self._levels)
            self.pool.done = self._strategies.done
        except Exception as error:
            # Not asked again until an update() succeeds: what it would answer is from another set.
            self._strategy_works = False
            self.pool.pick = self._fallback.pick
            self._segment.add_worker(self._worker, "strategy_errors")
            self._strategy_error(error)
        else:
            self._strategy_works = True
            self.pool.pick = self._strategies.pick

    def _strategy_error(self, error: BaseException | str) -> None:
        """A request was served by the fallback. Told once per kind of error, since it may be every request; the
        supervisor logs it, once for all workers."""
        kind = "" if isinstance(error, str) else type(error).__name__
        if kind not in self._known_errors:
            self._known_errors.add(kind)
            self._send(StrategyError(self.name, error if isinstance(error, str) else _describe(error)))

    # Time

    def tick(self) -> None:
        """Once a second."""
        if self._attempts.tick() or self._ramping:
            self.refresh()


def set_addresses(backend: Backend, addresses: list[bytes]) -> None:
    """Connect there from now on. Kept connections go if one of the old addresses is no longer among them."""
    before = backend.addresses
    if before != addresses:
        backend.addresses = addresses
        if not set(before) <= set(addresses):
            backend.close_idle()


def _secure(backend: Backend, config: schema.Backend, pool: schema.Pool, tls: ssl.SSLContext | None) -> None:
    """Meet it so from now on. Connections that were made otherwise are not kept."""
    context = tls if config.url.tls else None
    name = (pool.tls.server_name or config.url.host) if context is not None else ""
    if backend.tls is not context or backend.server_name != name:
        backend.tls, backend.server_name = context, name
        backend.close_idle()


def _describe(error: BaseException) -> str:
    """In one line, with the place in the user's code: "KeyError: 'x' (my_strategies.py line 28, in pick)"."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    return f"{text} ({os.path.basename(frames[-1].filename)} line {frames[-1].lineno}, in {frames[-1].name})"
