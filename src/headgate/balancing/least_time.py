"""Least time: where the next attempt is likely to be answered first, by mean latency and attempts in flight."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Request, rotated
from headgate.balancing.latency import DECAY_S, Estimate, Learning
from headgate.balancing.lots import parts
from headgate.balancing.signature import Takes
from headgate.engine.draws import Draws
from headgate.engine.reading import in_flight, remaining

# As plain Python a look at one backend costs about 0.1 µs, so the scan and the sample cost the same at 6. Eight, as for
# least_connections: little more, and a p99 that was 5 % lower than with the sample (docs/simulation.md).
SCAN_LIMIT = 8
# An average over about 50 attempts. Over 20 (nginx's 0.05) it varies by a sixth itself where service times vary as
# exponential ones do, and what looks quick by chance gets more than it should: in the simulation p50 was 6 % and p99
# 3 % higher at 75 % load. 0.01 gained little more, and takes twice as long to notice a change.
SAMPLE_WEIGHT = 0.02


class LeastTime(Learning):
    """Lowest mean latency times (in flight + 1) per share.

    As in nginx's `least_time`: a moving average over answers, times attempts in flight plus one. Other than there, the
    average is 0.98 of the old and 0.02 of the new (nginx: 0.95 and 0.05), an estimate without news fades smoothly
    (nginx halves it once per fail_timeout), latencies are not rounded to 20 ms, which would make all quick backends
    alike, and ties go in turn. What it does about errors and about old news: `headgate.balancing.latency`.

    Up to `SCAN_LIMIT` backends all are looked at. Above it three: two drawn in proportion to share, and the best that
    was left over last time. Such a memory is worth more than a draw (M. Mitzenmacher, B. Prabhakar, D. Shah, "Load
    balancing with memory", 2002), and not looking at all keeps workers from running to the same backend together.

    decay: seconds in which what was learned fades to 1/e while nothing new comes.

    Gives no shares by weight: what is quicker gets more. O(1). Each worker learns for itself, attempts in flight are
    those of all workers.
    """

    __signature__ = Takes(decay=DECAY_S)

    def __init__(self, context: Context, *, decay: float | str = DECAY_S) -> None:
        super().__init__(context, options.read("least_time", decay=decay)["decay"])
        self._soon = SAMPLE_WEIGHT * self._decay  # after so long without news the newest sample still weighs as ever
        self._draws = Draws(context.random)
        self._scan: list[Estimate] = []  # in the order in which ties are decided; empty = sample
        self._lots: list[Estimate] = []
        self._left_over: Estimate | None = None

    def update(self, backends: Sequence[Backend]) -> None:
        super().update(backends)
        order = list(self._estimates.values())
        self._left_over = None
        if len(order) <= SCAN_LIMIT:
            first = rotated([estimate.backend for estimate in order], [estimate.backend for estimate in self._scan], 0)
            for index, estimate in enumerate(order):
                estimate.after = order[index + 1 :] + order[: index + 1]
            self._scan = order[first:] + order[:first]
            self._lots = []
        else:
            counts = parts([estimate.backend for estimate in order])
            self._scan = []
            self._lots = [estimate for estimate, count in zip(order, counts, strict=True) for _ in range(count)]

    def sampled(self, estimate: Estimate, sample: float, now: float) -> None:
        # After a time without news the newest sample weighs more; it is all there is when it is the first.
        idle = now - estimate.heard
        weight = SAMPLE_WEIGHT if idle <= self._soon else max(SAMPLE_WEIGHT, 1.0 - remaining(idle, self._decay))
        estimate.latency += (sample - estimate.latency) * weight

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        if tried:
            return self._pick_untried(tried)
        now = self._clock()
        scan = self._scan
        if scan:
            if now > self._fresh_until:
                self.fade_all(now)
            lowest = inf
            for estimate in scan:
                found = estimate.price * (in_flight(estimate.backend) + 1.0)  # `cost`, without a call for each
                if found < lowest:
                    best = estimate
                    lowest = found
            self._scan = best.after
            return best.backend
        if not self._lots:
            return None
        best, other = self._draws.two(self._lots)
        if now > best.fresh_until:
            self.fade(best, now)
        if now > other.fresh_until:
            self.fade(other, now)
        lowest = best.price * (in_flight(best.backend) + 1.0)
        found = other.price * (in_flight(other.backend) + 1.0)
        if found < lowest:
            best, other, lowest, found = other, best, found, lowest
        left_over = self._left_over
        if left_over is not None:
            if now > left_over.fresh_until:
                self.fade(left_over, now)
            third = left_over.price * (in_flight(left_over.backend) + 1.0)
            if third < lowest:
                best, other = left_over, best
            elif third < found:
                other = left_over
        self._left_over = other
        return best.backend

    def explain(self, request: Request) -> Grounds:
        """The costs that are compared; see `ExplainingStrategy`."""
        who = "the lowest wins, ties in turn"
        if self._lots:
            who = "of two drawn and the best left over, the lowest wins"
            if self._left_over is not None:
                who += f" (left over: {self._left_over.backend.name})"
        return Grounds(f"seconds to its next answer, as this worker learned it: {who}", self.costs())

    def _pick_untried(self, tried: Collection[Backend]) -> Backend | None:
        """A retry: rare enough to look at all that are left."""
        left = [estimate for backend, estimate in self._estimates.items() if backend not in tried]
        now = self._clock()
        return min(left, key=lambda estimate: self.cost(estimate, now)).backend if left else None
