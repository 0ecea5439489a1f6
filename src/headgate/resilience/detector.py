"""Says when a backend should be taken out, from the outcomes of live traffic. Worker side, one for each backend.

Two rules: so many failures in a row, or too large a share of failures in a window of time. The first finds a dead
backend within milliseconds; the second one that fails half the time and so never fails often in a row.

A failure costs a call, a success must not: successes are nearly everything. They are counted by the engine and read
from its counter here: at a failure, to see whether one came in between, and once a second, to know the count at the
start of the window. Memory is bounded whatever the rate.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from headgate.resilience.cause import Cause

# Five in a row are no accident even where one request in ten fails (1 in 100,000), and are reached at once when all do.
FAILURE_THRESHOLD = 5
# Half: above it more requests are lost by staying than by leaving the work to the others.
FAILURE_RATE = 0.5
# Long enough for ten requests in a quiet pool, short enough to forget a deployment.
WINDOW_S = 10.0
# Below ten attempts a share says little.
MINIMUM = 10

_SLICES = 100  # of the window; failures are known to a slice


class Tripped(NamedTuple):
    """Why a backend should be taken out: the rule, and the text for people."""

    cause: Cause
    reason: str


class Detector:
    """Counts what counts against one backend; which outcomes do is for `errors.MEANING` to say.

    `now` is monotonic seconds, `successes_total` the engine's count of successful attempts, which only grows.
    """

    def __init__(
        self,
        failure_threshold: int = FAILURE_THRESHOLD,
        failure_rate: float = FAILURE_RATE,
        window_s: float = WINDOW_S,
        minimum: int = MINIMUM,
    ) -> None:
        """Raises ValueError for a threshold or minimum below 1, a rate outside 0 < rate <= 1, a window of no length."""
        if failure_threshold < 1 or minimum < 1:
            raise ValueError("failure_threshold and minimum are at least 1")
        if not 0 < failure_rate <= 1:
            raise ValueError(f"failure_rate is above 0 and at most 1, not {failure_rate:g}")
        if not window_s > 0:
            raise ValueError(f"window is longer than nothing, not {window_s:g} s")
        self._threshold = failure_threshold
        self._rate = failure_rate
        self._window_s = window_s
        self._minimum = minimum
        self._streak = 0
        self._streak_successes = 0  # total at the last failure
        self._failures: deque[list[int]] = deque()  # [slice, failures in it]
        self._failed = 0  # sum over _failures
        self._samples: deque[tuple[float, int]] = deque()  # (time, successes_total)

    def failed(self, now: float, successes_total: int) -> Tripped | None:
        """An attempt failed. Why the backend should be taken out now (and counting starts afresh), or None."""
        if not self._samples:
            self._samples.append((now, successes_total))
        if successes_total != self._streak_successes:
            self._streak = 0
            self._streak_successes = successes_total
        self._streak += 1
        self._count_failure(now)
        tripped = self._verdict(now, successes_total)
        if tripped is not None:
            self._clear()
            self._samples.append((now, successes_total))
        return tripped

    def succeeded(self, now: float) -> None:
        """An attempt succeeded: a streak ends. For callers that report successes; the counter alone does as well."""
        self._streak = 0

    @property
    def wants_successes(self) -> bool:
        """Is there a streak that a success would end?"""
        return self._streak > 0

    def sample(self, now: float, successes_total: int) -> None:
        """Once a second or so: what the count of successes is now. The finer, the more exact the window's start."""
        samples = self._samples
        samples.append((now, successes_total))
        start = now - self._window_s
        while len(samples) > 2 and samples[1][0] <= start:
            samples.popleft()

    def reset(self) -> None:
        """Forget everything: the backend starts afresh, as after its breaker closed."""
        self._clear()

    def _clear(self) -> None:
        self._streak = 0
        self._failures.clear()
        self._failed = 0
        self._samples.clear()

    def _count_failure(self, now: float) -> None:
        current = int(now * _SLICES / self._window_s)
        failures = self._failures
        if failures and failures[-1][0] == current:
            failures[-1][1] += 1
        else:
            failures.append([current, 1])
        self._failed += 1
        while failures[0][0] <= current - _SLICES:
            self._failed -= failures.popleft()[1]

    def _verdict(self, now: float, successes_total: int) -> Tripped | None:
        if self._streak >= self._threshold:
            reason = f"{self._streak} failures in a row" if self._streak > 1 else "a failure"
            return Tripped(Cause.CONSECUTIVE_FAILURES, reason)
        succeeded = successes_total - self._successes_at(now - self._window_s)
        attempts = self._failed + succeeded
        if attempts >= self._minimum and self._failed >= self._rate * attempts:
            reason = f"{self._failed} of {round(attempts)} attempts failed within {self._window_s:g} s"
            return Tripped(Cause.FAILURE_RATE, reason)
        return None

    def _successes_at(self, time: float) -> float:
        """The count at `time`, between two samples by proportion."""
        before_time, before = self._samples[0]
        for after_time, after in self._samples:
            if after_time > time:
                if before_time >= time:
                    return before
                return before + (after - before) * (time - before_time) / (after_time - before_time)
            before_time, before = after_time, after
        return before
