"""The compiled tables against a plain reading of their definitions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.engine.hashing import hash64, random_words
from headgate.engine.tables import Circle, Continuum, Maglev

shares = st.lists(st.floats(0.01, 300), min_size=1, max_size=12)
keys = st.integers(0, 2**64 - 1)


def names(n: int) -> list[bytes]:
    return [b"backend-%d" % number for number in range(n)]


def nearest(shares: list[float], places: int, key: int, without: set[int]) -> int:
    """The definition: each backend alone, smallest distance / share."""
    best, lowest = -1, 0.0
    for index, (name, share) in enumerate(zip(names(len(shares)), shares, strict=True)):
        if index in without or not share:
            continue
        drawn = random_words((hash64(name, 0), hash64(name, 1) | 1), places)
        cost = float(min((place - key) % 2**64 for place in drawn)) / share
        if best < 0 or cost < lowest:
            best, lowest = index, cost
    return best


@settings(deadline=None, max_examples=60)
@given(weights=shares, places=st.integers(1, 20), key=keys, data=st.data())
def test_a_key_goes_to_the_smallest_distance_per_share(
    weights: list[float], places: int, key: int, data: st.DataObject
) -> None:
    circle = Circle(names(len(weights)), weights, places)
    assert len(circle) == len(weights) * places
    assert circle.find(key) == nearest(weights, places, key, set())
    passed_over = data.draw(st.sets(st.integers(0, len(weights) - 1)))
    assert circle.find_other(key, list(passed_over)) == nearest(weights, places, key, passed_over)
    assert circle.find(key) == nearest(weights, places, key, set())
    # Shares that have nothing to do with the weights, some of them none: slower to find, but no other.
    changed = data.draw(st.lists(st.just(0.0) | st.floats(0.01, 300), min_size=len(weights), max_size=len(weights)))
    circle.set_shares(changed)
    assert circle.find(key) == nearest(changed, places, key, set())


@settings(deadline=None, max_examples=40)
@given(weights=st.lists(st.floats(0.01, 300), min_size=2, max_size=12), keys=st.lists(keys, min_size=3), data=st.data())
def test_who_came_late_has_what_it_would_have_had_from_the_start(
    weights: list[float], keys: list[int], data: st.DataObject
) -> None:
    n = len(weights)
    first = data.draw(st.integers(1, n - 1))
    then = data.draw(st.integers(first, n))
    circle = Circle(names(n)[:first], weights[:first], 20)
    circle.add(names(n)[first:then], weights[first:then])
    circle.add(names(n)[then:], weights[then:])
    assert (len(circle), circle.late) == (20 * n, n - first)
    whole = Circle(names(n), weights, 20)
    assert [circle.find(key) for key in keys] == [whole.find(key) for key in keys]
    assert [circle.find_other(key, [n - 1]) for key in keys] == [whole.find_other(key, [n - 1]) for key in keys]
    changed = data.draw(st.lists(st.just(0.0) | st.floats(0.01, 300), min_size=n, max_size=n))
    circle.set_shares(changed)
    whole.set_shares(changed)
    assert [circle.find(key) for key in keys] == [whole.find(key) for key in keys]


def test_nobody_is_added_who_does_not_fit() -> None:
    circle = Circle(names(2), [1.0, 1.0])
    for late, weights in (([b"c"], []), ([b"c"], [0.0]), ([b"c"], [1e10])):
        with pytest.raises(ValueError, match=r"weight"):
            circle.add(late, weights)
    with pytest.raises(ValueError, match=r"cannot be added"):
        Circle([], []).add([b"c"], [1.0])
    assert (len(circle), circle.late) == (2 * 512, 0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="as many weights as names"):
        Circle(names(2), [1.0])
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above 0"):
            Circle(names(1), [weight])
        with pytest.raises(ValueError, match="above 0"):
            Maglev(names(1), [weight], 101)
    with pytest.raises(ValueError, match="do not fit"):
        Circle(names(2), [1.0, 1.0], 1 << 28)
    circle = Circle(names(2), [1.0, 1.0])
    with pytest.raises(ValueError, match="2 shares, please"):
        circle.set_shares([1.0])
    with pytest.raises(ValueError, match="from 0 up"):
        circle.set_shares([1.0, -1.0])
    with pytest.raises(IndexError):
        circle.find_other(1, [2])
    with pytest.raises(ValueError, match="has more entries"):
        Maglev(names(3), [1.0] * 3, 3)
    with pytest.raises(ValueError, match="as many shares"):
        Maglev(names(3), [1.0], 101)


def test_empty_ones_have_nobody() -> None:
    assert Circle([], []).find(5) == Circle([], []).find_other(5, []) == -1
    assert Maglev([], [], 101).find(5) == -1
    assert Continuum([]).find(5) == -1
    circle = Circle(names(2), [1.0, 1.0])
    circle.set_shares([0.0, 0.0])
    assert circle.find(5) == -1


def maglev(weights: list[float], size: int) -> list[int]:
    """Section 3.4 of the paper, with Envoy's rule for weights."""
    table = [-1] * size
    offsets = [hash64(name, 0) % size for name in names(len(weights))]
    skips = [hash64(name, 1) % (size - 1) + 1 for name in names(len(weights))]
    tries = [0] * len(weights)
    marks = [max(weights)] * len(weights)
    turn = 0
    while True:
        turn += 1
        for index, weight in enumerate(weights):
            if turn * weight < marks[index]:
                continue
            marks[index] += max(weights)
            while table[entry := (offsets[index] + tries[index] * skips[index]) % size] >= 0:
                tries[index] += 1
            table[entry] = index
            if -1 not in table:
                return table


@settings(deadline=None, max_examples=30)
@given(weights=st.lists(st.floats(0.1, 50), min_size=1, max_size=9), size=st.sampled_from([11, 101, 307]), key=keys)
def test_maglevs_table_is_filled_as_the_paper_says(weights: list[float], size: int, key: int) -> None:
    expected = maglev(weights, size)
    table = Maglev(names(len(weights)), weights, size)
    assert table.entries() == expected
    assert table.find(key) == expected[key % size]
