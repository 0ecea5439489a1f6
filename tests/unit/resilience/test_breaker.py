"""Scenarios: what happens to the breakers of a pool, told in order. Time stands in seconds."""

from __future__ import annotations

import pytest

from headgate.errors import Kind
from headgate.resilience.breaker import BreakerGroup, Refused, State, Transition
from headgate.resilience.cause import Cause

REFUSED, RESET, BAD_STATUS = Kind.CONNECT_REFUSED, Kind.RESET, Kind.BAD_STATUS


def pool(n: int, **options: float) -> BreakerGroup[str]:
    return BreakerGroup("abcdefgh"[:n], **{"success_threshold": 1, **options})  # type: ignore[arg-type]


def opened(group: BreakerGroup[str], key: str, now: float, kind: Kind = RESET) -> float:
    """Trips a breaker that must open; for how long."""
    change = group.trip(key, kind, "5 failures in a row", now)
    assert isinstance(change, Transition)
    assert change.after is State.OPEN
    assert change.until is not None
    return change.until - now


def recovered(group: BreakerGroup[str], key: str) -> float:
    """Waits until it is half-open, lets a probe succeed; when that was."""
    now = group.until(key)
    assert now is not None
    assert [change.key for change in group.advance(now)] == [key]
    change = group.probed(key, True, Kind.OK, now)
    assert change is not None
    assert change.after is State.CLOSED
    return now


def test_the_life_of_a_breaker() -> None:
    group = pool(3)
    assert group.state("a") is State.CLOSED
    assert group.next_event(0) is None

    change = group.trip("a", RESET, "5 failures in a row", 100)
    assert change == Transition(
        "a", State.CLOSED, State.OPEN, "5 failures in a row; out for 10 s", 110, Cause.CONSECUTIVE_FAILURES
    )
    assert group.next_event(100) == 110
    assert group.advance(109.9) == []

    assert group.advance(110) == [Transition("a", State.OPEN, State.HALF_OPEN, "probing after 10 s", 140)]
    assert group.state("a") is State.HALF_OPEN

    change = group.probed("a", True, Kind.OK, 111)
    assert change == Transition("a", State.HALF_OPEN, State.CLOSED, "probe succeeded", None)
    assert group.reason("a") == "probe succeeded"
    assert group.next_event(111) is None


def test_a_failed_probe_opens_it_for_twice_as_long() -> None:
    group = pool(3)
    opened(group, "a", 0)
    group.advance(10)
    change = group.probed("a", False, Kind.FIRST_BYTE_TIMEOUT, 11)
    assert change == Transition(
        "a", State.HALF_OPEN, State.OPEN, "probe failed: first_byte_timeout; out for 20 s", 31, Cause.PROBE_FAILED
    )


def test_time_doubles_up_to_five_minutes() -> None:
    group = pool(3)
    times = [opened(group, "a", 0)]
    for _ in range(7):
        now = group.until("a")
        assert now is not None
        group.advance(now)
        change = group.probed("a", False, RESET, now)
        assert change is not None
        assert change.until is not None
        times.append(change.until - now)
    assert times == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_flapping_backend_is_out_longer_and_longer() -> None:
    """It recovers each time, and fails again five seconds later."""
    group = pool(3)
    times, now = [], 0.0
    for _ in range(4):
        times.append(opened(group, "a", now))
        now = recovered(group, "a") + 5
    assert times == [10, 20, 40, 80]


def test_time_spent_closed_pays_back_what_was_earned() -> None:
    group = pool(3)
    now = 0.0
    for _ in range(3):
        opened(group, "a", now)
        now = recovered(group, "a")  # was out for 10, 20, 40
    # 40 s closed take back the third opening, 20 more the second: the next is like the second again.
    assert opened(group, "a", now + 60) == 20
    now = recovered(group, "a")
    assert opened(group, "a", now + 3600) == 10


def test_an_hour_at_the_maximum_is_not_an_hour_of_debt() -> None:
    group = pool(3)
    opened(group, "a", 0)
    for _ in range(20):
        now = group.until("a")
        assert now is not None
        group.advance(now)
        group.probed("a", False, RESET, now)
    now = recovered(group, "a")
    # 300, 160, 80, 40, 20 and 10 s, and not twenty times 300.
    assert opened(group, "a", now + 610) == 10


class TestCap:
    def test_half_of_the_pool_at_most(self) -> None:
        group = pool(4)
        opened(group, "a", 0)
        opened(group, "b", 0)
        change = group.trip("c", RESET, "5 failures in a row", 1)
        assert change == Refused("c", "5 failures in a row; kept in use: 2 of 4 are out already")
        assert group.state("c") is State.CLOSED

    @pytest.mark.parametrize(("n", "limit"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (8, 4)])
    def test_how_many(self, n: int, limit: int) -> None:
        group = pool(n)
        changes = [group.trip(key, RESET, "x", 0) for key in "abcdefgh"[:n]]
        assert sum(isinstance(change, Transition) for change in changes) == group.limit == group.out == limit

    def test_the_only_one_stays(self) -> None:
        change = pool(1).trip("a", REFUSED, "5 failures in a row", 0)
        assert change == Refused("a", "5 failures in a row; kept in use: it is the only backend of its pool")

    def test_half_open_ones_are_out_too(self) -> None:
        group = pool(3)
        opened(group, "a", 0)
        group.advance(10)
        assert isinstance(group.trip("b", RESET, "x", 11), Refused)
        group.probed("a", True, Kind.OK, 12)
        opened(group, "b", 13)

    def test_a_failed_probe_asks_nobody(self) -> None:
        group = pool(3)
        opened(group, "a", 0)
        group.advance(10)
        group.remove("c")
        group.remove("b")
        assert group.limit == 0
        change = group.probed("a", False, RESET, 11)
        assert change is not None
        assert change.after is State.OPEN


class TestActiveCheck:
    @pytest.mark.parametrize("kind", [REFUSED, Kind.CONNECT_TIMEOUT, RESET, Kind.FIRST_BYTE_TIMEOUT])
    @pytest.mark.parametrize("half_open", [False, True])
    def test_coming_back_clears_what_connect_or_transport_errors_opened(self, kind: Kind, half_open: bool) -> None:
        group = pool(3)
        opened(group, "a", 0, kind)
        if half_open:
            group.advance(10)
        change = group.check_passed("a", True, 12)
        assert change is not None
        assert change.after is State.CLOSED
        assert change.reason == "active check passed again"
        assert group.next_event(12) is None

    def test_one_that_passed_all_along_clears_nothing(self) -> None:
        group = pool(3)
        opened(group, "a", 0)
        assert group.check_passed("a", False, 3) is None
        assert group.state("a") is State.OPEN

    @pytest.mark.parametrize("kind", [BAD_STATUS, Kind.BAD_HEAD])
    def test_what_answers_opened_runs_its_time(self, kind: Kind) -> None:
        group = pool(3)
        opened(group, "a", 0, kind)
        assert group.check_passed("a", True, 3) is None
        assert group.state("a") is State.OPEN

    def test_the_last_reason_counts(self) -> None:
        group = pool(3)
        opened(group, "a", 0, RESET)
        group.advance(10)
        group.probed("a", False, BAD_STATUS, 11)
        assert group.check_passed("a", True, 12) is None

    def test_the_debt_stays(self) -> None:
        group = pool(3)
        opened(group, "a", 0)
        group.check_passed("a", True, 2)
        assert opened(group, "a", 4) == 20


class TestProbes:
    def test_several_may_be_asked_for(self) -> None:
        group = pool(3, success_threshold=3)
        opened(group, "a", 0)
        group.advance(10)
        assert group.probed("a", True, Kind.OK, 11) is None
        assert group.probed("a", True, Kind.OK, 12) is None
        change = group.probed("a", True, Kind.OK, 13)
        assert change is not None
        assert change.reason == "3 probes succeeded"

    def test_a_failure_begins_the_count_afresh(self) -> None:
        group = pool(3, success_threshold=2)
        opened(group, "a", 0)
        group.advance(10)
        group.probed("a", True, Kind.OK, 11)
        group.probed("a", False, RESET, 12)
        group.advance(40)
        assert group.probed("a", True, Kind.OK, 41) is None

    @pytest.mark.parametrize("kind", [Kind.CLIENT_GONE, Kind.LOCAL_RESOURCE, Kind.STALE])
    def test_one_that_says_nothing_about_the_backend_does_not_count(self, kind: Kind) -> None:
        group = pool(3)
        opened(group, "a", 0)
        group.advance(10)
        assert group.probed("a", False, kind, 11) is None
        assert group.state("a") is State.HALF_OPEN

    def test_late_answers_change_nothing(self) -> None:
        group = pool(3)
        assert group.probed("a", False, RESET, 0) is None
        opened(group, "a", 0)
        assert group.probed("a", True, Kind.OK, 5) is None
        assert group.state("a") is State.OPEN

    def test_with_nothing_to_probe_with_it_closes_in_the_end(self) -> None:
        group = pool(3)
        opened(group, "a", 0)
        group.advance(10)
        assert group.next_event(10) == 40
        (change,) = group.advance(40)
        assert change.after is State.CLOSED
        assert change.reason == "no request to probe with for 30 s"

    def test_a_probe_that_succeeded_prolongs_the_wait_for_the_next(self) -> None:
        group = pool(3, success_threshold=2)
        opened(group, "a", 0)
        group.advance(10)
        group.probed("a", True, Kind.OK, 35)
        assert group.next_event(35) == 65


def test_all_workers_report_the_same_but_it_opens_once() -> None:
    group = pool(3)
    opened(group, "a", 0)
    assert group.trip("a", RESET, "5 failures in a row", 0.1) is None
    assert group.until("a") == 10


def test_a_trip_while_half_open_opens_it_again() -> None:
    group = pool(3)
    opened(group, "a", 0)
    group.advance(10)
    assert opened(group, "a", 11) == 20


def test_backends_come_and_go() -> None:
    group = pool(2)
    opened(group, "a", 0)
    group.add("a", 5)  # known: keeps its state
    assert group.state("a") is State.OPEN
    group.remove("a")
    assert group.trip("a", RESET, "x", 6) is None
    assert group.probed("a", True, Kind.OK, 6) is None
    assert group.check_passed("a", True, 6) is None
    assert group.advance(100) == []
    group.add("a", 200)
    assert opened(group, "a", 201) == 10


def test_an_event_that_is_overdue_is_due_now() -> None:
    group = pool(4)
    opened(group, "a", 0)
    opened(group, "b", 3)
    assert group.next_event(1) == 10
    assert group.next_event(50) == 50
    assert {change.key for change in group.advance(50)} == {"a", "b"}


@pytest.mark.parametrize(
    "options",
    [{"recovery_s": 0}, {"recovery_s": 20, "recovery_max_s": 10}, {"success_threshold": 0}, {"unprobed_s": 0}],
)
def test_options_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"recovery|success_threshold|unprobed"):
        pool(3, **options)
