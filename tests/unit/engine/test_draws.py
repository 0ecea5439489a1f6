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


def test_two_at_once_are_what_one_after_the_other_would_be() -> None:
    entries = list("abcdefg")
    together, apart = Draws(Random(4)), Draws(Random(4))
    for _ in range(500):
        assert together.two(entries) == (entries[apart.even(7)], entries[apart.free(7)])
    for _ in range(500):
        first, second = apart.even(7), apart.free(6)
        assert together.two_places(entries) == (entries[first], entries[second if second < first else second + 1])


def test_two_others_are_never_the_same_object_and_in_proportion() -> None:
    lots = ["a", "a", "a", "b", "c", "c"]
    draws = Draws(Random(4))
    pairs = [draws.two_others(lots) for _ in range(N)]
    assert all(first != second for first, second in pairs)
    assert Counter(first for first, _ in pairs)["a"] / N == pytest.approx(1 / 2, abs=0.002)
    after_a = Counter(second for first, second in pairs if first == "a")
    assert after_a["c"] / after_a.total() == pytest.approx(2 / 3, abs=5 * sqrt(2 / 9 / (N / 2)))


def test_the_other_one_is_found_where_nearly_all_lots_are_somebody_elses() -> None:
    rare = "b"
    draws = Draws(Random(4))
    assert all(set(draws.two_others(["a"] * 5000 + [rare])) == {"a", rare} for _ in range(200))
    assert draws.two_others(["a", "a"]) == ("a", "a")


def test_where_there_is_nothing_to_draw_from_that_is_said() -> None:
    draws = Draws(Random(4))
    for draw, entries in ((draws.two, []), (draws.two_others, []), (draws.two_places, ["a"])):
        with pytest.raises(IndexError):
            draw(entries)


@pytest.mark.parametrize("draw", ["two", "two_places", "two_others"])
def test_nothing_to_draw_from_is_an_error_and_no_crash(draw: str) -> None:
    draws = Draws(Random(1))
    with pytest.raises(TypeError):
        getattr(draws, draw)(None)
    with pytest.raises(TypeError):
        getattr(draws, draw)(("a", "b"))
    with pytest.raises(IndexError):
        getattr(draws, draw)([])
