"""One pool in one worker: joins the engine's pool to the policies that decide over it.

The engine asks for a backend and says how attempts ended; strategy, eligibility, detector and stickiness are pure; the
supervisor writes states. This file carries values between them and holds only what is between two of them: which
backends this worker avoids until the supervisor has spoken, and which probe it has in flight.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from headgate.balancing import sticky
from headgate.balancing.base import Strategy
from headgate.balancing.round_robin import RoundRobin
from headgate.config import schema
from headgate.engine.stats import EJECTED, HALF_OPEN
from headgate.errors import MEANING, Kind, Verdict
from headgate.resilience.detector import Detector
from headgate.resilience.eligibility import eligible
from headgate.resilience.gradient2 import Gradient2
from headgate.runtime.messages import Failed, Message, Probed, StrategyError, Trip
from headgate.runtime.parts import Parts

if TYPE_CHECKING:
    from headgate.engine import Backend, Pool, Segment

# The supervisor answers a trip within milliseconds. Two seconds without an answer mean that it knows better (too many
# are open already) or is gone: then what the states say holds again.
_UNANSWERED_S = 2.0
# Every request of a busy worker meets the same refused connection; one message says it.
_FAILED_EVERY_S = 1.0

_BROKEN = EJECTED | HALF_OPEN
_VERDICT = {int(kind): meaning.verdict for kind, meaning in MEANING.items()}
_WORD = {int(kind): meaning.word.replace("_", " ") for kind, meaning in MEANING.items()}


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


class WorkerPool:
    """Call `apply` with what should be, `refresh` when states changed, `tick` once a second.

    pool: the engine's object, which lives as long as this one. send: passes a message to the supervisor. clock:
    monotonic seconds.
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
        self._members: dict[tuple[str, int], Backend] = {}
        self._detectors: dict[Backend, Detector] = {}
        self._fallback = RoundRobin()
        self._strategy: Strategy = self._fallback
        self._strategy_works = False
        self._known_errors: set[str] = set()
        # What was last read from the segment, and what came of it.
        self._views: list[_View] = []
        self._set: list[Backend] = []
        self._weights: list[int] = []
        self._half_open: list[Backend] = []
        self._next_probe = 0
        # Tripped here: avoided until the supervisor's answer shows, or until then.
        self._avoided: dict[Backend, float] = {}
        # Half-open probes of this worker that are in flight.
        self._probing: set[Backend] = set()
        self._failed_at: dict[Backend, float] = {}
        self._limiter: Gradient2 | None = None
        self.pool.fallback = self._fallback.pick
        self.pool.pick = self._fallback.pick
        self.pool.outcome = self._outcome
        self.pool.strategy_error = self._strategy_error

    @property
    def backends(self) -> Collection[Backend]:
        """In configuration order."""
        return self._members.values()

    @property
    def strategy(self) -> Strategy:
        """What picks, while it works."""
        return self._strategy

    @property
    def routable(self) -> bool:
        """Is there a backend for a new session?"""
        return bool(self._set)

    # What should be

    def apply(
        self, config: schema.Pool, members: Sequence[Member], strategy: Strategy | None, secret: bytes
    ) -> list[Backend]:
        """Become this. Members that stay keep their engine object. Returns those that do not, to be watched out.

        strategy: a new one, or None to keep what there is. secret: signs the stickiness cookies.
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
            self._members[key] = backend
        left = list(before.values())
        self.pool.members = list(self._members.values())
        self._set_limiter()
        self._set_sticky(secret)
        if strategy is not None:
            self._strategy = strategy
            self._strategy_works = False
            self._known_errors.clear()
            self.pool.done = getattr(strategy, "done", None)
        self._forget(left)
        self._set_detectors(anew=breaker_changed)
        self._evaluate(self._read(), renewed=strategy is not None)
        return left

    def close(self) -> list[Backend]:
        """The pool is gone: nothing is picked any more. Returns all its backends."""
        return self.apply(self.config, [], None, b"")

    def _forget(self, left: Sequence[Backend]) -> None:
        for backend in left:
            backend.eligible = backend.bound_ok = backend.watched = False
            backend.set_cookie = b""
            self._avoided.pop(backend, None)
            self._failed_at.pop(backend, None)
            if backend in self._probing:
                self._release(backend)

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

    def _set_detectors(self, *, anew: bool) -> None:
        """One detector for each member, while the breaker is on. anew: its settings have changed."""
        breaker = self.config.breaker
        if breaker is None:
            self._detectors = {}
            return
        before = {} if anew else self._detectors
        self._detectors = {backend: before.get(backend) or _detector(breaker) for backend in self.backends}

    # What may be picked

    def refresh(self) -> None:
        """Look at the segment again. Costs little when nothing in this pool changed."""
        views = self._read()
        if views != self._views:
            self._evaluate(views)

    def _read(self) -> list[_View]:
        """The state of each backend, with what this worker knows earlier than the supervisor."""
        views = []
        for backend in self.backends:
            flags = backend.flags
            if self._avoided and backend in self._avoided:
                if flags & _BROKEN:
                    del self._avoided[backend]  # the supervisor agreed, and decides from here on
                else:
                    flags |= EJECTED
            views.append(_View(backend, flags, backend.weight))
        return views

    def _evaluate(self, views: list[_View], *, renewed: bool = False) -> None:
        """Work out who may be picked; tell the engine, and the strategies if their set changed, or if `renewed`."""
        self._views = views
        result = eligible(views, self.config.panic)
        chosen = [view.backend for view in result.new_sessions]
        weights = [view.weight for view in result.new_sessions]
        new_sessions = set(chosen)
        bound = {view.backend for view in result.bound}
        half_open = [view.backend for view in result.half_open]
        for view in views:
            backend = view.backend
            backend.eligible = backend in new_sessions
            backend.bound_ok = backend in bound
            backend.watched = bool(view.flags & HALF_OPEN)
            backend.share = float(view.weight)
            if not backend.watched and backend in self._probing:
                self._release(backend)
        self.pool.eligible_count = len(chosen)
        self._half_open = half_open
        self.pool.probe = self._probe if half_open else None
        if renewed or chosen != self._set or weights != self._weights or not self._strategy_works:
            self._set = chosen
            self._weights = weights
            self._update_strategies()
        self.pool.changed()

    def _update_strategies(self) -> None:
        self._fallback.update(self._set)
        try:
            self._strategy.update(list(self._set))
        except Exception as error:
            # Not asked again until an update() succeeds: what it would answer is from another set.
            self._strategy_works = False
            self.pool.pick = self._fallback.pick
            self._segment.add_worker(self._worker, "strategy_errors")
            self._strategy_error(error)
        else:
            self._strategy_works = True
            self.pool.pick = self._strategy.pick

    def _strategy_error(self, error: BaseException | str) -> None:
        """A request was served by the fallback. Told once per kind of error, since it may be every request; the
        supervisor logs it, once for all workers."""
        kind = "" if isinstance(error, str) else type(error).__name__
        if kind not in self._known_errors:
            self._known_errors.add(kind)
            self._send(StrategyError(self.name, error if isinstance(error, str) else _describe(error)))

    # What happened to attempts

    def _outcome(self, backend: Backend, kind: int) -> None:
        """An attempt failed, or one at a half-open backend ended."""
        verdict = _VERDICT[kind]
        if verdict is Verdict.CONNECT:
            self._say_failed(backend, kind)
        if backend.watched:
            self._tried_half_open(backend, kind, verdict)
        elif verdict not in (Verdict.NONE, Verdict.SUCCESS):
            detector = self._detectors.get(backend)
            if detector is not None and not backend.flags & _BROKEN and backend not in self._avoided:
                reason = detector.failed(self._clock(), backend.succeeded)
                if reason is not None:
                    self._trip(backend, kind, f"{reason}: {_WORD[kind]}")

    def _say_failed(self, backend: Backend, kind: int) -> None:
        now = self._clock()
        if now - self._failed_at.get(backend, now - _FAILED_EVERY_S) >= _FAILED_EVERY_S:
            self._failed_at[backend] = now
            self._send(Failed(backend.slot, kind))

    def _trip(self, backend: Backend, kind: int, reason: str) -> None:
        """Stop using the backend at once, as far as the cap allows, and let the supervisor decide."""
        out = sum(bool(view.flags & _BROKEN) for view in self._views)
        n = len(self._views)
        if n > 1 and out < max(1, n // 2):
            self._avoided[backend] = self._clock() + _UNANSWERED_S
            self._evaluate(self._read())
        self._send(Trip(backend.slot, kind, reason))

    def _probe(self) -> Backend | None:
        """A half-open backend for this idempotent request, if nobody probes it yet. The engine asks."""
        for _ in self._half_open:
            self._next_probe = (self._next_probe + 1) % len(self._half_open)
            backend = self._half_open[self._next_probe]
            if backend not in self._probing and self._segment.claim_probe(backend.slot, self._worker):
                self._probing.add(backend)
                return backend
        return None

    def _tried_half_open(self, backend: Backend, kind: int, verdict: Verdict) -> None:
        """Report it if it was a probe, or came by another way that is open now; attempts from before tell old news."""
        if verdict is Verdict.NONE:
            # Says nothing. A stale connection is replaced and the same request goes on: still the probe.
            if kind != Kind.STALE and backend in self._probing:
                self._release(backend)
        elif backend in self._probing or backend.eligible or backend.bound_ok:
            self._probing.discard(backend)
            self._send(Probed(backend.slot, verdict is Verdict.SUCCESS, kind))

    def _release(self, backend: Backend) -> None:
        """Give up a probe that told nothing, so that another request may be one."""
        self._probing.discard(backend)
        if self._segment.probe_holder(backend.slot) == self._worker:
            self._segment.release_probe(backend.slot)

    # Time

    def tick(self) -> None:
        """Once a second."""
        now = self._clock()
        for backend, detector in self._detectors.items():
            detector.sample(now, backend.succeeded)
        for backend in [backend for backend in self._probing if not backend.active]:
            self._release(backend)  # its attempt ended without a word
        late = [backend for backend, until in self._avoided.items() if until <= now]
        for backend in late:
            del self._avoided[backend]
        if late or self._avoided:
            self.refresh()


def set_addresses(backend: Backend, addresses: list[bytes]) -> None:
    """Connect there from now on. Kept connections go if one of the old addresses is no longer among them."""
    before = backend.addresses
    if before != addresses:
        backend.addresses = addresses
        if not set(before) <= set(addresses):
            backend.close_idle()


def _describe(error: BaseException) -> str:
    """In one line, with the place in the user's code: "KeyError: 'x' (my_strategies.py line 28, in pick)"."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    return f"{text} ({os.path.basename(frames[-1].filename)} line {frames[-1].lineno}, in {frames[-1].name})"


def _detector(breaker: schema.Breaker) -> Detector:
    if breaker.failure_rate is None:
        # Only failures in a row: no share is ever taken of so many.
        return Detector(breaker.failure_threshold, window_s=breaker.window, minimum=sys.maxsize)
    return Detector(breaker.failure_threshold, breaker.failure_rate, breaker.window)
