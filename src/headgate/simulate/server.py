"""A server: slots that each serve one request at a time, a queue in front of them, and a way to be bad.

Requests are served in the order in which they came, so when one comes it is already known when it will be done: at once
if a slot is free, else after the slot that is free first. That leaves one event per request, its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapreplace
from math import floor
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing moves for `for_s` in every `every_s` (a long garbage collection, a saturated disk). Connections are still
    accepted, so the balancer sees only that no answer comes. Raises ValueError unless 0 < for_s < every_s."""

    for_s: float
    every_s: float
    offset_s: float = 0.0
    """When the first one begins."""

    def __post_init__(self) -> None:
        if not 0.0 < self.for_s < self.every_s:
            raise ValueError(f"a stall of {self.for_s} s in every {self.every_s} s leaves no time, or is none")

    @property
    def share(self) -> float:
        """Of the time that is lost."""
        return self.for_s / self.every_s

    def end(self, start: float, work_s: float) -> float:
        """When `work_s` of work are done that begin at `start`, or as soon as the stall at that moment is over."""
        period = floor((start - self.offset_s) / self.every_s)
        begin = self.offset_s + period * self.every_s
        # Time that counts, since the end of this period's stall.
        worked = max(0.0, start - begin - self.for_s) + work_s
        useful = self.every_s - self.for_s
        if worked <= useful:
            return begin + self.for_s + worked
        more = floor(worked / useful)
        return begin + more * self.every_s + self.for_s + worked - more * useful


@dataclass(frozen=True, slots=True)
class Server:
    """What a server is like."""

    name: str
    slots: int = 4
    """Requests it works on at the same time; more wait."""
    slowness: float = 1.0
    """Its service times are this many times those of the others."""
    stall: Stall | None = None
    weight: int = 1
    """As configured at the balancer, 1 to 256: what an operator believes, not what is true."""

    def capacity(self, mean_s: float) -> float:
        """Requests per second that it can finish at most."""
        lost = 0.0 if self.stall is None else self.stall.share
        return self.slots / (mean_s * self.slowness) * (1.0 - lost)

    def open(self, slot: int) -> SimulatedServer:
        """One that is idle, for one run."""
        return SimulatedServer(self, slot)


class Spec(Protocol):
    """What a run is given of each server: something that can be started afresh."""

    @property
    def name(self) -> str: ...

    def open(self, slot: int) -> Station: ...


class Station:
    """A server during a run, and the backend that a strategy sees (`headgate.balancing.base.Backend`)."""

    __slots__ = ("active", "free", "name", "peak", "share", "slot", "taken", "url", "weight")

    def __init__(self, name: str, slot: int, weight: int, slots: int) -> None:
        self.name = name
        self.url = f"http://{name}"
        self.slot = slot
        self.weight = weight
        self.share = float(weight)
        self.active = 0
        self.free = [0.0] * slots
        """A heap: when each slot is free if nothing else comes."""
        self.taken = 0
        self.peak = 0

    def accept(self, now: float, work: float) -> float:
        """A request comes. Returns when it will be answered; the caller takes it from `active` at that time."""
        self.taken += 1
        self.active += 1
        if self.active > self.peak:
            self.peak = self.active
        first = self.free[0]
        end = self.end(first if first > now else now, work)
        heapreplace(self.free, end)
        return end

    def end(self, start: float, work: float) -> float:
        """When a slot that begins with `work` at `start` is free again."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} active={self.active}>"


class SimulatedServer(Station):
    """A `Server` during a run."""

    __slots__ = ("server", "slowness", "stall")

    def __init__(self, server: Server, slot: int) -> None:
        super().__init__(server.name, slot, server.weight, server.slots)
        self.server = server
        self.slowness = server.slowness
        self.stall = server.stall

    def end(self, start: float, work: float) -> float:
        stall = self.stall
        if stall is None:
            return start + work * self.slowness
        return stall.end(start, work * self.slowness)

    def accept(self, now: float, work: float) -> float:
        # The same as `Station.accept` with `end`, without the calls: this is done for every simulated request.
        self.taken += 1
        self.active = active = self.active + 1
        if active > self.peak:
            self.peak = active
        free = self.free
        start = free[0]
        if start < now:
            start = now
        stall = self.stall
        end = start + work * self.slowness if stall is None else stall.end(start, work * self.slowness)
        heapreplace(free, end)
        return end
