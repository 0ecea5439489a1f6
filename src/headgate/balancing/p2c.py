"""Power of two choices: draw two, take the less loaded (Mitzenmacher 2001)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headgate.balancing.base import Backend, Context, Grounds, Request, Score, usable
from headgate.balancing.lots import another, lots
from headgate.engine.draws import Draws


class PowerOfTwoChoices:
    """Two distinct backends, drawn in proportion to share; the one with fewer attempts in flight per share wins.

    Nearly as even as the least loaded of all, but it does not need to look at all, and workers or balancers that see
    the same figures do not all run to the same backend. On a tie the first drawn wins, so idle backends are used in
    proportion to share, evenly over any 64 picks (the first draw is stratified). Of two backends both are always
    compared, since the draws are distinct. O(1).
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._draws = Draws(context.random)
        self._backends: list[Backend] = []
        self._lots: list[Backend] = []
        self._equal = True

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = usable(backends)
        self._lots = lots(self._backends)
        self._equal = len(self._lots) == len(self._backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        if tried:
            return self._pick_untried(request, tried)
        chances = self._lots
        n = len(chances)
        if n < 2:
            return chances[0] if n else None
        draws = self._draws
        i = draws.even(n)
        first = chances[i]
        if self._equal:
            j = draws.free(n - 1)
            second = chances[j if j < i else j + 1]
            return first if first.active <= second.active else second
        second = chances[draws.free(n)]
        if second is first:
            second = another(first, chances, draws)
        return first if first.active * second.share <= second.active * first.share else second

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
