"""What strategies learn about how fast backends answer: one estimate for each backend, and how it goes stale.

Measured is the time to the first byte of an answer: what comes after it is as long as the answer is, and as slow as the
client. Each worker learns from its own attempts alone. That is enough: what a backend is slow with it is slow with for
all, and a worker that has few requests does little with a poor estimate. Attempts in flight, the other half of a cost,
are those of all workers.

**Errors never look good.** A backend that refuses at once would have the lowest latency of all and draw in everything
(a "sinkhole"). So:

- an attempt that failed by the backend's fault gives no latency. The part of attempts that fail is estimated too, and
  the cost is divided by the square of what succeeds: one stray error costs a quarter for a while, a backend that fails
  half the time looks four times as slow, one that only fails 2,500 times;
- an answer of 400 and above may raise the latency, never lower it;
- 429, and 503 with Retry-After, say "not now": the latency becomes what Retry-After asks for (5 s if it says nothing,
  300 s at most; linkerd's values) and fades like any other;
- a client that gave up waiting waited at least that long.

**What is old is not believed.** The estimate of a backend that nobody was sent to for a while moves towards half of
what is usual in the pool, by 1/e in `decay` seconds; one without any history stands there from the start. So a backend
that was slow once is tried again, and one that nobody knows is thought to be good until it shows, yet as soon as it has
two attempts in flight it is no better than an average one: a backend that hangs gets a few attempts, not all.

Decay towards nothing, as in Finagle's PeakEwma and tower, would need a rule of its own for backends of cost 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from headgate.balancing.base import Backend, Context, Outcome, Score, usable
from headgate.engine.reading import good_answer_s, in_flight, remaining
from headgate.errors import MEANING, Kind, Source, Verdict

# Finagle's, tower's and linkerd's: long enough to remember a stall, short enough to forget it within a minute.
DECAY_S = 10.0
# The estimate while nobody knows anything (linkerd's). Only its being the same for all counts.
START_S = 0.03
# Of "not now" without a time, and the longest time that is believed.
PENALTY_S = 5.0
LONGEST_S = 300.0
# An answer cannot be faster; keeps the attempts in flight in the cost where clocks are coarse.
LEAST_S = 1e-6
# Estimates are faded only when read after so long without news: below it, 1/40 of a decay, nothing would change.
FRESH_S = 0.25
# Weight of the newest attempt in the part that fails, and the least that is thought to succeed.
FAILURE_WEIGHT = 0.1
LEAST_SUCCESS = 0.02
# Weight of the newest sample in what is usual in the pool; and by how much at once it may grow, so that a penalty of
# seconds does not become usual.
USUAL_WEIGHT = 0.05
USUAL_GROWTH = 2.0
# What nobody knows is thought to be so much of the usual.
OPTIMISM = 0.5

_BLAMED = frozenset(int(kind) for kind, meaning in MEANING.items() if meaning.verdict > Verdict.SUCCESS)
# The client waited in vain; why it left is its own business, how long it waited is not.
_WAITED = frozenset({int(Kind.CLIENT_GONE)}) | {
    int(kind) for kind, meaning in MEANING.items() if meaning.source is Source.UPSTREAM
}


class Estimate:
    """What is known of one backend. `latency` and `failing` are as of `at` (-inf = nothing is known); `heard` is when
    an answer came last. What every pick reads is kept ready: `price`, and until when it needs no fading."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.latency = START_S
        self.failing = 0.0
        self.at = self.heard = self.fresh_until = -inf
        self.share = self.scale = 1.0
        self.price = self.latency
        self.after: list[Estimate] = []  # the order of a scan that follows a pick of this one

    def rescale(self) -> None:
        """`scale` is what latency times attempts in flight is multiplied by: large where little succeeds. `price` is
        what each attempt in flight adds to the cost."""
        success = max(LEAST_SUCCESS, 1.0 - self.failing)
        self.scale = 1.0 / (self.share * success * success)
        self.price = self.latency * self.scale


class Learning:
    """Keeps the estimates; a strategy adds `pick` and says how a sample changes one (`sampled`)."""

    def __init__(self, context: Context, decay: float = DECAY_S) -> None:
        self._clock = context.clock
        self._decay = decay
        self._estimates: dict[Backend, Estimate] = {}
        self._usual = 0.0  # latency in this pool; 0 = nobody has answered yet
        self._fresh_until = -inf  # no estimate needs fading before

    def update(self, backends: Sequence[Backend]) -> None:
        before = self._estimates
        self._estimates = {backend: before.get(backend) or Estimate(backend) for backend in usable(backends)}
        for estimate in self._estimates.values():
            estimate.share = estimate.backend.share
            estimate.rescale()
        self._fresh_until = -inf

    def cost(self, estimate: Estimate, now: float) -> float:
        """Seconds until it would answer one more attempt, by what is known now, per share."""
        if now > estimate.fresh_until:
            self.fade(estimate, now)
        return estimate.price * (in_flight(estimate.backend) + 1.0)

    def costs(self) -> dict[Backend, Score]:
        """What is known of each, for an explanation."""
        now = self._clock()
        return {backend: Score(self.cost(one, now), _of_cost(one)) for backend, one in self._estimates.items()}

    def fade(self, estimate: Estimate, now: float) -> None:
        """Brings an estimate without news up to date."""
        left = remaining(now - estimate.at, self._decay)
        unknown = self._usual * OPTIMISM or START_S
        estimate.latency = unknown + (estimate.latency - unknown) * left
        if estimate.failing:
            estimate.failing *= left
            if estimate.failing < 0.001:
                estimate.failing = 0.0
        estimate.rescale()
        if estimate.at != -inf:
            estimate.at = now
            estimate.fresh_until = now + FRESH_S

    def fade_all(self, now: float) -> None:
        """The same for all that need it, for a strategy that is about to read all: to be called once `_fresh_until` has
        passed. News only make it later, so in between nobody has to be asked."""
        self._fresh_until = inf
        for estimate in self._estimates.values():
            if now > estimate.fresh_until:
                self.fade(estimate, now)
            self._fresh_until = min(self._fresh_until, estimate.fresh_until)

    def sampled(self, estimate: Estimate, sample: float, now: float) -> None:
        """An answer's first byte took `sample` seconds. Sets `latency`; `at` and `heard` still say what was before."""
        raise NotImplementedError

    def done(self, backend: Backend, outcome: Outcome) -> None:
        estimate = self._estimates.get(backend)
        if estimate is None:
            return  # it left the set while the attempt was under way
        now = self._clock()
        sample = good_answer_s(outcome)
        if sample < 0.0:
            self._learn_from_failure(estimate, outcome, now)
            return
        if sample < LEAST_S:
            sample = LEAST_S
        self.sampled(estimate, sample, now)
        estimate.at = estimate.heard = now
        estimate.fresh_until = now + FRESH_S
        latency = estimate.latency
        if estimate.failing:
            estimate.failing *= 1.0 - FAILURE_WEIGHT
            estimate.rescale()
        else:
            estimate.price = latency * estimate.scale
        usual = self._usual
        if latency < usual * USUAL_GROWTH:
            self._usual = usual + (latency - usual) * USUAL_WEIGHT
        else:
            self._usual = usual * (1.0 + (USUAL_GROWTH - 1.0) * USUAL_WEIGHT) or latency

    def _learn_from_failure(self, estimate: Estimate, outcome: Outcome, now: float) -> None:
        if now > estimate.fresh_until:
            self.fade(estimate, now)
        kind, status = outcome.kind, outcome.status
        retry_after: float = getattr(outcome, "retry_after_s", -1.0)  # a simulation's outcomes need not have it
        if status == 429 or (status == 503 and retry_after >= 0):
            asked = retry_after if retry_after >= 0 else PENALTY_S
            least = min(LONGEST_S, max(asked, 2 * self._usual))
        elif outcome.ok:
            least = outcome.first_byte_s
        elif outcome.first_byte_s < 0 and kind in _WAITED:
            least = min(LONGEST_S, outcome.total_s)
        else:
            least = 0.0
        if kind in _BLAMED:
            estimate.failing += (1.0 - estimate.failing) * FAILURE_WEIGHT
        elif least <= 0.0:
            return  # it said nothing
        estimate.latency = max(estimate.latency, least)
        estimate.rescale()
        estimate.at = now
        estimate.fresh_until = now + FRESH_S


def _of_cost(estimate: Estimate) -> str:
    failing = f", {estimate.failing:.0%} failing" if estimate.failing else ""
    known = "" if estimate.heard != -inf else " (a guess: no answer yet)"
    return (
        f"{estimate.latency * 1e3:.3g} ms{known} * ({estimate.backend.active} in flight + 1)"
        f" / share {estimate.share:g}{failing}"
    )
