"""What must be true of every strategy, whatever it does."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.balancing.base import Backend
from headgate.balancing.registry import BUILT_IN

from .fakes import OUTCOME, REQUEST, FakeBackend, FakeRequest, make, picks, several, shares

every_strategy = pytest.mark.parametrize("name", BUILT_IN)
# Below, at and above the number where some change their form.
every_size = pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 40])

pools = st.lists(
    st.tuples(st.integers(0, 256), st.integers(0, 30)).map(lambda pair: FakeBackend("", pair[0], pair[1])), max_size=14
)


def named(backends: list[FakeBackend]) -> list[FakeBackend]:
    for slot, backend in enumerate(backends):
        backend.name, backend.slot = f"b{slot}", slot
    return backends


@every_strategy
def test_an_empty_set_has_nobody_to_pick(name: str) -> None:
    assert make(name).pick(REQUEST, ()) is None


@every_strategy
@settings(deadline=None, max_examples=20)
@given(pool=pools, data=st.data())
def test_it_picks_eligible_untried_backends_and_gives_up_only_when_none_is_left(
    name: str, pool: list[FakeBackend], data: st.DataObject
) -> None:
    backends = named(pool)
    eligible = [backend for backend in backends if backend.weight]
    strategy = make(name, backends)
    for client in range(5):
        tried = data.draw(st.lists(st.sampled_from(backends), unique=True) if backends else st.just([]))
        picked = strategy.pick(FakeRequest(client), tried)
        left = [backend for backend in eligible if backend not in tried]
        assert picked in left if left else picked is None


@every_strategy
@every_size
def test_every_backend_is_tried_once_before_it_gives_up(name: str, n: int) -> None:
    backends = several(n, (1, 2, 5))
    strategy = make(name, backends)
    tried: list[Backend] = []
    while (picked := strategy.pick(REQUEST, tuple(tried))) is not None:
        tried.append(picked)
    assert sorted(backend.name for backend in tried) == sorted(backend.name for backend in backends)


@every_strategy
def test_weight_zero_gets_nothing_even_if_it_is_in_the_set(name: str) -> None:
    backends = [FakeBackend("a", 0), FakeBackend("b", 1), FakeBackend("c", 0)]
    assert set(picks(make(name, backends), 50).split()) == {"b"}


@every_strategy
def test_a_pool_of_nothing_but_weight_zero_is_empty(name: str) -> None:
    assert make(name, [FakeBackend("a", 0)]).pick(REQUEST, ()) is None


@every_strategy
@every_size
def test_whoever_left_is_not_picked_and_whoever_came_is(name: str, n: int) -> None:
    backends = several(n + 1)
    strategy = make(name, backends)
    picks(strategy, 5)
    strategy.update(backends[1:])
    seen = shares(strategy, 400 * n)
    assert set(seen) == set(backends[1:])
    strategy.update(backends)
    assert backends[0] in shares(strategy, 400 * n)


@every_strategy
def test_a_new_weight_counts_from_the_next_update(name: str) -> None:
    backends = several(3)
    strategy = make(name, backends)
    picks(strategy, 4)
    backends[0].weight = 0
    strategy.update(backends)
    assert "a" not in picks(strategy, 60).split()


@every_strategy
@every_size
def test_the_same_randomness_gives_the_same_picks(name: str, n: int) -> None:
    backends = several(n, (1, 3))
    assert picks(make(name, backends, seed=5), 50) == picks(make(name, backends, seed=5), 50)


@every_strategy
@every_size
def test_attempts_in_flight_and_failing_leave_no_backend_idle(name: str, n: int) -> None:
    """A simulation: attempts last a random while, a cookie binds some past the strategy, the set changes under way."""
    backends = several(n)
    strategy = make(name, backends)
    done = getattr(strategy, "done", lambda backend, outcome: None)
    random = Random(3)
    flying: deque[FakeBackend] = deque()
    served = dict.fromkeys(backends, 0)
    for client in range(300 * n):
        if client % 97 == 0:
            strategy.update(backends[:-1] if client % 2 and n > 2 else backends)
        tried = (random.choice(backends),) if client % 11 == 0 and n > 1 else ()
        picked = random.choice(backends) if client % 7 == 0 else strategy.pick(FakeRequest(client), tried)
        assert isinstance(picked, FakeBackend)
        picked.active += 1
        served[picked] += 1
        flying.append(picked)
        while len(flying) > 3 * n and random.random() < 0.6:
            ended = flying.popleft()
            ended.active -= 1
            done(ended, OUTCOME)
    assert min(served.values()) > 100


@every_strategy
def test_update_keeps_no_hold_on_the_callers_list(name: str) -> None:
    backends = several(3)
    strategy = make(name, backends)
    backends.clear()
    assert strategy.pick(REQUEST, ()) is not None


# Turns are exact over 10,000 picks; what is drawn deviates by chance, so it is drawn oftener: 0.01 is four deviations.
promises_shares = pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("round_robin", 10_000),
        ("weighted_round_robin", 10_000),
        ("random", 40_000),
        ("weighted_random", 40_000),
        ("p2c", 40_000),
        ("random_subset", 40_000),
    ],
)


# The others promise no shares. least_connections and those that learn (least_time, peak_ewma, prequal) give more to
# what is quicker, by weight only as far as load tells; the hashes spread keys, and which requests have which key is not
# theirs to choose (the spread of keys is tested in test_hashes.py).
@promises_shares
@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 1, 1), (256, 1), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)])
def test_idle_backends_share_by_weight_within_one_per_cent(name: str, drawn: int, weights: tuple[int, ...]) -> None:
    backends = several(len(weights), weights)
    seen = shares(make(name, backends, seed=20), drawn)
    for backend in backends:
        assert seen[backend] / drawn == pytest.approx(backend.weight / sum(weights), abs=0.01)


@promises_shares
@pytest.mark.parametrize("factor", [0.1, 0.37, 0.9])
@pytest.mark.parametrize("n", [3, 12])
def test_a_backend_that_starts_slowly_gets_its_part_within_one_per_cent(
    name: str, drawn: int, factor: float, n: int
) -> None:
    backends = several(n, (2,))
    strategy = make(name, backends, seed=20)
    backends[1].share_of_weight = factor
    strategy.update(backends)
    seen = shares(strategy, drawn)
    total = sum(backend.share for backend in backends)
    for backend in backends:
        assert seen[backend] / drawn == pytest.approx(backend.share / total, abs=0.01)


@pytest.mark.parametrize("name", ["round_robin", "random", "least_connections"])
def test_idle_backends_of_equal_weight_share_within_one_per_cent(name: str) -> None:
    for n in (3, 12):
        backends = several(n)
        seen = shares(make(name, backends, seed=20), 10_000)
        assert all(seen[backend] / 10_000 == pytest.approx(1 / n, abs=0.01) for backend in backends)
