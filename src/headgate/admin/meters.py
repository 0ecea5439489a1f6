"""Rates of backends and pools: what their counters in the segment say now, against what they said before. Pure.

Backends are read by turns, `TURN` of them a second: five thousand cost what two hundred and fifty do, and are looked at
every twenty seconds instead of every second. Each number is over the time since its own last look.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from headgate.engine.stats import Segment
from headgate.observe.history import grown, quantiles

TURN = 250
"""Backends that are read in one second; one costs some 4 µs."""
POINTS = 60
"""How many points a backend's own history has ..."""
POINT_S = 5.0
"""... and how far they lie apart: five minutes in all."""
# Percentiles of a pool are over two to ten seconds: less would jump, more would be late.
_WINDOW_S = 5.0


class BackendNumbers(NamedTuple):
    """requests: attempts started, in all. latency_ms: mean time to the first byte of what was answered since the last
    look; None where nothing was."""

    rate: float
    failures: float
    """Attempts a second that count against it."""
    active: int
    latency_ms: float | None
    requests: int
    failed: int


class PoolNumbers(NamedTuple):
    """rate: requests that ended, a second. requests: that ended, in all."""

    rate: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    waiting: int
    requests: int


class _Look(NamedTuple):
    at: float
    attempts: int
    failed: int
    first_bytes: int
    first_byte_ns: int


class BackendMeter:
    """One backend. slot: where it is counted in the segment; another one means that its counters begin anew."""

    __slots__ = ("_last", "_point", "numbers", "points", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.numbers = BackendNumbers(0.0, 0.0, 0, None, 0, 0)
        self.points: deque[tuple[float, float | None]] = deque(maxlen=POINTS)
        """(requests/s, mean ms to the first byte), oldest first, `POINT_S` or a turn apart."""
        self._last: _Look | None = None
        self._point: _Look | None = None

    def look(self, segment: Segment, now: float) -> bool:
        """Read the counters. Returns whether there is a new point."""
        total = segment.backend_totals(self.slot)
        answers = segment.backend_first_byte_latency(self.slot)
        look = _Look(now, total.attempts, total.failed, answers.count, answers.sum_ns)
        last = self._last
        if last is None or any(new < old for new, old in zip(look, last, strict=True)) or now <= last.at:
            self._last = self._point = look
            self.numbers = BackendNumbers(0.0, 0.0, total.active, None, look.attempts, look.failed)
            return False
        self._last = look
        for_s = now - last.at
        self.numbers = BackendNumbers(
            round((look.attempts - last.attempts) / for_s, 2),
            round((look.failed - last.failed) / for_s, 2),
            total.active,
            _mean_ms(last, look),
            look.attempts,
            look.failed,
        )
        assert self._point is not None
        # Looks are a second apart, a little more or less.
        if now - self._point.at < POINT_S - 0.5:
            return False
        point, self._point = self._point, look
        self.points.append((round((look.attempts - point.attempts) / (now - point.at), 2), _mean_ms(point, look)))
        return True


class PoolMeter:
    """One pool. slot: where its latencies are counted."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.numbers = PoolNumbers(0.0, None, None, None, 0, 0)
        self._count: tuple[float, int] | None = None
        self._before: dict[int, int] = {}
        # What was counted at the beginning of the window that is over, and of the one that has begun.
        self._older: dict[int, int] = {}
        self._newer: tuple[float, dict[int, int]] = (0.0, {})

    def look(self, segment: Segment, now: float) -> dict[int, int]:
        """Read the counters. Returns the durations counted since the look before, by bucket."""
        latency = segment.latency(self.slot)
        buckets = dict(latency.buckets)
        # The buckets' own total: `count` is another word and may be one ahead of them.
        count = sum(buckets.values())
        waiting = segment.pool_totals(self.slot)["waiting"]
        if self._count is None or count < self._count[1] or now <= self._count[0]:
            self._count = (now, count)
            self._before = self._older = buckets
            self._newer = (now, buckets)
            self.numbers = PoolNumbers(0.0, None, None, None, waiting, count)
            return {}
        since, counted = self._count
        more = grown(buckets, self._before)
        if now - self._newer[0] >= _WINDOW_S:
            self._older = self._newer[1]
            self._newer = (now, buckets)
        self._count = (now, count)
        self._before = buckets
        p50, p95, p99 = quantiles(grown(buckets, self._older))
        self.numbers = PoolNumbers(round((count - counted) / (now - since), 2), p50, p95, p99, waiting, count)
        return more


class RouteMeter:
    """One route. slot: where it is counted; 0: with others that found no place, so there is nothing to say of it."""

    __slots__ = ("_last", "numbers", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.numbers: tuple[float, float, int] | None = None
        """(requests/s that ended, answers 5xx/s, requests that ended)."""
        self._last: tuple[float, int, int] | None = None

    def look(self, segment: Segment, now: float) -> None:
        """Read the counters."""
        if self.slot == 0:
            return
        status = segment.route_totals(self.slot)["status"]
        look = (now, sum(status), status[5])
        last, self._last = self._last, look
        if last is None or any(new < old for new, old in zip(look, last, strict=True)) or now <= last[0]:
            self.numbers = (0.0, 0.0, look[1])
            return
        for_s = now - last[0]
        self.numbers = (round((look[1] - last[1]) / for_s, 2), round((look[2] - last[2]) / for_s, 2), look[1])


def _mean_ms(before: _Look, now: _Look) -> float | None:
    answered = now.first_bytes - before.first_bytes
    return round((now.first_byte_ns - before.first_byte_ns) / answered / 1e6, 3) if answered else None
