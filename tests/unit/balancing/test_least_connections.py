from __future__ import annotations

from random import Random

import pytest

from headgate.balancing.least_connections import SCAN_LIMIT, LeastConnections

from .fakes import OUTCOME, REQUEST, FakeBackend, picks, several

SIZES = [3, SCAN_LIMIT, SCAN_LIMIT + 1, 40]


def loaded(*actives: int) -> list[FakeBackend]:
    backends = several(len(actives))
    for backend, active in zip(backends, actives, strict=True):
        backend.active = active
    return backends


def strategy_for(backends: list[FakeBackend]) -> LeastConnections:
    strategy = LeastConnections()
    strategy.update(backends)
    return strategy


def tell(strategy: LeastConnections, backend: FakeBackend) -> None:
    """An attempt ended, as the engine says it: to whoever wants to know."""
    if strategy.done is not None:
        strategy.done(backend, OUTCOME)


def test_only_where_it_does_not_look_at_all_of_them_it_wants_to_be_told_of_ends() -> None:
    strategy = strategy_for(several(SCAN_LIMIT))
    assert strategy.done is None
    strategy.update(several(SCAN_LIMIT + 1))
    assert strategy.done is not None


def test_the_fewest_in_flight() -> None:
    assert picks(strategy_for(loaded(3, 1, 2)), 1) == "b"


def test_weight_counts() -> None:
    a, b, _ = backends = loaded(3, 1, 5)
    a.weight = 4  # (3 + 1) / 4 < (1 + 1) / 1
    strategy = strategy_for(backends)
    assert picks(strategy, 1) == "a"
    a.active = 8
    assert picks(strategy, 1) == "b"
    assert b.active == 1


@pytest.mark.parametrize("n", SIZES)
def test_idle_ones_take_turns(n: int) -> None:
    backends = several(n)
    order = " ".join(backend.name for backend in backends)
    assert picks(strategy_for(backends), 2 * n) == f"{order} {order}"


@pytest.mark.parametrize("n", SIZES)
def test_the_turn_goes_on_after_an_update(n: int) -> None:
    backends = several(n)
    strategy = strategy_for(backends)
    first = picks(strategy, 2).split()
    strategy.update(backends)
    assert first + picks(strategy, n - 2).split() == [backend.name for backend in backends]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("counted_down_first", [True, False])
def test_with_attempts_of_its_own_it_is_never_off_by_more_than_one(n: int, counted_down_first: bool) -> None:
    backends = several(n)
    strategy = strategy_for(backends)
    flying: list[FakeBackend] = []
    random = Random(2)
    for _ in range(60 * n):
        picked = strategy.pick(REQUEST, ())
        assert isinstance(picked, FakeBackend)
        if counted_down_first:
            assert picked.active <= min(backend.active for backend in backends) + 1
        picked.active += 1
        flying.append(picked)
        if len(flying) > 4 * n:
            ended = flying.pop(random.randrange(len(flying)))
            if counted_down_first:
                ended.active -= 1
                tell(strategy, ended)
            else:  # then it is noticed by looking round, so a little later
                tell(strategy, ended)
                ended.active -= 1
    assert max(backend.active for backend in backends) <= min(backend.active for backend in backends) + 4


@pytest.mark.parametrize("n", SIZES)
def test_a_fall_that_nobody_told_of_is_noticed_within_n_picks(n: int) -> None:
    """Another worker's attempts ended."""
    backends = loaded(*[50] * n)
    strategy = strategy_for(backends)
    quiet = backends[n // 2]
    quiet.active = 0
    seen = []
    for _ in range(n + 1):
        picked = strategy.pick(REQUEST, ())
        assert isinstance(picked, FakeBackend)
        picked.active += 1
        seen.append(picked)
    assert quiet in seen


@pytest.mark.parametrize("n", SIZES)
def test_a_rise_that_nobody_told_of_is_noticed_at_once(n: int) -> None:
    """Sessions bound by a cookie."""
    backends = several(n)
    strategy = strategy_for(backends)
    for backend in backends[1:]:
        backend.active = 7
    for _ in range(7):
        assert strategy.pick(REQUEST, ()) is backends[0]
        backends[0].active += 1


@pytest.mark.parametrize("n", SIZES)
def test_an_end_reported_for_a_backend_that_left_is_ignored(n: int) -> None:
    backends = several(n + 1)
    strategy = strategy_for(backends)
    strategy.update(backends[1:])
    tell(strategy, backends[0])
    assert "a" not in picks(strategy, 2 * n).split()


@pytest.mark.parametrize("n", SIZES)
def test_a_retry_takes_the_least_loaded_of_the_rest_and_tried_ones_stay_in_the_running(n: int) -> None:
    backends = several(n)
    for backend in backends[3:]:
        backend.active = 9
    strategy = strategy_for(backends)
    a, b, c = backends[:3]
    assert strategy.pick(REQUEST, (a, b, a)) is c
    assert {strategy.pick(REQUEST, ()) for _ in range(3)} == {a, b, c}


def test_weights_hold_under_load() -> None:
    backends = several(20, (4, 1))
    strategy = strategy_for(backends)
    for _ in range(500):
        picked = strategy.pick(REQUEST, ())
        assert isinstance(picked, FakeBackend)
        picked.active += 1
    assert {backend.active for backend in backends if backend.weight == 4} <= {39, 40, 41}
    assert {backend.active for backend in backends if backend.weight == 1} <= {9, 10, 11}
