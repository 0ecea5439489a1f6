"""least_time, peak_ewma and prequal: what they learn from how attempts end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Protocol

import pytest

from headgate.balancing import latency
from headgate.balancing.base import Backend, Context, Outcome, Request
from headgate.balancing.registry import build
from headgate.errors import Kind

from .fakes import REQUEST, FakeBackend, hash64, several

every_learner = pytest.mark.parametrize("name", ["least_time", "peak_ewma", "prequal"])


class Learner(Protocol):
    def update(self, backends: list[FakeBackend]) -> None: ...
    def pick(self, request: Request, tried: tuple[Backend, ...]) -> Backend | None: ...
    def done(self, backend: Backend, outcome: Outcome) -> None: ...


@dataclass
class Ended:
    first_byte_s: float = 0.01
    status: int = 200
    kind: int = Kind.OK
    ok: bool = True
    total_s: float = 0.0
    retry_after_s: float = -1.0


FAILED = Ended(-1.0, 0, Kind.CONNECT_REFUSED, ok=False)


class World:
    """A strategy, a clock, and backends that answer in a given time."""

    def __init__(self, name: str, n: int, seed: int = 4, **options: object) -> None:
        self.now = 100.0
        self.backends = several(n)
        strategy = build(name, Context(Random(seed), lambda: self.now, hash64), options)
        self.strategy: Learner = strategy  # type: ignore[assignment]
        self.strategy.update(self.backends)

    def teach(self, backend: FakeBackend, outcome: Ended, times: int = 30, every_s: float = 0.05) -> None:
        for _ in range(times):
            self.now += every_s
            self.strategy.done(backend, outcome)

    def teach_all(self, *outcomes: Ended, times: int = 30) -> None:
        for _ in range(times):
            self.now += 0.05
            for backend, outcome in zip(self.backends, outcomes, strict=True):
                self.strategy.done(backend, outcome)

    def estimate(self, backend: FakeBackend) -> latency.Estimate:
        """What is known of it."""
        found: latency.Estimate = getattr(self.strategy, "_estimates")[backend]  # noqa: B009
        return found

    @property
    def limit(self) -> float:
        """Of prequal: the load above which a backend is hot."""
        found: float = getattr(self.strategy, "_limit")  # noqa: B009
        return found

    def set_limit(self, limit: float) -> None:
        setattr(self.strategy, "_limit", limit)  # noqa: B010

    def picks(self, count: int = 300) -> Counter[Backend | None]:
        """With nothing in flight."""
        return Counter(self.strategy.pick(REQUEST, ()) for _ in range(count))


@every_learner
@pytest.mark.parametrize("n", [2, 3, 8, 20])
def test_a_slow_backend_is_left_aside_while_the_quick_ones_have_room(name: str, n: int) -> None:
    world = World(name, n)
    slow = world.backends[0]
    world.teach_all(Ended(0.5), *[Ended(0.01)] * (n - 1))
    assert world.picks()[slow] <= 3
    for backend in world.backends[1:]:
        backend.active = 1000
    assert world.picks()[slow] >= 15  # of 20 it is not drawn oftener


@every_learner
@pytest.mark.parametrize(
    "bad",
    [
        FAILED,
        Ended(0.0001, 500, Kind.SERVER_ERROR, ok=False),
        Ended(0.0001, 404),
        Ended(0.0001, 429),
        Ended(0.0001, 503, Kind.OVERLOADED, ok=False, retry_after_s=3.0),
    ],
    ids=["refused", "500", "404", "429", "503"],
)
def test_fast_errors_never_look_good(name: str, bad: Ended) -> None:
    """A sinkhole: one of four answers at once, and badly, to whatever it is sent."""
    world = World(name, 4)
    sinkhole = world.backends[2]
    world.teach_all(*[Ended(0.1)] * 4)
    sent: Counter[Backend | None] = Counter()
    for number in range(600):
        world.now += 0.005
        picked = world.strategy.pick(REQUEST, ())
        assert isinstance(picked, FakeBackend)
        sent[picked] += 1
        if picked is sinkhole:
            world.strategy.done(picked, bad)
        else:
            picked.active += 1
        if number % 3 == 0:  # the others take their time
            for backend in world.backends:
                if backend.active:
                    backend.active -= 1
                    world.strategy.done(backend, Ended(0.1))
    # A 404 is an answer; it is no worse than others, and no better.
    assert sent[sinkhole] <= (330 if bad.status == 404 else 150)


@every_learner
@pytest.mark.parametrize(
    ("outcome", "at_least"),
    [
        (Ended(0.001, 429), latency.PENALTY_S),
        (Ended(0.001, 429, retry_after_s=20.0), 20.0),
        (Ended(0.001, 503, Kind.SERVER_ERROR, ok=False, retry_after_s=2.0), 2.0),
        (Ended(0.001, 429, retry_after_s=9999.0), latency.LONGEST_S),
    ],
)
def test_not_now_is_a_latency_of_what_was_asked_for(name: str, outcome: Ended, at_least: float) -> None:
    world = World(name, 2)
    world.teach_all(Ended(0.01), Ended(0.01))
    world.strategy.done(world.backends[0], outcome)
    assert world.estimate(world.backends[0]).latency == pytest.approx(at_least)
    assert world.picks(50)[world.backends[0]] == 0
    world.now += 120  # and it is forgotten
    world.teach(world.backends[1], Ended(0.01))
    assert world.picks(50)[world.backends[0]] > 10


@every_learner
def test_what_was_nobodys_fault_teaches_nothing(name: str) -> None:
    world = World(name, 2)
    world.teach_all(Ended(0.01), Ended(0.01))
    estimate = world.estimate(world.backends[0])
    before = (estimate.latency, estimate.failing, estimate.scale)
    for kind in (Kind.LOCAL_RESOURCE, Kind.BAD_REQUEST, Kind.CLIENT_TIMEOUT, Kind.SLOW_CLIENT):
        world.strategy.done(world.backends[0], Ended(-1.0, 0, kind, ok=False, total_s=9.0))
    assert (estimate.latency, estimate.failing, estimate.scale) == before


@every_learner
def test_a_client_that_left_has_waited_that_long(name: str) -> None:
    world = World(name, 2)
    world.teach_all(Ended(0.01), Ended(0.01))
    world.strategy.done(world.backends[0], Ended(-1.0, 0, Kind.CLIENT_GONE, ok=False, total_s=4.0))
    assert world.estimate(world.backends[0]).latency == 4.0


@every_learner
def test_one_that_was_slow_is_tried_again_after_a_while(name: str) -> None:
    world = World(name, 3)
    slow = world.backends[1]
    world.teach_all(Ended(0.01), Ended(2.0), Ended(0.01))
    for _ in range(3000):  # two minutes in which the others answer as always, and nothing is in flight
        world.now += 0.04
        picked = world.strategy.pick(REQUEST, ())
        if picked is slow:
            break
        assert picked is not None
        world.strategy.done(picked, Ended(0.01))
    else:
        pytest.fail("never again")
    assert world.now - 100.0 > 5.0


@every_learner
def test_a_newcomer_that_hangs_gets_a_few_attempts_only(name: str) -> None:
    world = World(name, 6)
    world.teach_all(*[Ended(0.05)] * 6)
    hangs = FakeBackend("new")
    world.strategy.update([*world.backends, hangs])
    random = Random(2)
    most = 0
    for _ in range(400):
        world.now += 0.005
        picked = world.strategy.pick(REQUEST, ())
        assert isinstance(picked, FakeBackend)
        picked.active += 1
        if picked is not hangs:
            most = max(most, picked.active)
        for backend in world.backends:
            if backend.active and random.random() < 0.3:
                backend.active -= 1
                world.strategy.done(backend, Ended(0.05))
    assert hangs.active <= 2 * most + 1, (hangs.active, most)


@every_learner
def test_share_counts(name: str) -> None:
    world = World(name, 2)
    heavy, light = world.backends
    heavy.weight = 4
    world.strategy.update(world.backends)
    for _ in range(500):
        picked = world.strategy.pick(REQUEST, ())
        assert isinstance(picked, FakeBackend)
        picked.active += 1
        if picked.active % 5 == 0:
            world.now += 0.001
    assert 2.5 <= heavy.active / light.active <= 6


@every_learner
def test_the_end_of_an_attempt_at_one_that_left_is_no_news(name: str) -> None:
    world = World(name, 3)
    gone = world.backends[0]
    world.strategy.update(world.backends[1:])
    world.strategy.done(gone, Ended(0.01))
    assert set(world.picks(50)) == set(world.backends[1:])


def test_peak_ewma_takes_peaks_at_once_and_comes_down_with_its_time_constant() -> None:
    world = World("peak_ewma", 2, decay=10)
    a = world.backends[0]
    estimate = world.estimate(a)
    world.strategy.done(a, Ended(0.010))
    assert estimate.latency == 0.010
    world.now += 0.1
    world.strategy.done(a, Ended(0.500))
    assert estimate.latency == 0.500
    world.now += 0.2
    world.strategy.done(a, Ended(0.010))
    assert estimate.latency == pytest.approx(0.010 + 0.490 * 2.718281828 ** (-0.02))


def test_least_time_averages_over_many_but_not_its_first() -> None:
    world = World("least_time", 2)
    a = world.backends[0]
    estimate = world.estimate(a)
    world.strategy.done(a, Ended(0.010))
    assert estimate.latency == pytest.approx(0.010)  # the first is all there is
    expected = 0.010
    for _ in range(3):
        expected += (0.100 - expected) * 0.02
        world.now += 0.001
        world.strategy.done(a, Ended(0.100))
        assert estimate.latency == pytest.approx(expected)


def test_prequal_takes_the_quick_one_while_it_is_cold_and_the_idle_one_when_all_are_hot() -> None:
    world = World("prequal", 3)
    quick, middle, slow = world.backends
    world.teach_all(Ended(0.01), Ended(0.05), Ended(0.2))
    world.set_limit(4.0)
    quick.active, middle.active, slow.active = 2, 0, 0
    assert world.strategy.pick(REQUEST, ()) is quick  # 3 * 0.01 is less than 0.05
    world.set_limit(4.0)
    quick.active = 8
    assert world.strategy.pick(REQUEST, ()) is middle  # the quick one is hot
    world.set_limit(4.0)
    quick.active, middle.active, slow.active = 9, 8, 7
    assert world.strategy.pick(REQUEST, ()) is slow  # all are hot: the least load


def test_prequals_limit_follows_the_loads() -> None:
    world = World("prequal", 20)
    for number, backend in enumerate(world.backends):
        backend.active = number
    world.picks(4000)
    assert 10 <= world.limit <= 21
