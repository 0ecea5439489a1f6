"""Which backends start slowly, or get less since they asked for it: the supervisor's part of slow start.

It sees backends come and go, decides (`resilience/slow_start.py`), and leaves a ramp in the record, which the segment
carries to all workers.
"""

from __future__ import annotations

from collections.abc import Callable

from headgate.resilience.slow_start import Warmth
from headgate.runtime.states import BackendRecord

_NONE = (0, 0)


class Ramps:
    """now: CLOCK_MONOTONIC in seconds, as workers read it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._pools: dict[str, Warmth[int]] = {}
        self._serving: set[int] = set()

    def look(self, record: BackendRecord, window_s: float, *, starting: bool) -> None:
        """Its state may have changed: set its ramp if it begins to serve now.

        starting: the balancer itself does, so what is found up has been so for who knows how long.
        """
        serves = record.routable and record.config.weight > 0
        if serves == (record.slot in self._serving):
            return
        warmth = self._pools.setdefault(record.pool, Warmth())
        if not serves:
            self._serving.discard(record.slot)
            warmth.went(record.slot)
            return
        self._serving.add(record.slot)
        record.ramp = _NONE
        if starting:
            warmth.was_there(record.slot)
        elif warmth.came(record.slot, self._now(), window_s):
            record.ramp = (int(self._now() * 1000), int(window_s * 1000))

    def penalize(self, record: BackendRecord, for_s: float, window_s: float) -> bool:
        """It asked for less for so long. False: it is not in use, or has asked for as much already."""
        until_ms = int((self._now() + for_s) * 1000)
        if record.slot not in self._serving or until_ms <= record.ramp[0]:
            return False
        new = record.ramp[0] <= self._now() * 1000
        record.ramp = (until_ms, int(window_s * 1000))
        return new

    def forget(self, record: BackendRecord) -> None:
        """It was removed."""
        self._serving.discard(record.slot)
        if (warmth := self._pools.get(record.pool)) is not None:
            warmth.went(record.slot)

    def forget_pool(self, pool: str) -> None:
        """The pool was removed, and its backends before it."""
        self._pools.pop(pool, None)
