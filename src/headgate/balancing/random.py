"""Random: likely in proportion to share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headgate.balancing.base import Backend, Context, Grounds, Request, usable
from headgate.balancing.lots import chances, lots
from headgate.balancing.signature import Takes
from headgate.engine.draws import Draws

# With k of n tried a draw misses with k/n; after so many misses, what is left is better listed than drawn for.
DRAWS = 8


class Random:
    """Any backend, in proportion to share, by stratified draws: any 64 picks in a row are nearly even. O(1)."""

    __signature__ = Takes()

    def __init__(self, context: Context) -> None:
        self._draws = Draws(context.random)
        self._backends: list[Backend] = []
        self._lots: list[Backend] = []

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = usable(backends)
        self._lots = lots(self._backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        lots = self._lots
        if not lots:
            return None
        backend = lots[self._draws.even(len(lots))]
        if tried and backend in tried:
            return self._pick_untried(tried)
        return backend

    def explain(self, request: Request) -> Grounds:
        """How likely each is; see `ExplainingStrategy`."""
        return Grounds("the chance to be drawn", chances(self._backends))

    def _pick_untried(self, tried: Collection[Backend]) -> Backend | None:
        lots = self._lots
        for _ in range(DRAWS):
            backend = lots[self._draws.free(len(lots))]
            if backend not in tried:
                return backend
        left = [backend for backend in lots if backend not in tried]
        return left[self._draws.free(len(left))] if left else None
