from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.resilience.slow_start import LEAST, STEPS, Warmth, factor


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (99, 0.1),
        (100, 0.1),
        (101, 0.1),
        (102, 0.2),
        (105, 0.5),
        (105.4, 0.5),
        (105.5, 0.55),
        (109.99, 0.95),
        (110, 1.0),
        (1e6, 1.0),
    ],
)
def test_it_grows_with_time_from_a_tenth(now: float, expected: float) -> None:
    assert factor(now, 100, 10) == pytest.approx(expected)


def test_without_a_ramp_it_is_whole() -> None:
    assert factor(5, 0.0, 0.0) == 1.0


def test_a_penalty_without_slow_start_ends_at_once() -> None:
    assert (factor(99, 100, 0), factor(100, 100, 0)) == (LEAST, 1.0)


@given(st.floats(0.001, 1e4), st.lists(st.floats(0, 2e4), max_size=50))
def test_it_never_falls_and_has_few_steps(for_s: float, times: list[float]) -> None:
    seen = [factor(1000 + time, 1000, for_s) for time in sorted(times)]
    assert seen == sorted(seen)
    assert all(LEAST <= one <= 1 for one in seen)
    assert len(set(seen)) <= STEPS


class TestWhoStartsSlowly:
    def test_one_that_joins_a_warm_peer(self) -> None:
        warmth: Warmth[str] = Warmth()
        warmth.was_there("a")
        assert warmth.came("b", 0, 10)

    def test_not_the_only_one_nor_those_that_come_back_together(self) -> None:
        warmth: Warmth[str] = Warmth()
        assert not warmth.came("a", 100, 10)
        assert not warmth.came("b", 105, 10)
        assert warmth.came("c", 110, 10), "a has been there for a whole window"
        warmth.went("a")
        warmth.went("b")
        assert not warmth.came("a", 111, 10), "c has not"

    def test_being_warm_oneself_before_does_not_count(self) -> None:
        warmth: Warmth[str] = Warmth()
        warmth.was_there("a")
        warmth.went("a")
        assert not warmth.came("a", 1, 10)

    def test_off(self) -> None:
        warmth: Warmth[str] = Warmth()
        warmth.was_there("a")
        assert not warmth.came("b", 5, 0)
