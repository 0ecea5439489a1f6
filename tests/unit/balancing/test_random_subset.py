from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.balancing.base import Backend
from headgate.balancing.random_subset import RandomSubset

from .fakes import REQUEST, FakeBackend, context, several, shares


def subset_of(backends: list[FakeBackend], balancer: int, balancers: int, size: int = 12) -> RandomSubset:
    strategy = RandomSubset(context(balancer), balancer=balancer, balancers=balancers, size=size)
    strategy.update(backends)
    return strategy


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 60), balancers=st.integers(1, 30), size=st.integers(1, 20), weight=st.integers(1, 9))
def test_together_the_balancers_give_each_backend_exactly_its_share(
    n: int, balancers: int, size: int, weight: int
) -> None:
    backends = several(n, (1, weight))
    given_to: defaultdict[Backend, float] = defaultdict(float)
    for balancer in range(balancers):
        parts = subset_of(backends, balancer, balancers, size)._parts
        whole = sum(part.share for part in parts)
        for part in parts:
            given_to[part.backend] += part.share / whole
    total = sum(backend.share for backend in backends)
    for backend in backends:
        assert given_to[backend] == pytest.approx(balancers * backend.share / total)


@pytest.mark.parametrize(("n", "balancers", "size"), [(100, 10, 12), (1000, 200, 12), (50, 3, 20)])
def test_a_subset_is_no_smaller_than_it_must_be_and_little_larger(n: int, balancers: int, size: int) -> None:
    for balancer in range(balancers):
        found = len(subset_of(several(n), balancer, balancers, size).subset)
        # A step of 1/balancers more at most, and an end of the arc in a backend on both sides.
        assert size <= found <= max(size, n / balancers) + n / balancers + 2


def test_where_there_are_few_backends_all_are_used() -> None:
    assert len(subset_of(several(8), 2, 5).subset) == 8


def test_the_subset_is_the_same_in_every_worker_and_changes_little() -> None:
    backends = several(200)
    before = set(subset_of(backends, 3, 20).subset)
    assert set(subset_of(backends[::-1], 3, 20).subset) == before
    after = set(subset_of(backends[1:], 3, 20).subset)
    assert len(before - after) <= 2


def test_a_retry_goes_beyond_the_subset_once_all_of_it_was_tried() -> None:
    backends = several(60)
    strategy = subset_of(backends, 0, 6, 5)
    inside = strategy.subset
    assert strategy.pick(REQUEST, inside[1:]) is inside[0]
    assert strategy.pick(REQUEST, inside) in set(backends) - set(inside)
    assert strategy.pick(REQUEST, backends) is None


def test_inside_it_takes_the_less_loaded_of_two() -> None:
    backends = several(40)
    strategy = subset_of(backends, 1, 4, 10)
    busy = strategy.subset[4]
    assert isinstance(busy, FakeBackend)
    busy.active = 1000
    assert busy not in shares(strategy, 300)
