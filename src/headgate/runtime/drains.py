"""Drains of single backends that have a deadline: one timer each, so that what is bound moves on in the end."""

from __future__ import annotations

import math
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable


class Drains:
    """loop: runs the timers. over: called with the slot when a drain's deadline has come."""

    def __init__(self, loop: AbstractEventLoop, over: Callable[[int], None]) -> None:
        self._loop = loop
        self._over = over
        self._timers: dict[int, TimerHandle] = {}

    def begin(self, slot: int, deadline_s: float | None) -> None:
        """A drain began; it ends after so many seconds, or with `cancel` only. Once more sets another deadline."""
        self.cancel(slot)
        if deadline_s is not None:
            self._timers[slot] = self._loop.call_later(deadline_s, self._end, slot)

    def cancel(self, slot: int) -> None:
        """It drains no longer: enabled, disabled or removed."""
        timer = self._timers.pop(slot, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Stop all timers."""
        for slot in list(self._timers):
            self.cancel(slot)

    def _end(self, slot: int) -> None:
        del self._timers[slot]
        self._over(slot)


def checked_deadline(deadline_s: float | None) -> float | None:
    """The same, or ValueError for what is no length of time."""
    if deadline_s is None:
        return None
    if isinstance(deadline_s, bool) or not isinstance(deadline_s, (int, float)) or not math.isfinite(deadline_s):
        raise ValueError(f"a drain's deadline is a number of seconds, or none, not {deadline_s!r}")
    if deadline_s < 0:
        raise ValueError(f"a drain's deadline cannot lie in the past: {deadline_s:g} s")
    return float(deadline_s)
