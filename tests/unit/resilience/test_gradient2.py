"""Adaptive concurrency: what one window does, and where it comes to rest before a simulated server."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.resilience.gradient2 import HEADROOM, HIGHEST, INITIAL, LOWEST, SMOOTHING, Gradient2


def settled(seconds: float = 0.01, windows: int = 20, backends: int = 1) -> Gradient2:
    """One that has seen this latency, with so little traffic that its limit stayed."""
    limiter = Gradient2(backends)
    for _ in range(windows):
        limiter.update(seconds, 0)
    return limiter


def test_it_begins_where_a_small_server_bears_it() -> None:
    assert Gradient2().limit == INITIAL
    assert Gradient2(3).limit == 3 * INITIAL


def test_steady_latency_lets_a_used_limit_grow() -> None:
    limiter = settled()
    assert limiter.update(0.01, 20) == pytest.approx(INITIAL + SMOOTHING * HEADROOM)


def test_a_limit_that_is_not_used_stays() -> None:
    limiter = settled()
    assert limiter.update(0.01, 9) == INITIAL
    assert limiter.update(0.01, 10) > INITIAL
    # Nor does latency move it that had another cause.
    assert settled().update(1.0, 9) == INITIAL


def test_a_little_more_latency_is_tolerated_and_much_more_is_not() -> None:
    assert settled().update(0.014, 20) > INITIAL
    shrunk = settled().update(0.1, 20)
    # The gradient is never below a half.
    assert shrunk == pytest.approx(INITIAL + SMOOTHING * (INITIAL * 0.5 + HEADROOM - INITIAL), rel=0.01)


def test_the_long_term_mean_comes_down_when_worse_times_are_over() -> None:
    limiter = settled(0.1)
    for _ in range(40):
        limiter.update(0.01, 0)
    assert limiter.long_s < 0.03


def test_a_window_that_says_nothing() -> None:
    limiter = Gradient2()
    for nothing in (0.0, -1.0, float("nan")):
        assert limiter.update(nothing, 20) == INITIAL
    assert limiter.long_s == 0


def test_backends_that_come_and_go_take_their_part_along() -> None:
    limiter = settled(backends=2)
    limiter.resize(4)
    assert limiter.limit == 4 * INITIAL
    limiter.resize(1)
    assert limiter.limit == INITIAL
    limiter.resize(0)  # a pool that is emptied: at least what one would get
    assert limiter.limit == INITIAL


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(1e-6, 1e3), st.integers(0, 10**6)), max_size=200),
)
def test_the_limit_keeps_within_its_bounds(backends: int, windows: list[tuple[float, int]]) -> None:
    limiter = Gradient2(backends)
    for seconds, in_flight in windows:
        before = limiter.limit
        after = limiter.update(seconds, in_flight)
        assert LOWEST <= after <= HIGHEST * backends
        # In one window it loses at most a tenth (half of it, a fifth of the way) and wins at most its headroom.
        assert before * 0.9 - 1e-9 <= after <= before + SMOOTHING * HEADROOM * backends + 1e-9 or after == LOWEST


def served(limiter: Gradient2, random: Random, slots: int, service_s: float, offered: int) -> float:
    """One second of a server with so many slots, under closed-loop load of `offered` clients (those over the limit wait
    outside). Its latency is service, times what stands before each slot, give or take a tenth. Returns the latency."""
    in_flight = min(offered, int(limiter.limit))
    latency = service_s * max(1.0, in_flight / slots) * random.uniform(0.9, 1.1)
    limiter.update(latency, in_flight)
    return latency


@pytest.mark.parametrize(("slots", "times"), [(8, 6), (40, 4), (150, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_it_converges_before_a_simulated_server(slots: int, times: int, seed: int) -> None:
    """Overloaded with ten times what it bears, the server is kept busy, and its queue short: at most so many times the
    latency it has without one. (Not less: of an overload that lasts the long-term mean learns, too, and the headroom is
    half of eight slots.)
    """
    limiter, random = Gradient2(), Random(seed)
    for _ in range(60):  # quiet at first: what it looks like without a queue is learned
        served(limiter, random, slots, 0.01, min(slots, 8))
    late = [(served(limiter, random, slots, 0.01, 10 * slots), limiter.limit) for _ in range(600)][300:]
    limits = [limit for _, limit in late]
    # No slot stays empty, apart from the rounding at a very small server.
    assert min(limits) >= 0.95 * slots
    # Without a limit it would be ten times the service time.
    assert sum(latency for latency, _ in late) / len(late) <= 0.01 * times


def test_it_follows_a_server_that_loses_half_its_slots() -> None:
    limiter, random = Gradient2(), Random(1)
    for _ in range(60):
        served(limiter, random, 100, 0.01, 8)
    for _ in range(300):
        served(limiter, random, 100, 0.01, 1000)
    before = limiter.limit
    for _ in range(120):
        served(limiter, random, 50, 0.01, 1000)
    assert 45 <= limiter.limit <= 0.75 * before


class Original:
    """`Gradient2Limit._update` and `ExpAvgMeasurement` of concurrency-limits, line by line, with our bounds."""

    def __init__(self) -> None:
        self.limit, self.value, self.sum, self.count = INITIAL, 0.0, 0.0, 0

    def update(self, rtt: float, inflight: int) -> float:
        if self.count < 10:
            self.count += 1
            self.sum += rtt
            self.value = self.sum / self.count
        else:
            factor = 2.0 / (600 + 1)
            self.value = self.value * (1 - factor) + rtt * factor
        long_rtt = self.value
        if long_rtt / rtt > 2:
            self.value *= 0.95
        if inflight < self.limit / 2:
            return self.limit
        # The original compares with the mean as it was before it was led down.
        gradient = max(0.5, min(1.0, 1.5 * long_rtt / rtt))
        new_limit = self.limit * gradient + 4
        new_limit = self.limit * (1 - 0.2) + new_limit * 0.2
        self.limit = max(LOWEST, min(HIGHEST, new_limit))
        return self.limit


@given(st.lists(st.tuples(st.floats(1e-3, 10), st.integers(0, 300)), max_size=200))
def test_it_is_the_original(windows: list[tuple[float, int]]) -> None:
    limiter, original = Gradient2(), Original()
    for seconds, in_flight in windows:
        assert limiter.update(seconds, in_flight) == pytest.approx(original.update(seconds, in_flight), rel=1e-9)


def test_an_overload_that_lasts_is_learned_as_the_docstring_says() -> None:
    limiter, random = Gradient2(), Random(1)
    for _ in range(600):
        served(limiter, random, 40, 0.01, 8)
    limits = []
    for _ in range(900):
        served(limiter, random, 40, 0.01, 400)
        limits.append(limiter.limit)
    assert [round(limits[at - 1], -1) for at in (60, 300, 600, 900)] == [60, 100, 160, 200]
    windows = 0
    while limiter.long_s > 0.0115:
        served(limiter, random, 40, 0.01, 40)
        windows += 1
    assert windows < 600
