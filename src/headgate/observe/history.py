"""What the last minutes and the last day were like: rings of fixed size, filled once a second. Pure.

A page that is opened at 3 a.m. shows when it began, without a monitoring system beside it. Both rings together are some
2,400 rows of nine numbers, however long the balancer runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from headgate.engine.histogram import Latency

SECONDS = 900
"""Rows of one second each: a quarter of an hour, which is how far back one looks when something has just broken."""
MINUTES = 1440
"""Rows of one minute each: a day, so that tonight can be held against last night."""
# Percentiles that are shown as "now" are of so many seconds: of one second alone they would jump with every request.
WINDOW = 10

Buckets = Mapping[int, int]
"""Durations by bucket: upper bound in nanoseconds -> how many (see `engine.histogram`)."""

Row = tuple[int, float, float, float | None, float | None, float | None, int, int]
"""(second since 1970, requests/s, answers 5xx/s, p50, p95, p99 in milliseconds, in flight, client connections).

A percentile is None where no request ended. In a row of a minute the two gauges are the highest there was."""


def quantiles(buckets: Buckets) -> tuple[float | None, float | None, float | None]:
    """p50, p95 and p99 in milliseconds, each within 3.2 %; None without values."""
    latency = Latency(0, 0, sorted(buckets.items()))
    p50, p95, p99 = (latency.quantile(q) for q in (0.50, 0.95, 0.99))
    return _ms(p50), _ms(p95), _ms(p99)


def grown(now: Buckets, before: Buckets) -> dict[int, int]:
    """What was counted between two looks; nothing where the counters began anew in between."""
    found = {bound: count - before.get(bound, 0) for bound, count in now.items() if count != before.get(bound, 0)}
    return found if all(count > 0 for count in found.values()) and len(before) <= len(now) else {}


class History:
    """Both rings. Rows never go back in time, whatever the clock does."""

    def __init__(self) -> None:
        self.seconds: deque[Row] = deque(maxlen=SECONDS)
        self.minutes: deque[Row] = deque(maxlen=MINUTES)
        self._window: deque[Buckets] = deque(maxlen=WINDOW)
        self._minute = _Minute(0)

    def add(
        self,
        wall: float,
        elapsed_s: float,
        *,
        requests: int,
        errors: int,
        buckets: Buckets,
        in_flight: int,
        connections: int,
    ) -> tuple[Row, Row | None]:
        """One look's numbers, counted since the look before: the second's row, and a minute's when one has ended.

        wall: seconds since 1970. elapsed_s: since the look before. buckets: durations of the requests that ended.
        """
        at = max(int(wall), self.seconds[-1][0] + 1 if self.seconds else 0)
        row: Row = (
            at,
            round(requests / elapsed_s, 2),
            round(errors / elapsed_s, 2),
            *quantiles(buckets),
            in_flight,
            connections,
        )
        self.seconds.append(row)
        self._window.append(buckets)
        ended = None
        if at // 60 != self._minute.number:
            if self._minute.elapsed_s:
                ended = self._minute.row()
                self.minutes.append(ended)
            self._minute = _Minute(at // 60)
        self._minute.add(elapsed_s, requests, errors, buckets, in_flight, connections)
        return row, ended

    def recent(self) -> tuple[float | None, float | None, float | None]:
        """p50, p95, p99 of the last ten seconds, in milliseconds."""
        return quantiles(merged(self._window))


class _Minute:
    """What a minute has had so far. number: minutes since 1970."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.elapsed_s = 0.0
        self._requests = self._errors = self._in_flight = self._connections = 0
        self._buckets: dict[int, int] = {}

    def add(
        self, elapsed_s: float, requests: int, errors: int, buckets: Buckets, in_flight: int, connections: int
    ) -> None:
        self.elapsed_s += elapsed_s
        self._requests += requests
        self._errors += errors
        self._in_flight = max(self._in_flight, in_flight)
        self._connections = max(self._connections, connections)
        for bound, count in buckets.items():
            self._buckets[bound] = self._buckets.get(bound, 0) + count

    def row(self) -> Row:
        return (
            self.number * 60,
            round(self._requests / self.elapsed_s, 2),
            round(self._errors / self.elapsed_s, 2),
            *quantiles(self._buckets),
            self._in_flight,
            self._connections,
        )


def merged(many: Iterable[Buckets]) -> dict[int, int]:
    """All of them in one."""
    found: dict[int, int] = {}
    for one in many:
        for bound, count in one.items():
            found[bound] = found.get(bound, 0) + count
    return found


def _ms(ns: float | None) -> float | None:
    return None if ns is None else round(ns / 1e6, 3)
