"""Round robin: each in turn, in proportion to share where shares differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headgate.balancing.base import Backend, Context, Grounds, Request, Score, rotated, usable
from headgate.balancing.weighted_round_robin import WeightedRoundRobin


class RoundRobin:
    """Each backend in turn, in configuration order. O(1); where shares differ it is `weighted_round_robin`, O(log n).

    A weight that is configured means something, as in nginx and HAProxy; and a backend that starts slowly must not get
    whole turns. While all shares are equal nothing is compared. Each worker takes turns of its own.

    Also the fallback of every pool, so it takes nothing but the set: no clock, no random source.
    """

    def __init__(self, context: Context | None = None) -> None:
        self._order: list[Backend] = []
        # Workers begin at different places: a burst that brings each of eight workers one request goes to all backends.
        self._next = context.worker if context is not None else 0
        self._weighted: WeightedRoundRobin | None = None

    def update(self, backends: Sequence[Backend]) -> None:
        order = usable(backends)
        if len({backend.share for backend in order}) > 1:
            if self._weighted is None:
                self._weighted = WeightedRoundRobin()
            self._weighted.update(order)
        else:
            self._weighted = None
        self._next = rotated(order, self._order, self._next) if self._order else self._next % max(1, len(order))
        self._order = order

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        if self._weighted is not None:
            return self._weighted.pick(request, tried)
        order = self._order
        index = self._next
        if index >= len(order):
            if not order:
                return None
            index = 0
        self._next = index + 1
        backend = order[index]
        if tried and backend in tried:
            return self._skip(tried)
        return backend

    def explain(self, request: Request) -> Grounds:
        """Whose turn is when; see `ExplainingStrategy`."""
        if self._weighted is not None:
            return self._weighted.explain(request)
        n = len(self._order)
        first = self._next % n if n else 0
        turns = {backend: (index - first) % n for index, backend in enumerate(self._order)}
        return Grounds(
            "turns until its own, in this worker: 0 is next",
            {backend: Score(turn, f"{turn} before it" if turn else "next") for backend, turn in turns.items()},
        )

    def _skip(self, tried: Collection[Backend]) -> Backend | None:
        order = self._order
        for _ in range(len(order)):
            index = self._next % len(order)
            self._next = index + 1
            if order[index] not in tried:
                return order[index]
        return None
