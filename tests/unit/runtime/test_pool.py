"""One pool in one worker: states in, picks out; outcomes in, messages out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from headgate.config.schema import Config
from headgate.engine.stats import CHECKED, DRAINED, DRAINING, EJECTED, ENABLED, HALF_OPEN, PRESENT, UP
from headgate.errors import Kind
from headgate.resilience.cause import Cause
from headgate.runtime.messages import Failed, Penalty, Probed, StrategyError, Trip
from tests.unit.runtime.fake_engine import GOOD, Request
from tests.unit.runtime.strategies_for_tests import HERE, Last
from tests.unit.runtime.worker_world import SECRET, World, config, pool_tree, with_pool, world


def strategy_of(w: World) -> Last:
    strategy = w.glue().strategies[0]
    assert isinstance(strategy, Last)
    return strategy


def fail(w: World, backend: str, kind: Kind = Kind.RESET, times: int = 1) -> None:
    for _ in range(times):
        w.pool().finish(w.backend(backend), kind)


# Who may be picked


def test_requests_go_round_the_backends_that_are_up() -> None:
    with world() as w:
        assert w.picks(4) == ["b1", "b2", "b3", "b1"]
        w.set_state("b2", flags=PRESENT | ENABLED | CHECKED)
        assert w.picks(4) == ["b3", "b1", "b3", "b1"]
        w.set_state("b2")
        assert set(w.picks(3)) == {"b1", "b2", "b3"}


@pytest.mark.parametrize(
    ("flags", "weight", "new", "bound"),
    [
        (GOOD, 1, True, True),
        (GOOD, 0, False, True),
        (GOOD | DRAINING, 1, False, True),
        (GOOD | EJECTED, 1, False, False),
        (GOOD | HALF_OPEN, 1, False, False),
        (PRESENT | ENABLED | CHECKED, 1, False, False),
        (PRESENT | UP | CHECKED, 1, False, False),
        (PRESENT | ENABLED | UP, 1, False, False),
        (0, 1, False, False),
    ],
)
def test_flags_decide_who_serves_new_sessions_and_who_bound_ones(
    flags: int, weight: int, new: bool, bound: bool
) -> None:
    with world() as w:
        w.set_state("b1", flags=flags, weight=weight)
        backend = w.backend("b1")
        assert (backend.eligible, backend.bound_ok) == (new, bound)


def test_after_the_deadline_of_a_drain_nobody_goes_there_and_its_connections_are_closed_once() -> None:
    with world() as w:
        w.set_state("b1", flags=GOOD | DRAINING)
        assert w.engine.cut_off_backends == []
        w.set_state("b1", flags=GOOD | DRAINING | DRAINED)
        w.set_state("b2", weight=2)
        backend = w.backend("b1")
        assert (backend.eligible, backend.bound_ok) == (False, False)
        assert w.engine.cut_off_backends == [backend]
        w.set_state("b1")
        w.set_state("b1", flags=GOOD | DRAINING | DRAINED)
        assert w.engine.cut_off_backends == [backend, backend], "another drain"


def test_with_most_backends_ejected_they_are_used_all_the_same() -> None:
    with world() as w:
        w.set_state("b1", flags=GOOD | EJECTED)
        assert w.eligible() == ["b2", "b3"]
        w.set_state("b2", flags=GOOD | EJECTED)
        assert w.eligible() == ["b1", "b2", "b3"]


def test_nobody_is_left_when_all_are_down() -> None:
    with world(config(web=pool_tree(1))) as w:
        assert w.glue().routable
        w.set_state("b1", flags=PRESENT | ENABLED | CHECKED)
        assert not w.glue().routable
        assert w.picks(1) == ["nobody"]


# Slow start and priorities


def test_a_backend_on_a_ramp_has_a_growing_share_and_strategies_are_told_in_steps() -> None:
    with world(config(web=pool_tree(strategy=f"{HERE}:Last"))) as w:
        w.segment.set_backend(w.slot("web", "b1"), ramp=(int(w.engine.now * 1000), 10_000))
        w.set_state("b1", weight=4)
        told = len(strategy_of(w).sets)
        seen = [w.backend("b1").share]
        for _ in range(12):
            w.engine.pass_time(1)
            seen.append(w.backend("b1").share)
        assert seen == pytest.approx([0.4, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0, 4.0, 4.0])
        assert len(strategy_of(w).sets) == told + 9
        assert w.backend("b2").share == 1.0


def test_before_its_ramp_begins_it_has_the_least() -> None:
    with world() as w:
        w.segment.set_backend(w.slot("web", "b1"), ramp=(int((w.engine.now + 3) * 1000), 2_000))
        w.set_state("b1")
        seen = []
        for _ in range(6):
            seen.append(w.backend("b1").share)
            w.engine.pass_time(1)
        assert seen == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.5, 1.0])


def prioritized(**keys: Any) -> Config:
    tree = pool_tree(4, **keys)
    for backend in tree["backends"][2:]:
        backend["priority"] = 1
    return config(web=tree)


def test_backups_stand_by_until_the_first_level_has_lost_too_much() -> None:
    with world(prioritized()) as w:
        assert w.eligible() == ["b1", "b2", "b3", "b4"]
        assert set(w.picks(50)) == {"b1", "b2"}
        w.set_state("b1", flags=GOOD & ~UP)
        assert Counter(name in ("b3", "b4") for name in w.picks(2000))[True] == pytest.approx(600, abs=90)
        w.set_state("b2", flags=GOOD & ~UP)
        assert set(w.picks(50)) == {"b3", "b4"}


def test_a_request_that_failed_at_all_of_the_first_level_goes_to_a_backup() -> None:
    with world(prioritized()) as w:
        tried = [w.backend("b1"), w.backend("b2")]
        chosen = w.pool().choose(tried=tried)
        assert chosen in (w.backend("b3"), w.backend("b4"))


def test_each_level_has_a_strategy_of_its_own_and_keeps_it() -> None:
    with world(prioritized(strategy=f"{HERE}:Last")) as w:
        before = dict(w.glue().strategies)
        assert [one.sets[-1] for one in before.values() if isinstance(one, Last)] == [
            ["b1", "b2"],
            ["b3", "b4"],
        ]
        w.apply(with_pool(prioritized(strategy=f"{HERE}:Last"), "web", keepalive=7))
        assert w.glue().strategies == before
        w.apply(config(web=pool_tree(4, strategy=f"{HERE}:Last")))
        assert list(w.glue().strategies) == [0]
        assert w.glue().strategies[0] is before[0]


def test_a_strategy_that_raises_in_one_level_is_replaced_level_by_level() -> None:
    with world(prioritized(strategy=f"{HERE}:Raises")) as w:
        assert set(w.picks(20)) == {"b1", "b2"}


# Retry-After


def test_503_with_retry_after_is_told_as_a_penalty_and_trips_nothing() -> None:
    with world() as w:
        for _ in range(20):
            w.pool().finish(w.backend("b1"), Kind.BAD_STATUS, status=503, retry_after_s=7.0)
        assert w.heard(Trip) == []
        assert w.heard(Penalty) == [Penalty(w.slot("web", "b1"), 503, 7.0)]
        assert "b1" in w.eligible()


def test_a_probe_that_is_asked_to_come_later_says_nothing_for_or_against() -> None:
    with world() as w:
        w.set_state("b1", flags=GOOD | HALF_OPEN)
        backend = w.pool().choose()
        assert backend is w.backend("b1")
        w.pool().finish(w.backend("b1"), Kind.BAD_STATUS, status=503, retry_after_s=7.0)
        assert w.heard(Probed) == []
        assert w.pool().choose() is w.backend("b1"), "the next request may probe"


def test_failures_from_before_it_was_out_do_not_add_to_the_first_one_after() -> None:
    with world() as w:
        fail(w, "b1", times=4)
        w.set_state("b1", flags=GOOD | EJECTED)  # another worker's detector tripped
        w.set_state("b1")
        fail(w, "b1", times=4)
        assert w.heard(Trip) == []
        fail(w, "b1")
        assert len(w.heard(Trip)) == 1


# Strategies


def test_a_strategy_is_told_only_of_changes_of_its_set_or_its_weights() -> None:
    with world(config(web=pool_tree(strategy=f"{HERE}:Last"))) as w:
        told = strategy_of(w).sets
        assert told == [["b1", "b2", "b3"]]
        w.set_state("b1")  # nothing new
        w.set_state("b3", flags=GOOD | EJECTED)
        w.set_state("b3", flags=GOOD | HALF_OPEN)  # out before, out now
        assert told[1:] == [["b1", "b2"]]
        w.set_state("b1", weight=5)
        assert told[2:] == [["b1", "b2"]]


def test_a_strategy_with_done_hears_how_attempts_ended_and_one_without_costs_nothing() -> None:
    with world(config(web=pool_tree(strategy=f"{HERE}:Last"))) as w:
        assert w.pool().done == strategy_of(w).done
    with world() as w:
        assert w.pool().done is None


def test_while_update_raises_round_robin_serves_until_it_succeeds() -> None:
    with world(config(web=pool_tree(strategy=f"{HERE}:NoTwo"))) as w:
        assert w.picks(2) == ["b3", "b3"]
        w.set_state("b3", flags=PRESENT | ENABLED | CHECKED)
        assert set(w.picks(2)) == {"b1", "b2"}
        (error,) = w.heard(StrategyError)
        assert error.pool == "web"
        assert error.text.startswith("ZeroDivisionError: two is one too few (strategies_for_tests.py line ")
        assert error.text.endswith(", in update)")
        assert w.segment.totals()["strategy_errors"] == 1
        w.set_state("b3")
        assert w.picks(2) == ["b3", "b3"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("Raises", "LookupError: no idea where to send b'/' (strategies_for_tests.py line "), ("Nonsense", "chose 'b1'")],
)
def test_a_strategy_that_fails_is_reported_once_and_its_requests_are_served(name: str, text: str) -> None:
    with world(config(web=pool_tree(strategy=f"{HERE}:{name}"))) as w:
        assert w.picks(6) == ["b1", "b2", "b3"] * 2
        (error,) = w.heard(StrategyError)
        assert error.text.startswith(text)


# Breaker


def test_five_failures_in_a_row_take_a_backend_out_before_the_supervisor_answers() -> None:
    with world() as w:
        fail(w, "b1", times=4)
        assert w.eligible() == ["b1", "b2", "b3"]
        fail(w, "b1")
        assert w.eligible() == ["b2", "b3"]
        assert w.heard(Trip) == [
            Trip(w.slot("web", "b1"), Kind.RESET, "5 failures in a row: reset", Cause.CONSECUTIVE_FAILURES)
        ]
        fail(w, "b1", times=20)  # attempts that had begun before
        assert len(w.heard(Trip)) == 1


def test_a_success_in_between_ends_the_row() -> None:
    with world() as w:
        fail(w, "b1", times=4)
        w.pool().finish(w.backend("b1"))
        fail(w, "b1", times=4)
        assert w.heard(Trip) == []


def test_half_of_the_attempts_of_some_seconds_are_too_many() -> None:
    with world() as w:
        for _ in range(5):
            w.engine.pass_time(1)
            w.pool().finish(w.backend("b1"))
            fail(w, "b1", Kind.SERVER_ERROR)
        (trip,) = w.heard(Trip)
        assert trip.reason == "5 of 10 attempts failed within 10 s: server error"


def test_without_an_answer_the_backend_comes_back_after_two_seconds() -> None:
    with world() as w:
        fail(w, "b1", times=5)
        w.engine.pass_time(1)
        assert w.eligible() == ["b2", "b3"]
        w.engine.pass_time(1)
        assert w.eligible() == ["b1", "b2", "b3"]


def test_once_the_supervisor_has_ejected_it_only_the_supervisor_lets_it_back() -> None:
    with world() as w:
        fail(w, "b1", times=5)
        w.set_state("b1", flags=GOOD | EJECTED)
        w.engine.pass_time(60)
        assert w.eligible() == ["b2", "b3"]
        w.set_state("b1")
        assert w.eligible() == ["b1", "b2", "b3"]


def test_a_worker_ejects_no_more_than_the_cap_allows_but_says_what_it_saw() -> None:
    with world() as w:
        fail(w, "b1", times=5)
        fail(w, "b2", times=5)
        assert w.eligible() == ["b2", "b3"]
        assert [trip.slot for trip in w.heard(Trip)] == [w.slot("web", "b1"), w.slot("web", "b2")]


def test_the_only_backend_is_never_taken_out() -> None:
    with world(config(web=pool_tree(1))) as w:
        fail(w, "b1", times=5)
        assert w.eligible() == ["b1"]
        assert len(w.heard(Trip)) == 1


@pytest.mark.parametrize("kind", [Kind.STALE, Kind.CLIENT_GONE, Kind.LOCAL_RESOURCE])
def test_what_is_not_the_backends_fault_never_counts(kind: Kind) -> None:
    with world() as w:
        fail(w, "b1", kind, times=50)
        assert w.eligible() == ["b1", "b2", "b3"]
        assert w.heard(Trip) == []


def test_without_a_breaker_nothing_trips() -> None:
    with world(config(web=pool_tree(breaker=False))) as w:
        fail(w, "b1", times=50)
        assert w.heard(Trip) == []


def test_failures_are_only_counted_in_a_row_where_the_rate_is_off() -> None:
    with world(config(web=pool_tree(breaker={"failure_rate": False}))) as w:
        for _ in range(40):
            w.pool().finish(w.backend("b1"))
            fail(w, "b1", times=4)
        assert w.heard(Trip) == []
        fail(w, "b1", times=1)
        assert len(w.heard(Trip)) == 1


def test_connect_failures_are_told_once_a_second() -> None:
    with world(config(web=pool_tree(breaker=False))) as w:
        fail(w, "b1", Kind.CONNECT_REFUSED, times=30)
        fail(w, "b2", Kind.CONNECT_TIMEOUT)
        slots = w.slot("web", "b1"), w.slot("web", "b2")
        assert w.heard(Failed) == [Failed(slots[0], Kind.CONNECT_REFUSED), Failed(slots[1], Kind.CONNECT_TIMEOUT)]
        w.engine.pass_time(1)
        fail(w, "b1", Kind.CONNECT_REFUSED, times=30)
        assert len(w.heard(Failed)) == 3


# Half-open


def half_open(w: World, backend: str = "b1") -> int:
    w.set_state(backend, flags=GOOD | HALF_OPEN)
    return w.slot("web", backend)


def test_a_half_open_backend_gets_one_idempotent_request_at_a_time() -> None:
    with world() as w:
        slot = half_open(w)
        assert w.pool().choose(Request("POST")) is not w.backend("b1")
        assert w.pool().choose(Request("GET")) is w.backend("b1")
        assert w.pool().choose(Request("GET")) is not w.backend("b1")
        w.pool().finish(w.backend("b1"))
        assert w.heard(Probed) == [Probed(slot, True, Kind.OK)]


def test_a_probe_that_fails_is_told_and_left_to_the_supervisor() -> None:
    with world() as w:
        slot = half_open(w)
        w.pool().choose()
        fail(w, "b1", Kind.BAD_STATUS)
        assert w.heard(Probed) == [Probed(slot, False, Kind.BAD_STATUS)]
        assert w.heard(Trip) == []


def test_two_workers_never_probe_one_backend_together() -> None:
    with world() as w:
        slot = half_open(w)
        assert w.segment.claim_probe(slot, 0)
        assert w.picks(1) != ["b1"]
        w.segment.release_probe(slot)
        assert w.picks(1) == ["b1"]


def test_attempts_from_before_it_was_half_open_tell_nothing() -> None:
    with world() as w:
        half_open(w)
        fail(w, "b1", Kind.FIRST_BYTE_TIMEOUT, times=3)
        assert w.heard(Probed) == []


def test_a_probe_whose_client_leaves_makes_room_for_another() -> None:
    with world() as w:
        half_open(w)
        assert w.picks(1) == ["b1"]
        w.pool().finish(w.backend("b1"), Kind.CLIENT_GONE)
        assert w.heard(Probed) == []
        assert w.picks(1) == ["b1"]


def test_a_probe_on_a_stale_connection_is_still_the_probe_when_it_is_sent_again() -> None:
    with world() as w:
        slot = half_open(w)
        assert w.picks(1) == ["b1"]
        w.pool().finish(w.backend("b1"), Kind.STALE)
        assert w.segment.probe_holder(slot) is not None
        w.pool().finish(w.backend("b1"))
        assert w.heard(Probed) == [Probed(slot, True, Kind.OK)]


def test_a_probe_that_ended_without_a_word_is_given_up_within_a_second() -> None:
    with world() as w:
        slot = half_open(w)
        w.picks(1)
        w.backend("b1").active = 1
        w.engine.pass_time(5)
        assert w.segment.probe_holder(slot) is not None
        w.backend("b1").active = 0
        w.engine.pass_time(1)
        assert w.segment.probe_holder(slot) is None


def test_several_half_open_backends_are_probed_in_turn() -> None:
    with world(config(web=pool_tree(4, panic=False))) as w:
        half_open(w, "b1")
        half_open(w, "b2")
        assert set(w.picks(2)) == {"b1", "b2"}


def test_bound_sessions_probe_a_half_open_backend_that_takes_no_new_ones() -> None:
    with world(config(web=pool_tree(sticky="cookie"))) as w:
        w.set_state("b1", flags=GOOD | HALF_OPEN, weight=0)
        assert w.backend("b1").bound_ok
        w.pool().finish(w.backend("b1"))
        assert w.heard(Probed) == [Probed(w.slot("web", "b1"), True, Kind.OK)]


def test_nothing_is_probed_once_the_backend_is_back() -> None:
    with world() as w:
        slot = half_open(w)
        w.picks(1)
        w.set_state("b1")
        assert w.pool().probe is None
        assert w.segment.probe_holder(slot) is None
        assert not w.backend("b1").watched


# Stickiness


def cookie(w: World, backend: str) -> bytes:
    line = w.backend(backend).set_cookie
    return line.split(b"=", 1)[1].split(b";")[0]


def test_a_cookie_leads_back_to_its_backend() -> None:
    with world(config(web=pool_tree(sticky="cookie"))) as w:
        assert w.pool().sticky_name == b"headgate_web"
        for name in ("b1", "b2", "b3"):
            assert w.pool().choose(Request(cookie=cookie(w, name))) is w.backend(name)


def test_the_cookie_says_nothing_about_the_backend_and_lasts_over_a_restart() -> None:
    with world(config(web=pool_tree(sticky="cookie"))) as one, world(config(web=pool_tree(sticky="cookie"))) as other:
        assert cookie(one, "b1") == cookie(other, "b1")
        assert b"10.0.0.1" not in one.backend("b1").set_cookie
        assert SECRET not in one.backend("b1").set_cookie


def test_the_cookie_has_the_attributes_that_are_configured() -> None:
    sticky = {"name": "at", "same_site": "strict", "secure": True, "ttl": "1h"}
    with world(config(web=pool_tree(sticky=sticky))) as w:
        line = w.backend("b1").set_cookie
        assert line.startswith(b"Set-Cookie: at=")
        assert line.endswith(b"; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=3600\r\n")


def test_without_stickiness_there_is_no_cookie_and_it_can_be_turned_off() -> None:
    with world(config(web=pool_tree(sticky="cookie"))) as w:
        w.apply(config())
        assert w.pool().sticky is None
        assert w.backend("b1").set_cookie == b""
