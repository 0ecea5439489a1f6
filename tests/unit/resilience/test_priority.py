"""Loads of priority levels, against values worked out by hand from Envoy's definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.resilience.priority import health, loads


@pytest.mark.parametrize(
    ("usable", "members", "expected"),
    [
        (10, 10, 1.0),
        (8, 10, 1.0),
        (7, 10, 0.98),
        (5, 10, 0.7),
        (1, 10, 0.14),
        (0, 10, 0.0),
        (0, 0, 0.0),
        (0.1, 1, 0.14),
    ],
)
def test_a_level_is_healthy_while_it_can_bear_its_part(usable: float, members: int, expected: float) -> None:
    assert health(usable, members) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("healths", "expected"),
    [
        ([1.0, 1.0], [1.0, 0.0]),
        ([0.98, 1.0], [0.98, 0.02]),
        ([0.7, 1.0], [0.7, 0.3]),
        ([0.35, 0.35, 1.0], [0.35, 0.35, 0.3]),
        ([0.0, 1.0], [0.0, 1.0]),
        # Together they cannot bear it: each its proportion.
        ([0.35, 0.35], [0.5, 0.5]),
        ([0.2, 0.0, 0.6], [0.25, 0.0, 0.75]),
        ([0.14], [1.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([], []),
    ],
)
def test_who_takes_what(healths: list[float], expected: list[float]) -> None:
    assert loads(healths) == pytest.approx(expected)


# Not smaller: a level is one backend of thousands at least.
levels = st.lists(st.just(0.0) | st.floats(1e-5, 1), max_size=16)


@given(levels)
def test_they_add_up_and_nobody_gets_more_than_its_part(healths: list[float]) -> None:
    shares = loads(healths)
    total = sum(healths)
    assert sum(shares) == pytest.approx(1 if total else 0)
    for share, one in zip(shares, healths, strict=True):
        assert 0 <= share <= one / min(1, total) + 1e-9 if one else share == 0


@given(levels, st.integers(0, 15), st.floats(0, 1))
def test_a_healthier_level_never_gets_less(healths: list[float], index: int, more: float) -> None:
    if healths:
        index %= len(healths)
        better = [*healths]
        better[index] = max(better[index], more) if more >= 1e-5 else better[index]
        assert loads(better)[index] >= loads(healths)[index] - 1e-9
