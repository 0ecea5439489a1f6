"""The breakers of all pools, driven by one timer: what workers report goes in, changes of state come out."""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

from headgate.config.schema import Breaker
from headgate.errors import Kind
from headgate.resilience.breaker import BreakerGroup, Refused, Remembered, State, Transition
from headgate.resilience.cause import Cause

log = logging.getLogger("headgate.control")

# A bad backend that must stay in use trips again with every few failures; one line in so many seconds tells it.
_SAY_REFUSED_S = 10.0


class Breakers:
    """One `BreakerGroup` for each pool; backends are known by their slots.

    loop: runs the timer. changed: called with (slot, transition). refused: called with (slot, reason) when a backend
    that should be out stays in use. now: monotonic seconds.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        changed: Callable[[int, Transition[int]], None],
        refused: Callable[[int, str], None],
        *,
        now: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._refused = refused
        self._now = now
        self._groups: dict[str, BreakerGroup[int]] = {}
        self._off: set[str] = set()
        self._said: dict[int, float] = {}
        self._timer: TimerHandle | None = None

    def configure(self, pool: str, config: Breaker | None) -> None:
        """A new pool, or new settings for an old one; None turns its breaker off (`eject` still works)."""
        settings = config or Breaker()
        group = self._groups.get(pool)
        if group is None:
            group = self._groups[pool] = BreakerGroup()
        group.recovery_s = settings.recovery
        group.recovery_max_s = max(settings.recovery, settings.recovery_max)
        group.success_threshold = settings.success_threshold
        if config is None:
            self._off.add(pool)
        else:
            self._off.discard(pool)

    def remove_pool(self, pool: str) -> None:
        """The pool is gone; its backends have been removed before."""
        self._groups.pop(pool, None)
        self._off.discard(pool)

    def add(self, pool: str, slot: int) -> None:
        """A new backend, closed."""
        self._groups[pool].add(slot, self._now())

    def remembered(self, pool: str, slot: int) -> Remembered | None:
        """For `restore` in another process."""
        return self._groups[pool].remembered(slot)

    def restore(self, pool: str, slot: int, remembered: Remembered) -> State:
        """Be as it was in another process; returns its state."""
        self._groups[pool].restore(slot, remembered)
        self._arm()
        return remembered.state

    def remove(self, pool: str, slot: int) -> None:
        """The backend is gone. (A timer that was for it alone finds nothing to do.)"""
        self._groups[pool].remove(slot)
        self._said.pop(slot, None)

    def trip(self, pool: str, slot: int, kind: Kind, reason: str, cause: Cause) -> None:
        """A worker's detector asks to open it."""
        if pool not in self._off:
            self.eject(pool, slot, kind, reason, cause)

    def eject(self, pool: str, slot: int, kind: Kind, reason: str, cause: Cause) -> None:
        """Open it, breaker or not: where nothing checks, connect failures in traffic are all there is to go by."""
        now = self._now()
        answer = self._groups[pool].trip(slot, kind, reason, now, cause)
        if isinstance(answer, Refused):
            if now - self._said.get(slot, float("-inf")) >= _SAY_REFUSED_S:
                self._said[slot] = now
                self._refused(slot, answer.reason)
            return
        self._report(answer)

    def probed(self, pool: str, slot: int, ok: bool, kind: Kind) -> None:
        """A request to a half-open backend has ended."""
        self._report(self._groups[pool].probed(slot, ok, kind, self._now()))

    def came_up(self, pool: str, slot: int) -> None:
        """Its active check went from down to up."""
        self._report(self._groups[pool].check_passed(slot, True, self._now()))

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report(self, transition: Transition[int] | None) -> None:
        if transition is not None:
            if transition.after is State.CLOSED:
                self._said.pop(transition.key, None)
            self._changed(transition.key, transition)
            self._arm()

    def _arm(self) -> None:
        """One timer for the next thing that happens by itself in any pool."""
        now = self._now()
        times = [when for group in self._groups.values() if (when := group.next_event(now)) is not None]
        self.close()
        if times:
            self._timer = self._loop.call_later(max(0.0, min(times) - now), self._advance)

    def _advance(self) -> None:
        self._timer = None
        now = self._now()
        for group in list(self._groups.values()):
            for transition in group.advance(now):
                self._changed(transition.key, transition)
        self._arm()
