"""Round robin: each in turn, in proportion to share where shares differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import length_hint

from headgate.balancing.base import Backend, Context, Grounds, Request, Score, rotated, usable
from headgate.balancing.signature import Takes
from headgate.balancing.weighted_round_robin import WeightedRoundRobin

# Turns in one list, so that with few backends it is not begun anew all the time: then a pick is a step of an iterator.
LAP = 256


class RoundRobin:
    """Each backend in turn, in configuration order. O(1); where shares differ it is `weighted_round_robin`, O(log n).

    A weight that is configured means something, as in nginx and HAProxy; and a backend that starts slowly must not get
    whole turns. While all shares are equal nothing is compared. Each worker takes turns of its own.

    Also the fallback of every pool, so it takes nothing but the set: no clock, no random source.
    """

    __signature__ = Takes(anywhere=True)

    def __init__(self, context: Context | None = None) -> None:
        self._order: list[Backend] = []
        # Workers begin at different places: a burst that brings each of eight workers one request goes to all backends.
        self._begin(context.worker if context is not None else 0)
        self._weighted: WeightedRoundRobin | None = None

    def _begin(self, index: int) -> None:
        """The next turn is that of the backend at `index`."""
        self._first = index
        rounds = -(-LAP // len(self._order)) if self._order else 0
        self._lap = (self._order[index:] + self._order[:index]) * rounds
        self._turns = iter(self._lap)

    @property
    def _next(self) -> int:
        """Where in `_order` the next turn is."""
        taken = len(self._lap) - length_hint(self._turns)
        return (self._first + taken) % len(self._order) if self._order else self._first

    def update(self, backends: Sequence[Backend]) -> None:
        order = usable(backends)
        index = rotated(order, self._order, self._next) if self._order else self._next % max(1, len(order))
        if len({backend.share for backend in order}) > 1:
            if self._weighted is None:
                self._weighted = WeightedRoundRobin()
            self._weighted.update(order)
        else:
            self._weighted = None
        self._order = order
        self._begin(index)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        # This is called once a request and more often than anything else in Python: a list's iterator keeps the place.
        if self._weighted is None:
            for backend in self._turns:
                if tried and backend in tried:
                    return self._skip(tried)
                return backend
            return self._next_lap(request, tried)
        return self._weighted.pick(request, tried)

    def explain(self, request: Request) -> Grounds:
        """Whose turn is when; see `ExplainingStrategy`."""
        if self._weighted is not None:
            return self._weighted.explain(request)
        n = len(self._order)
        first = self._next
        turns = {backend: (index - first) % n for index, backend in enumerate(self._order)}
        return Grounds(
            "turns until its own, in this worker: 0 is next",
            {backend: Score(turn, f"{turn} before it" if turn else "next") for backend, turn in turns.items()},
        )

    def _next_lap(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        if not self._order:
            return None
        self._turns = iter(self._lap)
        return self.pick(request, tried)

    def _skip(self, tried: Collection[Backend]) -> Backend | None:
        for _ in self._order:
            backend = next(self._turns, None)
            if backend is None:
                self._turns = iter(self._lap)
                backend = next(self._turns)
            if backend not in tried:
                return backend
        return None
