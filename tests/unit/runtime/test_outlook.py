"""What is told of a pool as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headgate.config.addresses import BackendUrl
from headgate.config.schema import Backend, Fallback, Pool
from headgate.resilience.breaker import State
from headgate.runtime.outlook import Outlook
from headgate.runtime.states import BackendRecord


class World:
    """Pools with backends that are up, unless a test says otherwise; what was told of them."""

    def __init__(self, **fallbacks: Fallback | None) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.later: list[Callable[[], None]] = []
        self.pools: dict[str, Pool] = {}
        self.records: dict[str, list[BackendRecord]] = {}
        for name, fallback in fallbacks.items():
            backends = [Backend(url=BackendUrl.parse(f"http://10.0.0.{n}")) for n in (1, 2)]
            self.pools[name] = Pool(backends=tuple(backends), fallback=fallback)
            self.records[name] = [
                BackendRecord(pool=name, config=one, slot=0, checked=True, up=True, addresses=[b"x"])
                for one in backends
            ]
        states: Any = self
        self.outlook = Outlook(states, self.later.append, self.records.__getitem__)
        self.outlook.configure(self.pools)

    def pool_happened(self, pool: str, what: str, reason: str) -> None:
        self.told.append((pool, what, reason))

    def look(self) -> list[tuple[str, str, str]]:
        """What is news."""
        self.told.clear()
        later, self.later = self.later, []
        self.outlook._soon = self.later.append
        for call in later:
            call()
        return list(self.told)

    def change(self, pool: str, **values: object) -> list[tuple[str, str, str]]:
        for record in self.records[pool]:
            for name, value in values.items():
                setattr(record, name, value)
            self.outlook.doubt(pool)
        return self.look()


@pytest.mark.parametrize(
    ("fallback", "serves", "told"),
    [
        (None, "", "requests are answered 503"),
        (Fallback(body="later"), "static answer", "static answer serves instead"),
        (Fallback(pool="spare"), "pool spare", "pool spare serves instead"),
    ],
)
def test_who_serves_while_nothing_is_routable(fallback: Fallback | None, serves: str, told: str) -> None:
    w = World(web=fallback, spare=None)
    w.outlook.settle()
    assert w.look() == []
    assert w.change("web", up=False) == [("web", "nothing routable", f"0 of 2 backends are routable: {told}")]
    assert w.outlook.stand_ins == {"web": serves}
    assert w.change("web", up=False) == [], "no news"
    assert w.change("web", up=True) == [("web", "routable again", "2 of 2 backends are routable")]
    assert w.outlook.stand_ins == {}


def test_when_the_one_that_stands_in_goes_as_well() -> None:
    w = World(web=Fallback(pool="spare"), spare=Fallback(pool="last"), last=None)
    w.outlook.settle()
    w.change("web", up=False)
    told = w.change("spare", up=False)
    assert [(pool, reason.rpartition(": ")[2]) for pool, _, reason in told] == [
        ("spare", "pool last serves instead"),
        ("web", "pool last serves instead"),
    ]
    w.change("last", up=False)
    assert w.outlook.stand_ins == {"web": "", "spare": "", "last": ""}
    w.change("spare", up=True)
    assert w.outlook.stand_ins == {"web": "pool spare", "last": ""}


def test_at_the_start_it_waits_for_the_first_checks() -> None:
    w = World(web=None)
    assert w.change("web", checked=False, up=False) == []
    w.outlook.settle()
    assert w.look() == [], "the first check is still under way"
    assert [what for _, what, _ in w.change("web", checked=True)] == ["nothing routable"]


def test_a_name_without_addresses_is_nothing_to_wait_for() -> None:
    w = World(web=None)
    w.outlook.settle()
    assert [what for _, what, _ in w.change("web", checked=False, up=False, addresses=[])] == ["nothing routable"]


def test_in_panic_something_is_routable() -> None:
    w = World(web=None)
    w.outlook.settle()
    w.look()
    assert [what for _, what, _ in w.change("web", breaker=State.OPEN)] == ["panic"]
    assert w.outlook.in_panic == {"web"}
    assert w.outlook.stand_ins == {}


def test_a_pool_that_was_removed_is_forgotten() -> None:
    w = World(web=None, other=None)
    w.outlook.settle()
    w.change("web", up=False)
    w.change("other", breaker=State.OPEN)
    w.outlook.configure({})
    assert w.look() == []
    assert (w.outlook.stand_ins, set(w.outlook.in_panic)) == ({}, set())
