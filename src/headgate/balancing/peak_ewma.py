"""Peak-EWMA: of two drawn, the one likely to answer first; a slow answer counts at once, quick ones by and by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import exp

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Request
from headgate.balancing.latency import DECAY_S, FRESH_S, Estimate, Learning
from headgate.balancing.lots import parts

# Both draws fall on the same backend this often in a row only where one has nearly all the weight.
DRAWS = 4


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

    def __init__(self, context: Context, *, decay: float | str = DECAY_S) -> None:
        super().__init__(context, options.read("peak_ewma", decay=decay)["decay"])
        self._draw = context.random.random
        self._lots: list[Estimate] = []

    def update(self, backends: Sequence[Backend]) -> None:
        super().update(backends)
        self._lots = self._lots_of(list(self._estimates.values()))

    def _lots_of(self, estimates: list[Estimate]) -> list[Estimate]:
        counts = parts([estimate.backend for estimate in estimates])
        return [estimate for estimate, count in zip(estimates, counts, strict=True) for _ in range(count)]

    def sampled(self, estimate: Estimate, sample: float, now: float) -> None:
        if now - estimate.at > FRESH_S:
            self.fade(estimate, now)
        latency = estimate.latency
        if sample < latency:
            old = exp((estimate.heard - now) / self._decay)
            sample += (latency - sample) * old
        estimate.latency = sample

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        lots = self._lots
        if tried:  # a retry: rare enough to list what is left, which keeps the rule the same as for a first attempt
            lots = self._lots_of([estimate for backend, estimate in self._estimates.items() if backend not in tried])
        n = len(lots)
        if n < 2:
            return lots[0].backend if n else None
        first = lots[int(self._draw() * n)]
        second = lots[int(self._draw() * n)]
        if second is first:
            second = self._another(first, lots)
            if second is first:
                return first.backend
        now = self._clock()
        if now - first.at > FRESH_S:
            self.fade(first, now)
        if now - second.at > FRESH_S:
            self.fade(second, now)
        one, other = first.backend, second.backend
        if first.latency * (one.active + 1) * first.scale <= second.latency * (other.active + 1) * second.scale:
            return one
        return other

    def explain(self, request: Request) -> Grounds:
        """The costs that are compared; see `ExplainingStrategy`."""
        return Grounds(
            "seconds to its next answer, as this worker learned it: two are drawn in proportion to share, the lower wins",
            self.costs(),
        )

    def _another(self, first: Estimate, lots: list[Estimate]) -> Estimate:
        """Any but `first` if there is one, in proportion to share."""
        for _ in range(DRAWS):
            second = lots[int(self._draw() * len(lots))]
            if second is not first:
                return second
        others = [estimate for estimate in lots if estimate is not first]
        return others[int(self._draw() * len(others))] if others else first
