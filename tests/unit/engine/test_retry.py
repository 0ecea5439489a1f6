"""Pauses before retries, and quantiles of recent latency."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.hashing import random_words
from headgate.engine.recent import LatencyWatch
from headgate.engine.retry import pause_s

words = st.integers(0, 2**64 - 1)


@given(words)
def test_the_first_retry_goes_at_once(draw: int) -> None:
    assert pause_s(0, draw) == pause_s(1, draw) == 0


@given(st.integers(2, 100), words)
def test_later_ones_wait_for_a_random_part_of_a_doubling_span(retry: int, draw: int) -> None:
    span = min(0.250, 0.025 * 2 ** (retry - 2))
    assert 0 < pause_s(retry, draw) <= span + 1e-9


@pytest.mark.parametrize(("retry", "span"), [(2, 0.025), (3, 0.05), (4, 0.1), (5, 0.2), (6, 0.25), (11, 0.25)])
def test_the_whole_span_is_used(retry: int, span: float) -> None:
    pauses = sorted(pause_s(retry, word) for word in random_words((1, 2), 4000))
    assert pauses[0] == pytest.approx(span / 16)
    assert pauses[-1] == pytest.approx(span)
    assert sum(pauses) / len(pauses) == pytest.approx(span * 17 / 32, rel=0.05)


def test_a_quantile_is_at_most_a_seventh_too_large() -> None:
    watch = LatencyWatch()
    for n in range(1, 1001):
        watch.add(n * 1_000_000)
    for q in (0.5, 0.9, 0.95, 0.99):
        found = watch.ask(q, 0.0) / 1e6
        assert 1000 * q * 0.99 <= found <= 1000 * q * 1.15


def test_few_values_say_nothing() -> None:
    watch = LatencyWatch()
    for n in range(19):
        watch.add(1_000_000)
        assert watch.ask(0.5, 4.0 * n) == -1
    watch.add(1_000_000)
    assert watch.ask(0.5, 4.0 * 19) > 0


def test_there_is_a_look_every_three_seconds() -> None:
    watch = LatencyWatch()
    assert watch.ask(0.5, 10.0) == -1
    for _ in range(100):
        watch.add(1_000_000)
    assert watch.ask(0.5, 12.9) == -1
    assert watch.ask(0.5, 13.0) > 0


def test_what_is_long_past_is_forgotten() -> None:
    watch = LatencyWatch()
    for _ in range(1000):
        watch.add(100_000_000)
    assert watch.ask(0.5, 0.0) > 90_000_000
    for second in range(3, 16, 3):
        for _ in range(300):
            watch.add(1_000_000)
        last = watch.ask(0.5, float(second))
    assert last < 2_000_000
    assert watch.ask(0.99, 15.0) > 90_000_000  # not all of it yet


def test_a_quiet_pool_keeps_enough_to_say_something() -> None:
    watch = LatencyWatch()
    for _ in range(500):
        watch.add(5_000_000)
    for second in range(0, 3600, 3):
        assert watch.ask(0.95, float(second)) > 4_000_000
