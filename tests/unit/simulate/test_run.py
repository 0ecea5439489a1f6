"""A run: nothing is lost, it can be repeated, and every strategy can be put into it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import ClassVar

import pytest

from headgate.balancing.base import Backend, Request
from headgate.balancing.registry import BUILT_IN
from headgate.simulate import Candidate, PoissonCase, Server, Stall, StrategyFailed, compare, poisson, run
from headgate.simulate.goals import choices, goals, judge
from headgate.simulate.oracle import ORACLES
from headgate.simulate.run import Clock, drive

SHORT = PoissonCase("exponential", 0.5, warm_up_s=1.0, measured_s=2.0)
# Of those that cannot be made without.
OPTIONS: dict[str, dict[str, object]] = {"random_subset": {"balancer": 0, "balancers": 1}}
# These look at attempts in flight or at latency, and so shift work away from a slow server.
LOAD_AWARE = ["least_connections", "p2c", "peak_ewma", "least_time", "prequal", "oracle", "seer"]


class Watched:
    """A strategy that checks what it is told."""

    told: ClassVar[list[Watched]] = []

    def __init__(self) -> None:
        self.picked = self.ended = 0
        self.latest = 0.0
        self._backends: list[Backend] = []
        Watched.told.append(self)

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        assert sum(backend.active for backend in self._backends) == self.picked - self.ended
        self.picked += 1
        return self._backends[self.picked % len(self._backends)]

    def done(self, backend: Backend, outcome: object) -> None:
        assert backend in self._backends
        self.ended += 1


def test_every_request_is_answered_once() -> None:
    workload = SHORT.workload(1)
    stations = [server.open(slot) for slot, server in enumerate(SHORT.servers)]
    strategy = Watched()
    strategy.update(stations)
    latencies = drive(strategy, stations, workload, Clock())
    assert len(latencies) == len(workload) == strategy.picked == strategy.ended
    assert [station.active for station in stations] == [0] * len(stations)
    assert sum(station.taken for station in stations) == len(workload)


def test_the_warm_up_is_served_and_not_measured() -> None:
    workload = SHORT.workload(1)
    late = sum(arrival >= 1.0 for arrival in workload.arrivals)
    measured = run(Candidate("p2c"), SHORT.servers, workload, warm_up_s=1.0)
    assert 0 < measured.requests == late < len(workload)


@pytest.mark.parametrize("name", [*BUILT_IN, *ORACLES])
def test_every_strategy_runs_the_same_again(name: str) -> None:
    workload = SHORT.workload(3)
    once, again = (
        run(Candidate(name, OPTIONS.get(name, {})), SHORT.servers, SHORT.workload(3), seed=3, warm_up_s=1.0)
        for _ in range(2)
    )
    assert once == again
    assert once.requests <= len(workload)
    assert sum(once.shares.values()) == pytest.approx(1)
    # An answer takes at least its work, and nobody waits while everybody waits for nobody.
    assert min(workload.works) <= once.p50_s <= once.p99_s <= once.p999_s <= once.max_s


def test_another_seed_is_another_run() -> None:
    first, second = (run(Candidate("p2c"), SHORT.servers, SHORT.workload(seed), seed=seed).mean_s for seed in (1, 2))
    assert first != second


@pytest.mark.parametrize("name", LOAD_AWARE)
def test_a_slow_server_gets_less(name: str) -> None:
    servers = (Server("a"), Server("b"), Server("c"), Server("slow", slowness=5.0))
    case = replace(SHORT, servers=servers, load=0.7, measured_s=6.0)
    measured = run(Candidate(name), case.servers, case.workload(1), warm_up_s=case.warm_up_s)
    assert measured.shares["slow"] < 0.7 * min(share for name, share in measured.shares.items() if name != "slow")
    assert measured.max_in_flight < 100


@pytest.mark.parametrize("name", ["round_robin", "random"])
def test_who_looks_at_nothing_overloads_a_slow_server(name: str) -> None:
    servers = (Server("a"), Server("b"), Server("c"), Server("slow", slowness=5.0))
    case = replace(SHORT, servers=servers, load=0.7, measured_s=6.0)
    measured = run(Candidate(name), case.servers, case.workload(1), warm_up_s=case.warm_up_s)
    assert measured.shares["slow"] == pytest.approx(0.25, abs=0.02)
    assert measured.max_in_flight > 300


def test_a_strategy_that_picks_nothing_is_an_error() -> None:
    class Nothing(Watched):
        def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
            return None

    stations = [server.open(slot) for slot, server in enumerate(SHORT.servers)]
    with pytest.raises(StrategyFailed):
        drive(Nothing(), stations, SHORT.workload(1), Clock())


def test_seconds_in_a_stall_are_seen() -> None:
    servers = [Server("a", stall=Stall(1.0, 10.0, offset_s=0.5))]
    workload = poisson(20.0, 10.0, "constant", 0.010, seed=1, who=1)
    assert run(Candidate("round_robin"), servers, workload).max_s > 0.8


def test_processes_change_nothing() -> None:
    cases = [replace(SHORT, measured_s=0.2, load=load) for load in (0.3, 0.6)]
    candidates = [Candidate("p2c"), Candidate("oracle")]
    ended: list[tuple[int, int]] = []
    alone = compare(cases, candidates, [1, 2], processes=1, progress=lambda done, total: ended.append((done, total)))
    assert ended == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert compare(cases, candidates, [1, 2], processes=2) == alone
    assert [(one.case.load, one.candidate.name) for one in alone] == [  # type: ignore[attr-defined]
        (0.3, "p2c"),
        (0.3, "oracle"),
        (0.6, "p2c"),
        (0.6, "oracle"),
    ]


def test_the_golden_order() -> None:
    """The goals, on a scenario that is shorter by far: 15 s of one seed, which is fixed, so it cannot fail by chance;
    where a change of a strategy moves it, `make simulate` tells whether the change is good."""
    case = PoissonCase("exponential", 0.75, warm_up_s=10.0, measured_s=15.0)
    names = ["oracle", "peak_ewma", "least_time", "p2c", "least_connections"]
    results = compare([case], [Candidate(name) for name in names], [1], processes=1)
    p99 = {result.candidate.name: result.mean("p99_s") for result in results}
    assert p99["oracle"] < p99["least_time"] < p99["peak_ewma"] < p99["p2c"]
    assert p99["least_time"] < p99["least_connections"] < p99["p2c"]
    verdicts = judge(goals(), results)
    assert [verdict.goal.load for verdict in verdicts] == [0.75] * 3
    assert all(verdict.met for verdict in verdicts), verdicts


def test_what_is_compared_by_itself() -> None:
    assert {"p2c", "least_time", "peak_ewma"} < set(choices()) < set(BUILT_IN)
