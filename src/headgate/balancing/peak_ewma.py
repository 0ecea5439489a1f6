"""Peak-EWMA: of two drawn, the one likely to answer first; a slow answer counts at once, quick ones by and by."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Request
from headgate.balancing.latency import DECAY_S, Estimate, Learning
from headgate.balancing.lots import parts
from headgate.balancing.signature import Takes
from headgate.engine.draws import Draws
from headgate.engine.reading import in_flight, remaining


class PeakEwma(Learning):
    """Two distinct backends, drawn in proportion to share; the lower latency times (in flight + 1) per share wins.

    The latency is Finagle's Peak-EWMA (linkerd and tower have it too): an answer slower than the
    average becomes the average, one that is quicker pulls it down by 1 - exp(-Δt / decay). So it shies away from a
    backend that stalls after the first slow answer and comes back slowly. What it does about errors and about old news:
    `headgate.balancing.latency`.

    decay: seconds in which what was learned fades to 1/e. Shorter follows faster and is noisier.

    Gives no shares by weight: a backend twice as quick gets about twice as much, that is what it is for. O(1). Each
    worker learns for itself, attempts in flight are those of all workers.
    """

    __signature__ = Takes(decay=DECAY_S)

    def __init__(self, context: Context, *, decay: float | str = DECAY_S) -> None:
        super().__init__(context, options.read("peak_ewma", decay=decay)["decay"])
        self._draws = Draws(context.random)
        self._lots: list[Estimate] = []

    def update(self, backends: Sequence[Backend]) -> None:
        super().update(backends)
        self._lots = self._lots_of(list(self._estimates.values()))

    def _lots_of(self, estimates: list[Estimate]) -> list[Estimate]:
        counts = parts([estimate.backend for estimate in estimates])
        return [estimate for estimate, count in zip(estimates, counts, strict=True) for _ in range(count)]

    def sampled(self, estimate: Estimate, sample: float, now: float) -> None:
        if now > estimate.fresh_until:
            self.fade(estimate, now)
        latency = estimate.latency
        if sample < latency:
            sample += (latency - sample) * remaining(now - estimate.heard, self._decay)
        estimate.latency = sample

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        lots = self._lots
        if tried:
            lots = self._untried(tried)
        if len(lots) < 2:
            return lots[0].backend if lots else None
        first, second = self._draws.two_others(lots)
        now = self._clock()
        if now > first.fresh_until:
            self.fade(first, now)
        if now > second.fresh_until:
            self.fade(second, now)
        if first.price * (in_flight(first.backend) + 1.0) <= second.price * (in_flight(second.backend) + 1.0):
            return first.backend
        return second.backend

    def _untried(self, tried: Collection[Backend]) -> list[Estimate]:
        """For a retry: rare enough to list what is left, which keeps the rule the same as for a first attempt."""
        return self._lots_of([estimate for backend, estimate in self._estimates.items() if backend not in tried])

    def explain(self, request: Request) -> Grounds:
        """The costs that are compared; see `ExplainingStrategy`."""
        return Grounds(
            "seconds to its next answer, as this worker learned it: two are drawn by share, the lower wins",
            self.costs(),
        )
