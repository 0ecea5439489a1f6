"""Prequal's rule: hot backends are judged by their load, cold ones by their latency."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Request, Score
from headgate.balancing.latency import DECAY_S, Estimate, Learning
from headgate.balancing.lots import parts
from headgate.balancing.signature import Takes
from headgate.engine.draws import Draws
from headgate.engine.reading import in_flight, remaining

# As plain Python a look at one backend costs about 0.15 µs.
SCAN_LIMIT = 3
# The part of loads that counts as cold: 2**-0.25, the paper's; it found 0.6 to 0.9 all good.
COLD = 2.0**-0.25
# How far one look moves the limit between cold and hot, in parts of it.
STEP = 0.05
# Of the newest answer: about the last ten count ("recent", where the paper has a median that would need them all).
SAMPLE_WEIGHT = 0.1


class Prequal(Learning):
    """The hot/cold rule of Prequal (B. Wydrowski et al., "Load is not what you should balance", NSDI 2024), no probes.

    A backend is hot if it has more attempts in flight per share than 84 % of the others. Among those looked at: if any
    is cold, the cold one of lowest latency; else the one of lowest load. So latency decides while there is room, and
    load as soon as there is none.

    The paper sends probes because each of its many clients knows little of what the others do. A balancer that all
    requests pass knows attempts in flight and latencies itself; the probe pool becomes a sample of three, of which one,
    the best left over last time, is kept (a pool of at most three is looked at whole). The paper asks each replica for
    its latency at about its present load; here it is known at the usual load of a backend and taken to be proportional.

    Sinkholes: the paper warns of replicas that fail quickly and so look idle and fast. Here both figures are divided by
    the part that succeeds, squared; this and what else is learned from errors: `headgate.balancing.latency`.

    decay: seconds in which what was learned fades to 1/e while nothing new comes.

    Gives no shares by weight, but a weight is room: twice the weight is hot at twice the load. O(1). Each worker learns
    for itself, attempts in flight are those of all workers.
    """

    __signature__ = Takes(decay=DECAY_S)

    def __init__(self, context: Context, *, decay: float | str = DECAY_S) -> None:
        super().__init__(context, options.read("prequal", decay=decay)["decay"])
        self._soon = SAMPLE_WEIGHT * self._decay  # after so long without news the newest sample still weighs as ever
        self._draws = Draws(context.random)
        self._scan: list[Estimate] = []  # to look at whole, in the order in which ties are decided; empty = sample
        self._lots: list[Estimate] = []
        self._left_over: Estimate | None = None
        self._one = 1.0  # load of one attempt at a mean share
        self._limit = 1.0  # load above which a backend is hot

    def update(self, backends: Sequence[Backend]) -> None:
        super().update(backends)
        order = list(self._estimates.values())
        one = len(order) / sum(estimate.share for estimate in order) if order else 1.0
        self._limit *= one / self._one
        self._one = one
        self._left_over = None
        self._scan = self._lots = []
        if len(order) <= SCAN_LIMIT:
            self._scan = order
            for index, estimate in enumerate(order):
                estimate.after = order[index + 1 :] + order[: index + 1]
        else:
            counts = parts([estimate.backend for estimate in order])
            self._lots = [estimate for estimate, count in zip(order, counts, strict=True) for _ in range(count)]

    def sampled(self, estimate: Estimate, sample: float, now: float) -> None:
        # Kept per load, that is for one attempt at a mean share. Those that were there while it waited are about those
        # that are there now. Twice the share is expected to bear twice the attempts, which `price` takes back: who has
        # a share is believed to be quick for its latency, not for its share.
        sample *= estimate.share * self._one / (in_flight(estimate.backend) + 1.0)
        idle = now - estimate.heard
        weight = SAMPLE_WEIGHT if idle <= self._soon else max(SAMPLE_WEIGHT, 1.0 - remaining(idle, self._decay))
        estimate.latency += (sample - estimate.latency) * weight

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        now = self._clock()
        if tried:
            return self._pick_untried(tried, now)
        scan = self._scan
        if scan:
            if now > self._fresh_until:
                self.fade_all(now)
            best = self._choose(scan)
            self._scan = best.after
            return best.backend
        if not self._lots:
            return None
        first, second = self._draws.two_others(self._lots)
        if now > first.fresh_until:
            self.fade(first, now)
        if now > second.fresh_until:
            self.fade(second, now)
        left_over = self._left_over
        if left_over is None:
            best = self._choose((first, second))
            self._left_over = second if best is first else first
            return best.backend
        if now > left_over.fresh_until:
            self.fade(left_over, now)
        best = self._choose((first, second, left_over), left_over)
        if best is left_over:
            self._left_over = first if first.latency <= second.latency else second
        elif best is first:
            if second.latency < left_over.latency:
                self._left_over = second
        elif first.latency < left_over.latency:
            self._left_over = first
        return best.backend

    def explain(self, request: Request) -> Grounds:
        """Who is hot, and what is compared; see `ExplainingStrategy`."""
        now = self._clock()
        # Where all loads are the same the limit moves about them, and none is hot.
        hot = self._limit + 2.0 * STEP * (self._one + self._limit)
        scores = {}
        for backend, estimate in self._estimates.items():
            if now > estimate.fresh_until:
                self.fade(estimate, now)
            load = (backend.active + 1) * estimate.scale
            latency = (backend.active + 1) * estimate.price
            shown = load / self._one
            text = f"hot: load {shown:.3g}" if load > hot else f"cold: {latency * 1e3:.3g} ms at load {shown:.3g}"
            scores[backend] = Score(shown if load > hot else latency, text)
        who = "" if self._scan else " of two drawn and the best left over"
        return Grounds(
            f"as this worker learned it:{who} the cold one of lowest latency wins (score in seconds); are all hot (load"
            f" above {hot / self._one:.3g}), the one of lowest load",
            scores,
        )

    def _pick_untried(self, tried: Collection[Backend], now: float) -> Backend | None:
        """A retry: rare enough to look at all that are left."""
        left = [estimate for backend, estimate in self._estimates.items() if backend not in tried]
        for estimate in left:
            if now > estimate.fresh_until:
                self.fade(estimate, now)
        return self._choose(left).backend if left else None

    def _choose(self, sample: Sequence[Estimate], left_over: Estimate | None = None) -> Estimate:
        """The hot/cold rule, for at least one; they are faded."""
        limit = self._limit
        step = STEP * (self._one + limit)
        # A quantile that follows: up by the part that should be below for each load above, and the other way round.
        up = step * COLD
        down = up - step
        # Where all loads are the same the limit moves about them, and none is hot.
        hot = limit + 2.0 * step
        best = coolest = None
        lowest_latency = lowest_load = inf
        for estimate in sample:
            count = in_flight(estimate.backend) + 1.0
            load = count * estimate.scale
            # What was left over is no draw: the quick ones would count so often that their own load became the limit.
            if estimate is not left_over:
                limit += up if load > limit else down
            if load <= hot:
                # Latency per load times load: what one more would see.
                latency = count * estimate.price
                if latency < lowest_latency:
                    lowest_latency = latency
                    best = estimate
            elif load < lowest_load:
                lowest_load = load
                coolest = estimate
        self._limit = limit
        chosen = best if best is not None else coolest
        assert chosen is not None
        return chosen
