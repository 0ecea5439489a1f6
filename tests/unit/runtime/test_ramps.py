"""When the supervisor gives a backend a ramp."""

from __future__ import annotations

import msgspec
import pytest

from headgate.config.addresses import BackendUrl
from headgate.config.schema import Backend
from headgate.resilience.breaker import State
from headgate.runtime.ramps import Ramps
from headgate.runtime.states import BackendRecord


class World:
    """Two backends: one that was always there, one that comes and goes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ramps = Ramps(lambda: self.now)
        self.old, self.new = (
            BackendRecord(
                pool="web", config=Backend(url=BackendUrl.parse(f"http://10.0.0.{n}")), slot=n, checked=True, up=True
            )
            for n in (1, 2)
        )
        self.look(self.old, starting=True)

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
    assert w.ramps.penalize(w.old, 5.0, 10.0)
    assert w.old.ramp == (1_005_000, 10_000)
    assert not w.ramps.penalize(w.old, 3.0, 10.0), "it has asked for more already"
    assert w.old.ramp == (1_005_000, 10_000)
    w.now += 4
    assert not w.ramps.penalize(w.old, 5.0, 10.0), "no news, but longer"
    assert w.old.ramp == (1_009_000, 10_000)
    w.now += 6
    assert w.ramps.penalize(w.old, 5.0, 10.0), "again, after it had passed"


def test_one_that_is_out_has_nothing_to_ask_for() -> None:
    w = World()
    w.new.up = False
    w.look(w.new)
    assert not w.ramps.penalize(w.new, 5.0, 10.0)
    assert w.new.ramp == (0, 0)


def test_a_slot_that_is_used_again_remembers_nothing() -> None:
    w = World()
    w.ramps.forget(w.old)
    assert w.look(w.new) == (0, 0)
    w.ramps.forget_pool("web")
    assert w.look(w.old) == (0, 0)
