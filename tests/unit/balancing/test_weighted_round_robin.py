from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.balancing.weighted_round_robin import SCAN_LIMIT

from .fakes import FakeBackend, make, picks, several, shares

# One list of weights on each side of the number where the form changes.
few_or_many = st.lists(st.integers(1, 12), min_size=1, max_size=2 * SCAN_LIMIT)


@pytest.mark.parametrize(
    ("weights", "sequence"),
    [
        ((5, 1, 1), "a a b a c a a"),  # the one in nginx's change log
        ((1, 1, 1), "a b c"),
        ((3, 2), "a b a b a"),
        ((4, 2, 1), "a b a c a b a"),
        ((1,), "a"),
    ],
)
def test_the_sequence_is_that_of_nginx(weights: tuple[int, ...], sequence: str) -> None:
    strategy = make("weighted_round_robin", several(len(weights), weights))
    n = sum(weights)
    assert picks(strategy, 3 * n) == " ".join([sequence] * 3)


def test_many_backends_of_equal_weight_are_taken_in_turn() -> None:
    backends = several(12, (3,))
    order = " ".join(backend.name for backend in backends)
    assert picks(make("weighted_round_robin", backends), 24) == f"{order} {order}"


def test_many_backends_are_interleaved() -> None:
    weights = (6, *[1] * 12)
    assert picks(make("weighted_round_robin", several(13, weights)), 18) == "b a c d a e f a g h a i j a k l a m"


@settings(deadline=None, max_examples=50)
@given(weights=few_or_many, cycles=st.integers(1, 3))
def test_every_cycle_is_exact(weights: list[int], cycles: int) -> None:
    backends = several(len(weights), weights)
    strategy = make("weighted_round_robin", backends)
    for _ in range(cycles):
        seen = shares(strategy, sum(weights))
        assert [seen[backend] for backend in backends] == weights


@settings(deadline=None, max_examples=50)
@given(weights=few_or_many, n=st.integers(0, 300))
def test_nobody_is_ever_more_than_a_turn_off(weights: list[int], n: int) -> None:
    backends = several(len(weights), weights)
    seen = shares(make("weighted_round_robin", backends), n)
    for backend in backends:
        share = backend.weight / sum(weights)
        # In the heap each group of equal weight keeps its own time, and may itself be a turn off.
        others = len(set(weights)) if len(weights) > SCAN_LIMIT else 0
        assert abs(seen[backend] - n * share) <= 1 + others * share


@settings(deadline=None, max_examples=50)
@given(weights=few_or_many, every=st.integers(1, 7))
def test_an_update_that_changes_nothing_changes_nothing(weights: list[int], every: int) -> None:
    backends = several(len(weights), weights)
    undisturbed, disturbed = (make("weighted_round_robin", backends) for _ in range(2))
    expected = picks(undisturbed, 60).split()
    order = []
    for i in range(60):
        if i % every == 0:
            disturbed.update(backends)
        order += picks(disturbed, 1).split()
    if len(weights) <= SCAN_LIMIT:
        assert order == expected
    else:  # equal deadlines may change places
        assert abs(order.count("a") - expected.count("a")) <= 1


@pytest.mark.parametrize("n", [4, 12])
def test_a_flapping_backend_does_not_distort_the_shares_of_the_others(n: int) -> None:
    backends = several(n, (4, 2, 1, 1))
    strategy = make("weighted_round_robin", backends)
    stay = backends[:-1]
    count = dict.fromkeys(stay, 0)
    for i in range(2000):
        strategy.update(stay if i % 2 else backends)
        for backend, times in shares(strategy, 3).items():
            if isinstance(backend, FakeBackend) and backend in count:
                count[backend] += times
    total = sum(count.values())
    for backend in stay:
        assert count[backend] / total == pytest.approx(backend.weight / sum(b.weight for b in stay), abs=0.01)


def test_the_place_in_the_cycle_survives_growing_beyond_the_scan_and_back() -> None:
    backends = several(SCAN_LIMIT + 1)
    strategy = make("weighted_round_robin", backends[:SCAN_LIMIT])
    assert picks(strategy, 3) == "a b c"
    strategy.update(backends)
    assert "a" not in picks(strategy, SCAN_LIMIT - 3).split()
    strategy.update(backends[:SCAN_LIMIT])
    assert len(set(picks(strategy, SCAN_LIMIT).split())) == SCAN_LIMIT


def test_a_retry_passes_tried_ones_over_and_their_turn_stays_due() -> None:
    for n in (3, 12):
        backends = several(n)
        strategy = make("weighted_round_robin", backends)
        assert picks(strategy, 1, backends[:2]) == "c"
        assert {"a", "b"} <= set(picks(strategy, 3).split())
