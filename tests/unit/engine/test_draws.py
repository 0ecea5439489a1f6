"""Indices drawn by chance: independent ones, and ones that are even together."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from random import Random

import pytest

from headgate.engine.draws import Draws

N = 10_000


def test_a_block_of_stratified_draws_has_one_from_each_stratum() -> None:
    draws = Draws(Random(3))
    orders = set()
    for _ in range(50):
        block = [draws.even(64) for _ in range(64)]
        assert sorted(block) == list(range(64))
        orders.add(tuple(block))
    assert len(orders) == 50


@pytest.mark.parametrize("below", [2, 3, 7, 1000])
def test_any_part_is_right_to_a_tenth_of_a_per_cent(below: int) -> None:
    for seed in range(10):
        draws = Draws(Random(seed))
        seen = Counter(draws.even(below) for _ in range(N))
        first = sum(seen[index] for index in range(below // 2)) / N
        # A block misses by the two ends of a part: a variance of 1/2 at most, 157 times.
        assert first == pytest.approx((below // 2) / below, abs=5 * sqrt(N / 64 / 2) / N)


def test_independent_draws_vary_as_such() -> None:
    halves = []
    for seed in range(200):
        draws = Draws(Random(seed))
        halves.append(sum(draws.free(2) for _ in range(100)))
    assert sum(halves) / 200 == pytest.approx(50, abs=4 * 5 / sqrt(200))
    assert sum((half - 50) ** 2 for half in halves) / 200 == pytest.approx(25, rel=0.5)


def test_neighbours_are_drawn_at_any_distance() -> None:
    """One in each stratum, but nobody knows where: each of 640 is seen, and none at a fixed place of its stratum."""
    draws = Draws(Random(9))
    seen = Counter(draws.even(640) for _ in range(64 * 400))
    assert len(seen) == 640
    assert 40 - 6 * 6 < min(seen.values()) <= max(seen.values()) < 40 + 6 * 6


def test_the_source_decides() -> None:
    one, same, other = Draws(Random(1)), Draws(Random(1)), Draws(Random(2))
    first = [one.even(1000) for _ in range(20)]
    assert first == [same.even(1000) for _ in range(20)]
    assert first != [other.even(1000) for _ in range(20)]


def test_limits() -> None:
    draws = Draws(Random(1))
    assert {draws.even(1) for _ in range(200)} == {draws.free(1) for _ in range(10)} == {0}
    assert draws.even(0) == draws.free(0) == 0
    assert max(draws.even(2**63) for _ in range(64)) < 2**63
    with pytest.raises(OverflowError):
        draws.free(-1)
