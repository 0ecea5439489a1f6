from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.resilience.eligibility import Flag, eligible

SOUND = Flag.PRESENT | Flag.ENABLED | Flag.UP | Flag.CHECKED


@dataclass(frozen=True, eq=False)
class State:
    flags: int
    weight: int = 1
    priority: int = 0
    factor: float = 1.0


def good(weight: int = 1, also: int = 0) -> State:
    return State(SOUND | also, weight)


EJECTED = good(also=Flag.EJECTED)
HALF_OPEN = good(also=Flag.HALF_OPEN)
DRAINING = good(also=Flag.DRAINING)
HEAVY_ZERO = good(weight=0)
DOWN = State(SOUND & ~Flag.UP)
UNCHECKED = State(SOUND & ~Flag.CHECKED)
DISABLED = State(SOUND & ~Flag.ENABLED)
ABSENT = State(SOUND & ~Flag.PRESENT)


def test_all_good() -> None:
    pool = [good(), good(), good()]
    found = eligible(pool)
    assert (found.new_sessions, found.bound, found.half_open, found.panic) == (pool, pool, [], False)


@pytest.mark.parametrize("state", [DOWN, UNCHECKED, DISABLED, ABSENT, EJECTED])
def test_what_is_not_routable_serves_nobody(state: State) -> None:
    pool = [good(), state, good()]
    found = eligible(pool)
    assert found.new_sessions == found.bound == [pool[0], pool[2]]
    assert found.half_open == []
    assert not found.panic


@pytest.mark.parametrize("state", [DRAINING, HEAVY_ZERO])
def test_draining_and_weight_zero_serve_bound_sessions_only(state: State) -> None:
    pool = [good(), state]
    found = eligible(pool)
    assert found.new_sessions == [pool[0]]
    assert found.bound == pool


def test_a_half_open_one_is_probed_and_serves_nobody_else() -> None:
    pool = [good(), HALF_OPEN]
    found = eligible(pool)
    assert found.new_sessions == found.bound == [pool[0]]
    assert found.half_open == [HALF_OPEN]


@pytest.mark.parametrize("state", [good(0, Flag.HALF_OPEN), good(1, Flag.HALF_OPEN | Flag.DRAINING)])
def test_a_half_open_one_without_new_sessions_is_probed_by_those_bound_to_it(state: State) -> None:
    found = eligible([good(), state])
    assert found.half_open == []
    assert state in found.bound


class TestPanic:
    def test_fewer_than_half_routable_overrides_ejection(self) -> None:
        pool = [good(), EJECTED, HALF_OPEN]
        found = eligible(pool)
        assert found.panic
        assert found.new_sessions == found.bound == pool
        assert found.half_open == [HALF_OPEN]  # still probed: the breaker wants to know

    def test_half_is_enough(self) -> None:
        pool = [good(), EJECTED]
        assert not eligible(pool).panic
        assert eligible(pool).new_sessions == [pool[0]]

    def test_it_overrides_nothing_else(self) -> None:
        found = eligible([DOWN, UNCHECKED, DISABLED, ABSENT, DRAINING, HEAVY_ZERO, EJECTED])
        assert found.panic
        assert found.new_sessions == [EJECTED]
        assert found.bound == [DRAINING, HEAVY_ZERO, EJECTED]

    def test_without_ejected_ones_there_is_nothing_to_override(self) -> None:
        found = eligible([good(), DOWN, DOWN])
        assert not found.panic
        assert len(found.new_sessions) == 1

    def test_what_is_down_counts_as_not_routable(self) -> None:
        assert eligible([good(), DOWN, EJECTED]).panic

    def test_what_the_administrator_took_out_does_not_count(self) -> None:
        assert not eligible([good(), EJECTED, DISABLED, DISABLED, DISABLED]).panic

    def test_the_only_one_that_may_take_new_sessions_is_used_though_ejected(self) -> None:
        assert eligible([DRAINING, EJECTED]).new_sessions == [EJECTED]

    def test_off(self) -> None:
        found = eligible([EJECTED, EJECTED], None)
        assert (found.new_sessions, found.bound, found.panic) == ([], [], False)

    def test_its_threshold_can_be_set(self) -> None:
        pool = [good(), good(), EJECTED]
        assert eligible(pool, 0.7).panic
        assert not eligible(pool, 0.6).panic


class TestPriorities:
    def test_backups_stand_by_while_the_first_level_bears_everything(self) -> None:
        first, second = [good(), good(), good(), EJECTED], [replace(good(), priority=1)]
        levels = eligible([*second, *first]).levels
        assert [(level.priority, level.backends, level.load) for level in levels] == [
            (0, first[:3], 1.0),
            (1, second, 0.0),
        ]

    def test_they_take_over_in_proportion(self) -> None:
        pool = [good(), good(), DOWN, DOWN, *(replace(good(), priority=1) for _ in range(2))]
        assert [level.load for level in eligible(pool).levels] == pytest.approx([0.7, 0.3])

    def test_what_the_administrator_took_out_is_missing_too(self) -> None:
        pool = [good(), DISABLED, DRAINING, replace(good(), priority=1)]
        assert [level.load for level in eligible(pool).levels] == pytest.approx([1.4 / 3, 1 - 1.4 / 3])

    def test_one_that_starts_slowly_counts_as_a_part(self) -> None:
        pool = [replace(good(), factor=0.25), replace(good(), priority=1)]
        assert [level.load for level in eligible(pool).levels] == pytest.approx([0.35, 0.65])

    def test_a_level_does_not_panic_while_the_others_can_bear_it(self) -> None:
        pool = [good(), EJECTED, EJECTED, EJECTED, *(replace(good(), priority=1) for _ in range(2))]
        found = eligible(pool)
        assert not found.panic
        assert [level.load for level in found.levels] == pytest.approx([0.35, 0.65])

    def test_it_does_when_they_cannot(self) -> None:
        backup = replace(DOWN, priority=1)
        pool = [good(), EJECTED, EJECTED, EJECTED, backup]
        found = eligible(pool)
        assert found.panic
        assert found.levels[0].backends == pool[:4]
        assert [level.load for level in found.levels] == [1.0, 0.0]

    def test_when_nobody_is_routable_panic_takes_the_levels_in_order(self) -> None:
        first, backup = replace(EJECTED), replace(EJECTED, priority=1)
        found = eligible([first, backup])
        assert [(level.backends, level.load) for level in found.levels] == [([first], 1.0), ([backup], 0.0)]

    def test_one_level_is_as_without_levels(self) -> None:
        pool = [good(), good(), EJECTED]
        assert eligible([replace(state, priority=7) for state in pool], 0.7).panic


def test_an_empty_pool() -> None:
    assert eligible([]).new_sessions == []


states = st.builds(State, st.integers(0, 255), st.integers(0, 2), st.integers(0, 3), st.sampled_from([0.1, 0.5, 1.0]))


@settings(deadline=None)
@given(pool=st.lists(states, max_size=12), threshold=st.none() | st.floats(0, 1))
def test_whatever_the_states(pool: list[State], threshold: float | None) -> None:
    found = eligible(pool, threshold)
    for state in found.new_sessions:
        assert state.flags & SOUND == SOUND
        assert not state.flags & Flag.DRAINING
        assert state.weight
        assert found.panic or not state.flags & (Flag.EJECTED | Flag.HALF_OPEN)
    assert sorted(map(id, found.new_sessions)) == sorted(id(one) for level in found.levels for one in level.backends)
    assert [level.priority for level in found.levels] == sorted({state.priority for state in pool})
    assert all(level.backends for level in found.levels if level.load > 0)
    assert sum(level.load for level in found.levels) == pytest.approx(1 if found.new_sessions else 0)
    assert set(found.new_sessions) <= set(found.bound)
    assert [state for state in pool if state in found.bound] == found.bound
    if any(state.flags == SOUND and state.weight for state in pool):
        assert found.new_sessions
