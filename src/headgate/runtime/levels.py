"""The strategies of one pool: one for each priority, and which of them places a request.

Mostly there is one level that bears everything, and then its strategy's own `pick` is what the engine calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from headgate.balancing.base import Strategy
from headgate.resilience.eligibility import Level

if TYPE_CHECKING:
    from headgate.engine import Backend, Outcome, Request

Pick = Callable[["Request", "Collection[Backend]"], "object"]


class Levels:
    """Places requests on levels by their loads, and in a level by its strategy.

    draw: a random number from 0 to below 1, for requests whose strategy goes by no key. A strategy that does (it has a
    method `position`) gets its keys' levels decided by them, so that a key changes its level only with the loads, and
    no more keys do than must.
    """

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._strategies: dict[int, Strategy] = {}
        # (loads so far, this one's included; strategy) by priority, of those that have somebody to pick.
        self._order: list[tuple[float, Strategy]] = []
        self._position: Callable[[Request], float] | None = None

    @property
    def priorities(self) -> Collection[int]:
        """There is a strategy for each of these."""
        return self._strategies.keys()

    @property
    def strategies(self) -> Mapping[int, Strategy]:
        """By priority."""
        return self._strategies

    def use(self, strategies: Mapping[int, Strategy]) -> None:
        """One for each priority from now on, the first priority first; `update` must follow."""
        self._strategies = dict(strategies)
        first = next(iter(strategies.values()), None)
        self._position = getattr(first, "position", None)
        self._order = []

    def update(self, levels: Sequence[Level[Backend]]) -> None:
        """Other backends, shares or loads. What a strategy raises comes through; then nothing may be picked here."""
        self._order = []
        order = []
        so_far = 0.0
        by_priority = {level.priority: level for level in levels}
        for priority, strategy in self._strategies.items():
            level = by_priority.get(priority)
            if level is None or not level.backends:
                strategy.update([])
                continue
            strategy.update(list(level.backends))
            so_far += level.load
            order.append((so_far, strategy))
        self._order = order

    @property
    def pick(self) -> Pick:
        """What places a request now; to be asked for again after each `update`."""
        if len(self._order) == 1:
            return self._order[0][1].pick
        if not self._order and self._strategies:
            return next(iter(self._strategies.values())).pick
        return self._pick

    @property
    def done(self) -> Callable[[Backend, Outcome], None] | None:
        """Tells the strategy that is responsible how an attempt ended; None when none wants to know. To be asked for
        again after each `update`."""
        if len(self._strategies) == 1:
            (strategy,) = self._strategies.values()
            done: Callable[[Backend, Outcome], None] | None = getattr(strategy, "done", None)
            return done
        found = {priority: getattr(strategy, "done", None) for priority, strategy in self._strategies.items()}
        wants = {priority: done for priority, done in found.items() if done is not None}
        if not wants:
            return None

        def tell(backend: Backend, outcome: Outcome) -> None:
            one = wants.get(backend.priority)
            if one is not None:
                one(backend, outcome)

        return tell

    def _pick(self, request: Request, tried: Collection[Backend]) -> object:
        order = self._order
        if not order:
            return None
        first = 0
        if order[0][0] < 1.0:
            at = self._draw() if self._position is None else self._position(request)
            while first < len(order) - 1 and order[first][0] <= at:
                first += 1
        chosen = order[first][1].pick(request, tried)
        if chosen is None:
            # All of this level were tried: any other is better than no answer, standing by or not.
            for index, (_, strategy) in enumerate(order):
                if index != first and (chosen := strategy.pick(request, tried)) is not None:
                    break
        return chosen
