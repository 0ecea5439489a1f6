"""Power of two choices: draw two, take the less loaded (Mitzenmacher 2001)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headgate.balancing.base import Backend, Context, Grounds, Request, Score, usable
from headgate.balancing.lots import Lot, parts
from headgate.balancing.signature import Takes
from headgate.engine.draws import Draws
from headgate.engine.reading import in_flight


class PowerOfTwoChoices:
    """Two distinct backends, drawn in proportion to share; the one with fewer attempts in flight per share wins.

    Nearly as even as the least loaded of all, but it does not need to look at all, and workers or balancers that see
    the same figures do not all run to the same backend. On a tie the first drawn wins, so idle backends are used in
    proportion to share, evenly over any 64 picks (the first draw is stratified). Of two backends both are always
    compared, since the draws are distinct. O(1).
    """

    __signature__ = Takes()

    def __init__(self, context: Context) -> None:
        self._context = context
        self._draws = Draws(context.random)
        self._backends: list[Backend] = []
        self._lots: list[Lot] = []  # empty while all shares are equal: then the backends are their own lots

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = usable(backends)
        counts = parts(self._backends)
        self._lots = []
        if sum(counts) > len(counts):
            whole = [Lot(backend, backend.share) for backend in self._backends]
            self._lots = [lot for lot, count in zip(whole, counts, strict=True) for _ in range(count)]

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        if tried:
            return self._pick_untried(request, tried)
        if self._lots:
            one, other = self._draws.two_others(self._lots)
            if in_flight(one.backend) * other.share <= in_flight(other.backend) * one.share:
                return one.backend
            return other.backend
        backends = self._backends
        if len(backends) < 2:
            return backends[0] if backends else None
        first, second = self._draws.two_places(backends)
        return first if in_flight(first) <= in_flight(second) else second

    def explain(self, request: Request) -> Grounds:
        """The loads that are compared; see `ExplainingStrategy`."""
        return Grounds(
            "in flight per share: two are drawn in proportion to share, the lower wins",
            {
                backend: Score(backend.active / backend.share, f"{backend.active} in flight / share {backend.share:g}")
                for backend in self._backends
            },
        )

    def _pick_untried(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        """A retry: rare enough to list what is left, which keeps the rule the same as for a first attempt."""
        left = PowerOfTwoChoices(self._context)
        left.update([backend for backend in self._backends if backend not in tried])
        return left.pick(request, ())
