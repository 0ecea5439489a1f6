from __future__ import annotations

from random import Random

import pytest

from headgate.resilience.health_state import HealthState, State, Transition

REFUSED = "connection refused"


def up(**options: float) -> HealthState:
    health = HealthState(**options)  # type: ignore[arg-type]
    health.passed()
    return health


def down(**options: float) -> HealthState:
    health = HealthState(**options)  # type: ignore[arg-type]
    health.failed(REFUSED)
    return health


def test_one_pass_admits_a_new_backend() -> None:
    health = HealthState()
    assert health.state is State.UNCHECKED
    change = health.passed()
    assert change == Transition(State.UNCHECKED, State.UP, "first check passed")
    assert not change.down_to_up


def test_one_failure_is_enough_against_a_new_backend() -> None:
    health = HealthState()
    change = health.failed(REFUSED)
    assert change == Transition(State.UNCHECKED, State.DOWN, "first check failed: connection refused")


def test_three_failures_in_a_row_take_it_out() -> None:
    health = up()
    assert health.failed(REFUSED) is None
    assert health.failed(REFUSED) is None
    assert health.state is State.UP
    change = health.failed("timeout after 2 s")
    assert change is not None
    assert change.after is State.DOWN
    assert change.reason == "3 failures in a row, the last: check failed: timeout after 2 s"


def test_a_pass_in_between_begins_the_count_afresh() -> None:
    health = up()
    for _ in range(5):
        assert health.failed(REFUSED) is None
        assert health.failed(REFUSED) is None
        assert health.passed() is None
    assert health.state is State.UP


def test_two_passes_in_a_row_bring_it_back() -> None:
    health = down()
    assert health.passed() is None
    assert health.failed(REFUSED) is None
    assert health.passed() is None
    change = health.passed()
    assert change == Transition(State.DOWN, State.UP, "2 checks passed")
    assert change.down_to_up


def test_one_pass_brings_it_back_when_nothing_is_routable() -> None:
    change = down().passed(nothing_routable=True)
    assert change is not None
    assert change.after is State.UP
    assert change.down_to_up


def test_the_reason_of_one_that_stays_down_is_the_latest() -> None:
    health = down()
    health.failed("timeout after 2 s")
    assert health.reason == "check failed: timeout after 2 s"


@pytest.mark.parametrize(("fall", "rise"), [(1, 1), (2, 4), (5, 3)])
def test_fall_and_rise(fall: int, rise: int) -> None:
    health = up(fall=fall, rise=rise)
    assert [health.failed(REFUSED) is not None for _ in range(fall)] == [False] * (fall - 1) + [True]
    assert [health.passed() is not None for _ in range(rise)] == [False] * (rise - 1) + [True]


class TestTraffic:
    def test_a_connect_failure_is_one_step_of_fall(self) -> None:
        health = up()
        assert health.failed(REFUSED) is None
        assert health.traffic_connect_failure(REFUSED) is None
        change = health.traffic_connect_failure(REFUSED)
        assert change is not None
        assert change.reason == "3 failures in a row, the last: connect failed: connection refused"

    def test_it_says_nothing_about_one_that_is_down(self) -> None:
        health = down()
        health.passed()
        assert health.traffic_connect_failure(REFUSED) is None
        assert health.passed() is not None  # the pass before still counts

    def test_it_says_nothing_about_one_that_no_check_has_reached(self) -> None:
        health = HealthState()
        assert health.traffic_connect_failure(REFUSED) is None
        assert health.state is State.UNCHECKED


class TestDelays:
    def test_the_first_round_is_spread_over_half_a_second(self) -> None:
        health = HealthState(interval_s=5)
        assert [health.first_delay(index, 5) for index in range(5)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
        assert HealthState(interval_s=0.1).first_delay(1, 2) == 0.05

    def test_the_second_round_is_spread_over_the_interval(self) -> None:
        random = Random(1)
        delays = sorted(up(interval_s=5).next_delay(random) for _ in range(200))
        assert 1 <= delays[0] < 1.3
        assert 4.7 < delays[-1] <= 5

    def test_from_then_on_it_is_the_interval_up_to_a_tenth_early(self) -> None:
        health, random = up(interval_s=5), Random(1)
        health.next_delay(random)
        delays = [health.next_delay(random) for _ in range(200)]
        assert min(delays) < 4.6
        assert all(4.5 <= delay <= 5 for delay in delays)

    @pytest.mark.parametrize(("interval_s", "fast_s"), [(5, 1), (60, 1), (0.2, 0.2)])
    def test_in_doubt_checks_come_faster(self, interval_s: float, fast_s: float) -> None:
        random = Random(1)
        falling, rising, shaken = up(interval_s=interval_s), down(interval_s=interval_s), up(interval_s=interval_s)
        falling.failed(REFUSED)
        rising.passed()
        shaken.traffic_connect_failure(REFUSED)
        for health in (falling, rising, shaken):
            assert health.in_doubt
            assert 0.9 * fast_s <= health.next_delay(random) <= fast_s

    def test_once_down_there_is_no_hurry(self) -> None:
        health, random = down(interval_s=5), Random(1)
        health.next_delay(random)
        health.failed(REFUSED)
        assert not health.in_doubt
        assert health.next_delay(random) >= 4.5


@pytest.mark.parametrize("options", [{"fall": 0}, {"rise": 0}, {"interval_s": 0}])
def test_options_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|longer than nothing"):
        HealthState(**options)  # type: ignore[arg-type]
