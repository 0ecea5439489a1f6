"""Which backends start slowly, or get less since they asked for it: the supervisor's part of slow start.

It sees backends come and go, decides (`resilience/slow_start.py`), and leaves a ramp in the record, which the segment
carries to all workers. A ramp is taken out of the record when it is over, so that the log and the state can say so.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

from headgate.resilience.slow_start import Warmth
from headgate.runtime.states import BackendRecord

_NONE = (0, 0)
# Workers pass on at most one "not now" a second. Without slow start nothing but the next one tells a backend that
# keeps asking from one that has asked twice.
_QUIET_S = 2.0


class Ramps:
    """loop: runs the timers. over: called with the slot when a backend has its whole share again, and with the status
    by which it had asked for less (0: it had started slowly).

    now: CLOCK_MONOTONIC in seconds, as workers read it.
    """

    def __init__(self, loop: AbstractEventLoop, over: Callable[[int, int], None], *, now: Callable[[], float]) -> None:
        self._loop = loop
        self._over = over
        self._now = now
        self._pools: dict[str, Warmth[int]] = {}
        self._serving: set[int] = set()
        self._timers: dict[int, TimerHandle] = {}

    def look(self, record: BackendRecord, window_s: float, *, starting: bool) -> bool:
        """Its state may have changed: set its ramp if it begins to serve now. True: it has one, and starts slowly.

        starting: the balancer itself does, so what is found up has been so for who knows how long.
        """
        serves = record.routable and record.config.weight > 0
        if serves == (record.slot in self._serving):
            return False
        warmth = self._pools.setdefault(record.pool, Warmth())
        if not serves:
            self._serving.discard(record.slot)
            self._cancel(record.slot)
            record.penalty = 0
            warmth.went(record.slot)
            return False
        self._serving.add(record.slot)
        if starting:
            warmth.was_there(record.slot)  # and a ramp that the process before gave it goes on
            return False
        slowly = warmth.came(record.slot, self._now(), window_s)
        record.penalty = 0
        record.ramp = (int(self._now() * 1000), int(window_s * 1000)) if slowly else _NONE
        if slowly:
            self._arm(record)
        return slowly

    def penalize(self, record: BackendRecord, status: int, for_s: float, window_s: float) -> bool:
        """It answered `status` and asked for less for so long. False: that is no news, since it is not in use, or asks
        for it all the time."""
        until_ms = int((self._now() + for_s) * 1000)
        if record.slot not in self._serving or until_ms <= record.ramp[0]:
            return False
        new = not record.penalty
        record.ramp = (until_ms, int(window_s * 1000))
        record.penalty = status
        self._arm(record)
        return new

    def resume(self, record: BackendRecord) -> None:
        """Its ramp is the one that the process before gave it."""
        if record.ramp != _NONE:
            self._arm(record)

    def forget(self, record: BackendRecord) -> None:
        """It was removed."""
        self._serving.discard(record.slot)
        self._cancel(record.slot)
        if (warmth := self._pools.get(record.pool)) is not None:
            warmth.went(record.slot)

    def forget_pool(self, pool: str) -> None:
        """The pool was removed, and its backends before it."""
        self._pools.pop(pool, None)

    def close(self) -> None:
        """Stop all timers."""
        for slot in list(self._timers):
            self._cancel(slot)

    def _arm(self, record: BackendRecord) -> None:
        self._cancel(record.slot)
        from_ms, for_ms = record.ramp
        lasts_s = for_ms / 1000
        if record.penalty:
            lasts_s = max(lasts_s, _QUIET_S)
        left_s = from_ms / 1000 + lasts_s - self._now()
        self._timers[record.slot] = self._loop.call_later(max(0.0, left_s), self._end, record)

    def _cancel(self, slot: int) -> None:
        timer = self._timers.pop(slot, None)
        if timer is not None:
            timer.cancel()

    def _end(self, record: BackendRecord) -> None:
        del self._timers[record.slot]
        status, record.penalty = record.penalty, 0
        record.ramp = _NONE
        if record.slot in self._serving:
            self._over(record.slot, status)
