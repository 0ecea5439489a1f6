"""When the supervisor gives a backend a ramp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from headgate.config.addresses import BackendUrl
from headgate.config.schema import Backend
from headgate.resilience.breaker import State
from headgate.runtime.ramps import Ramps
from headgate.runtime.states import BackendRecord


class Timer:
    def __init__(self, at: float, call: Callable[[], object]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """Two backends: one that was always there, one that comes and goes. It is the loop, too."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.over: list[tuple[int, int]] = []
        loop: Any = self
        self.ramps = Ramps(loop, lambda slot, status: self.over.append((slot, status)), now=lambda: self.now)
        self.old, self.new = (
            BackendRecord(
                pool="web", config=Backend(url=BackendUrl.parse(f"http://10.0.0.{n}")), slot=n, checked=True, up=True
            )
            for n in (1, 2)
        )
        self.look(self.old, starting=True)

    def call_later(self, delay_s: float, call: Callable[..., object], *arguments: object) -> Timer:
        self.timers.append(Timer(self.now + delay_s, lambda: call(*arguments)))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.at <= end and not timer.cancelled]:
            first = min(due, key=lambda timer: timer.at)
            self.now = first.at
            self.timers.remove(first)
            first.call()
        self.now = end

    def look(self, record: BackendRecord, *, starting: bool = False, window_s: float = 10.0) -> tuple[int, int]:
        self.ramps.look(record, window_s, starting=starting)
        return record.ramp


def test_what_is_up_when_the_balancer_starts_is_warm() -> None:
    w = World()
    assert w.look(w.new, starting=True) == (0, 0)


CHANGES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "check": ({"up": False}, {"up": True}),
    "breaker": ({"breaker": State.OPEN}, {"breaker": State.CLOSED}),
    "half-open": ({"breaker": State.HALF_OPEN}, {"breaker": State.CLOSED}),
    "administrator": ({"enabled": False}, {"enabled": True}),
    "drain": ({"draining": True}, {"draining": False}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_it_comes_back_from_it_starts_slowly(change: str) -> None:
    w = World()
    w.look(w.new, starting=True)
    for step in CHANGES[change]:
        w.now += 1
        for name, value in step.items():
            setattr(w.new, name, value)
        w.look(w.new)
    assert w.new.ramp == (1_002_000, 10_000)
    w.now += 3
    assert w.look(w.new) == (1_002_000, 10_000), "once it has begun nothing moves it"


def test_one_whose_weight_was_0_comes_as_well() -> None:
    w = World()
    config = w.new.config
    w.new.config = msgspec.structs.replace(config, weight=0)
    assert w.look(w.new) == (0, 0)
    w.new.config = config
    assert w.look(w.new) == (1_000_000, 10_000)


def test_not_when_it_is_off() -> None:
    w = World()
    assert w.look(w.new, window_s=0.0) == (0, 0)


def test_not_without_a_warm_peer() -> None:
    w = World()
    w.old.up = False
    w.look(w.old)
    assert w.look(w.new) == (0, 0)
    w.old.up = True
    w.now += 5
    assert w.look(w.old) == (0, 0), "the other one has been back for 5 s only"


def test_one_that_asks_for_less_gets_it_and_then_starts_slowly() -> None:
    w = World()
    assert w.ramps.penalize(w.old, 503, 5.0, 10.0)
    assert (w.old.ramp, w.old.penalty) == ((1_005_000, 10_000), 503)
    assert not w.ramps.penalize(w.old, 503, 3.0, 10.0), "it has asked for more already"
    assert w.old.ramp == (1_005_000, 10_000)
    w.advance(4)
    assert not w.ramps.penalize(w.old, 503, 5.0, 10.0), "no news, but longer"
    assert w.old.ramp == (1_009_000, 10_000)
    w.advance(6)
    assert not w.ramps.penalize(w.old, 429, 5.0, 10.0), "it has not had its share in between"
    w.advance(14)
    assert w.over == []
    w.advance(1)
    assert w.over == [(1, 429)], "once, at the end of the slow start"
    assert (w.old.ramp, w.old.penalty) == ((0, 0), 0)
    assert w.ramps.penalize(w.old, 503, 5.0, 10.0), "again, after it had passed"


def test_without_slow_start_one_that_keeps_asking_is_told_of_once() -> None:
    w = World()
    assert w.ramps.penalize(w.old, 503, 1.0, 0.0)
    for _ in range(5):
        w.advance(1.5)
        assert not w.ramps.penalize(w.old, 503, 1.0, 0.0)
    assert w.over == []
    w.advance(3)
    assert w.over == [(1, 503)]


def test_the_end_of_a_slow_start_is_told() -> None:
    w = World()
    assert w.look(w.new) == (1_000_000, 10_000)
    w.advance(9.9)
    assert w.over == []
    w.advance(0.1)
    assert w.over == [(2, 0)]
    assert w.new.ramp == (0, 0)


def test_of_one_that_went_meanwhile_no_end_is_told() -> None:
    w = World()
    w.ramps.penalize(w.old, 503, 5.0, 10.0)
    w.look(w.new)
    for record in (w.old, w.new):
        record.up = False
        w.look(record)
    assert w.old.penalty == 0
    w.advance(60)
    assert w.over == []


def test_a_ramp_of_the_process_before_ends_as_well() -> None:
    w = World()
    w.new.ramp, w.new.penalty = (1_005_000, 10_000), 503
    w.ramps.resume(w.new)
    w.look(w.new, starting=True)
    w.advance(15)
    assert w.over == [(2, 503)]


def test_nothing_is_told_after_the_end() -> None:
    w = World()
    w.ramps.penalize(w.old, 503, 5.0, 10.0)
    w.look(w.new)
    w.ramps.forget(w.new)
    w.ramps.close()
    w.advance(60)
    assert w.over == []


def test_one_that_is_out_has_nothing_to_ask_for() -> None:
    w = World()
    w.new.up = False
    w.look(w.new)
    assert not w.ramps.penalize(w.new, 503, 5.0, 10.0)
    assert w.new.ramp == (0, 0)


def test_a_slot_that_is_used_again_remembers_nothing() -> None:
    w = World()
    w.ramps.forget(w.old)
    assert w.look(w.new) == (0, 0)
    w.ramps.forget_pool("web")
    assert w.look(w.old) == (0, 0)
