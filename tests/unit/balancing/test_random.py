"""random, weighted_random and p2c: what is drawn from an injected random source."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import pytest

from headgate.balancing.p2c import PowerOfTwoChoices
from headgate.balancing.random import Random as RandomStrategy
from headgate.balancing.weighted_random import WeightedRandom
from headgate.engine.draws import Draws

from .fakes import REQUEST, FakeBackend, context, make, several, shares

V = TypeVar("V")


class Scripted(Draws):
    """In the place of a strategy's draws: indices that stand here."""

    def __new__(cls, *indices: int) -> Scripted:
        return super().__new__(cls)

    def __init__(self, *indices: int) -> None:
        self._indices = list(indices)

    def even(self, below: int, /) -> int:
        index = self._indices.pop(0)
        assert index < below
        return index

    free = even

    def two_places(self, entries: list[V], /) -> tuple[V, V]:
        first, second = self.even(len(entries)), self.free(len(entries) - 1)
        return entries[first], entries[second if second < first else second + 1]


T = TypeVar("T", RandomStrategy, PowerOfTwoChoices)


def scripted(strategy: type[T], *indices: int) -> T:
    made = strategy(context())
    made._draws = Scripted(*indices)
    return made


def test_random_takes_what_was_drawn() -> None:
    strategy = scripted(RandomStrategy, 0, 2, 1)
    a, b, c = backends = several(3)
    strategy.update(backends)
    assert [strategy.pick(REQUEST, ()) for _ in range(3)] == [a, c, b]


def test_weighted_random_gives_each_weight_its_part() -> None:
    strategy = scripted(WeightedRandom, 0, 1, 2, 3, 4)  # 6, 2, 2 in lowest terms
    a, b, c = backends = several(3, (6, 2, 2))
    strategy.update(backends)
    assert [strategy.pick(REQUEST, ()) for _ in range(5)] == [a, a, a, b, c]


def test_weighted_random_takes_large_weights_in_lowest_terms() -> None:
    strategy = scripted(WeightedRandom, 2, 3)
    a, b = backends = several(2, (192, 64))
    strategy.update(backends)
    assert [strategy.pick(REQUEST, ()) for _ in range(2)] == [a, b]


@pytest.mark.parametrize("name", ["random", "weighted_random", "p2c"])
def test_a_retry_is_as_fair_among_the_rest(name: str) -> None:
    backends = several(5)
    strategy = make(name, backends)
    seen = Counter(strategy.pick(REQUEST, backends[:2]) for _ in range(3000))
    assert all(seen[backend] / 3000 == pytest.approx(1 / 3, abs=0.03) for backend in backends[2:])


def test_p2c_takes_the_less_loaded_of_the_two_drawn() -> None:
    a, b, c = backends = several(3)
    a.active, b.active, c.active = 5, 1, 0
    # Index 0 and index 0 of the two others; the other way round; then a and c.
    strategy = scripted(PowerOfTwoChoices, 0, 0, 1, 0, 0, 1)
    strategy.update(backends)
    assert [strategy.pick(REQUEST, ()) for _ in range(3)] == [b, b, c]


def test_p2c_keeps_the_first_on_a_tie() -> None:
    strategy = scripted(PowerOfTwoChoices, 2, 0, 0, 1)
    a, _, c = backends = several(3)
    strategy.update(backends)
    assert [strategy.pick(REQUEST, ()) for _ in range(2)] == [c, a]


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (256, 1)])
def test_p2c_of_two_always_compares_both(weights: tuple[int, int]) -> None:
    a, b = backends = several(2, weights)
    a.active = 1000
    assert set(shares(make("p2c", backends), 200)) == {b}


def test_p2c_compares_load_by_weight() -> None:
    a, b = backends = several(2, (4, 1))
    a.active, b.active = 7, 2  # 7/4 < 2/1
    assert set(shares(make("p2c", backends), 50)) == {a}


def test_p2c_is_far_more_even_than_random() -> None:
    """Many attempts that never end: the most loaded of n stands far less above the mean (Mitzenmacher 2001)."""
    worst = {}
    for name in ("random", "p2c"):
        backends = several(100)
        strategy = make(name, backends)
        for _ in range(10_000):
            picked = strategy.pick(REQUEST, ())
            assert isinstance(picked, FakeBackend)
            picked.active += 1
        worst[name] = max(backend.active for backend in backends)
    assert worst["p2c"] <= 104
    assert worst["random"] > 115


def test_p2c_under_load_follows_weights() -> None:
    backends = several(10, (5, 1))
    strategy = make("p2c", backends)
    for _ in range(6000):
        picked = strategy.pick(REQUEST, ())
        assert isinstance(picked, FakeBackend)
        picked.active += 1
    for backend in backends:
        assert backend.active / 6000 == pytest.approx(backend.weight / 30, rel=0.05)
