"""One run: a workload, servers, and a strategy that is the very class that runs in a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import cast

from headgate.balancing import registry
from headgate.balancing.base import Backend, Context, Outcome, Strategy
from headgate.engine.hashing import hash64
from headgate.errors import Kind
from headgate.simulate import oracle
from headgate.simulate.measure import Measured
from headgate.simulate.server import Spec, Station
from headgate.simulate.workload import Workload


class StrategyFailed(RuntimeError):
    """A strategy answered what is no backend of its set, or none. A worker would use its fallback instead; here it
    would falsify the result."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A strategy to be tried, as a configuration names it."""

    name: str
    """A built-in one, a registered one, "package.module:Class", or "oracle"."""
    options: dict[str, object] = field(default_factory=dict)
    label: str = ""
    """What tables call it; not set: its name and its options."""

    @property
    def title(self) -> str:
        if self.label or not self.options:
            return self.label or self.name
        return f"{self.name} ({', '.join(f'{key} {value}' for key, value in self.options.items())})"

    def make(self, context: Context, app_dir: str | None = None) -> Strategy:
        """A new one. Raises ValueError with a text for the user when it cannot be made."""
        if self.name in oracle.ORACLES:
            return registry.make(oracle.ORACLES[self.name], self.name, context, self.options)
        return registry.build(self.name, context, self.options, app_dir)


class Clock:
    """The time of a run, in seconds since its start. Calling it gives what a strategy takes for monotonic time."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Answered:
    """How an attempt ended (`headgate.balancing.base.Outcome`); one object for all, valid only during the call, like
    the engine's."""

    __slots__ = ("first_byte_s", "total_s")
    kind = int(Kind.OK)
    status = 200
    ok = True

    def __init__(self) -> None:
        self.first_byte_s = self.total_s = 0.0


def run(
    candidate: Candidate,
    servers: Sequence[Spec],
    workload: Workload,
    *,
    seed: int = 1,
    warm_up_s: float = 0.0,
    app_dir: str | None = None,
) -> Measured:
    """Sends the workload through the strategy. Requests that arrive before `warm_up_s` are served and not measured.

    seed: of the strategy's own random source. The same arguments give the same result. Raises ValueError when the
    strategy cannot be made, and `StrategyFailed`.
    """
    clock = Clock()
    context = Context(Random(f"strategy {seed}"), clock, hash64)
    strategy = candidate.make(context, app_dir)
    stations = [server.open(slot) for slot, server in enumerate(servers)]
    strategy.update(cast("list[Backend]", list(stations)))
    latencies = drive(strategy, stations, workload, clock, warm_up_s)
    total = sum(station.taken for station in stations) or 1
    shares = {station.name: station.taken / total for station in stations}
    return Measured.of(latencies, max(station.peak for station in stations), shares)


def drive(
    strategy: Strategy, stations: Sequence[Station], workload: Workload, clock: Clock, warm_up_s: float = 0.0
) -> list[float]:
    """The events, in the order of time: until every request is answered. Returns the latencies, in order of arrival.

    The innermost loop of everything here: what can be looked up once is.
    """
    pick = strategy.pick
    done: Callable[[Backend, Outcome], None] | None = getattr(strategy, "done", None)
    known = frozenset(stations)
    outcome = Answered()
    # (when, serial number, station, when it came): the number decides ties, so that no two stations are compared.
    ends: list[tuple[float, int, Station, float]] = []
    latencies: list[float] = []
    for serial, (arrival, work, caller) in enumerate(workload):
        while ends and ends[0][0] <= arrival:
            end, _, station, came = heappop(ends)
            station.active -= 1
            if done is not None:
                clock.now = end
                outcome.first_byte_s = outcome.total_s = end - came
                done(station, outcome)
        clock.now = arrival
        station = cast(Station, pick(caller, ()))
        if station not in known:
            raise StrategyFailed(f"the strategy picked {station!r}")
        end = station.accept(arrival, work)
        heappush(ends, (end, serial, station, arrival))
        if arrival >= warm_up_s:
            latencies.append(end - arrival)
    while ends:
        end, _, station, came = heappop(ends)
        clock.now = end
        station.active -= 1
        if done is not None:
            outcome.first_byte_s = outcome.total_s = end - came
            done(station, outcome)
    return latencies
