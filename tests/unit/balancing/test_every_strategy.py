"""What must be true of every strategy, whatever it does."""

from __future__ import annotations

from collections import Counter, deque
from math import sqrt
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.balancing.base import Backend, Context, Strategy
from headgate.balancing.registry import BUILT_IN, build
from headgate.balancing.ring_hash import PLACES
from headgate.simulate.run import Clock

from .fakes import (
    OUTCOME,
    REQUEST,
    REQUIRED,
    FakeBackend,
    FakeOutcome,
    FakeRequest,
    hash64,
    make,
    picks,
    several,
    shares,
)

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
    done = getattr(strategy, "done", None) or (lambda backend, outcome: None)
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


# -- weights, within 1 % of all picks over 10,000

PICKS = 10_000
WEIGHTS = [(1, 1, 1), (5, 1, 1), (256, 1), (3, 2), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)]
BY_TURN_OR_LOT = ("round_robin", "weighted_round_robin", "random", "weighted_random", "p2c", "random_subset")
BY_LOAD = ("least_connections", "least_time", "peak_ewma", "prequal")
BY_KEY = ("ip_hash", "ring_hash", "maglev", "bounded_hash")
# Lots are drawn, so that one seed proves nothing: 0.01 is five standard deviations and more.
SEEDS = range(4)


def test_each_strategy_has_its_weights_tested() -> None:
    assert {*BY_TURN_OR_LOT, *BY_LOAD, *BY_KEY} == set(BUILT_IN)


def as_weighted(seen: Counter[Backend | None], backends: list[FakeBackend], off: float = 0.01) -> None:
    total, drawn = sum(backend.share for backend in backends), seen.total()
    for backend in backends:
        assert seen[backend] / drawn == pytest.approx(backend.share / total, abs=off)


@pytest.mark.parametrize("name", BY_TURN_OR_LOT)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_idle_backends_share_by_weight(name: str, weights: tuple[int, ...]) -> None:
    for seed in SEEDS:
        backends = several(len(weights), weights)
        as_weighted(shares(make(name, backends, seed=seed), PICKS), backends)


@pytest.mark.parametrize("name", BY_TURN_OR_LOT)
@pytest.mark.parametrize("factor", [0.1, 0.37, 0.9])
@pytest.mark.parametrize("n", [3, 12])
def test_a_backend_that_starts_slowly_gets_its_part(name: str, factor: float, n: int) -> None:
    backends = several(n, (2,))
    strategy = make(name, backends, seed=20)
    backends[1].share_of_weight = factor
    strategy.update(backends)
    as_weighted(shares(strategy, PICKS), backends)


@pytest.mark.parametrize("name", [*BY_TURN_OR_LOT, *BY_LOAD])
@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 1, 1), (3, 2), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)])
def test_busy_backends_share_by_weight(name: str, weights: tuple[int, ...]) -> None:
    """What looks at load or latency promises it of backends that are what their weights say: so many attempts in
    flight, each that ends followed by another, and each backend as slow as its load per share. Then that is the same
    everywhere, and so is what each gets."""
    backends = several(len(weights), weights)
    clock = Clock()
    strategy = build(name, Context(Random(7), clock, hash64), REQUIRED.get(name))
    strategy.update(backends)
    as_weighted(under_steady_load(strategy, clock, 20 * sum(weights)), backends)


def under_steady_load(strategy: Strategy, clock: Clock, in_flight: int) -> Counter[Backend | None]:
    done = getattr(strategy, "done", None) or (lambda backend, outcome: None)
    outcome = FakeOutcome()
    flying: deque[FakeBackend] = deque()
    seen: Counter[Backend | None] = Counter()
    for number in range(2 * in_flight + PICKS):
        if len(flying) == in_flight:
            ended = flying.popleft()
            ended.active -= 1
            outcome.first_byte_s = 0.001 * (ended.active + 1) / ended.share
            done(ended, outcome)
        clock.now += 0.01
        picked = strategy.pick(FakeRequest(number), ())
        assert isinstance(picked, FakeBackend)
        picked.active += 1
        flying.append(picked)
        if number >= 2 * in_flight:
            seen[picked] += 1
    return seen


@pytest.mark.parametrize("name", BY_KEY)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_evenly_spread_keys_are_shared_by_weight(name: str, weights: tuple[int, ...]) -> None:
    """Which requests come with which key is not a hash's to choose. Of keys whose hashes are evenly spread each backend
    gets its part: by a table exactly, by a ring within four deviations of what so many places can (1/sqrt(places) of a
    share)."""
    backends = several(len(weights), weights)
    strategy = build(name, Context(Random(1), lambda: 0.0, evenly), None)
    strategy.update(backends)
    seen = Counter(strategy.pick(FakeRequest(number), ()) for number in range(PICKS))
    if name == "maglev":
        as_weighted(seen, backends)
        return
    total = sum(weights)
    for backend in backends:
        part = backend.weight / total
        deviation = part * (1 - part) * sqrt(2 / PLACES)
        assert seen[backend] / PICKS == pytest.approx(part, abs=4 * deviation + 1 / PICKS)


def evenly(data: bytes, seed: int = 0) -> int:
    """The clients' addresses 0 to 9,999, evenly spread over 64 bits."""
    return int.from_bytes(data[-4:], "big") * (2**64 // PICKS) + 2**50
