"""Strategies that know what no balancer can: how fast each server is and when each of its slots will be free.

They are what the others are measured against, and are not registered: outside of a simulation there is nothing to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from headgate.balancing.base import Backend, Context, Request, Strategy
from headgate.simulate.server import SimulatedServer


class ShortestExpectedDelay:
    """Knows the speed of each server and its queue, and sends each request where it is expected to end first.

    A free slot: one mean service time of that server. None: besides, the time until enough of those before it have
    left, with all slots busy. It learns of a stall as the balancer does, from the queue that grows. Mean service times
    are in units of that of a server of slowness 1, which is the same for all. On a tie the first in turn.
    """

    def __init__(self) -> None:
        self._servers: list[SimulatedServer] = []
        self._turn = 0

    def update(self, backends: Sequence[Backend]) -> None:
        self._servers = _simulated(backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        servers = self._servers
        n = len(servers)
        self._turn = turn = (self._turn + 1) % n
        best, least = None, 0.0
        for server in servers[turn:] + servers[:turn]:
            slots = len(server.free)
            waiting = server.active - slots + 1
            delay = server.slowness if waiting <= 0 else server.slowness * (1.0 + waiting / slots)
            if best is None or delay < least:
                best, least = server, delay
        return best


class Seer:
    """Knows besides when each slot will be free to the microsecond, and every stall before it begins.

    What it still pays is the price of the service times themselves and of the requests that were under way as a stall
    began. Not a bound that anything could reach; the distance between it and the oracle is the price of not knowing.

    mean_s: seconds of an average service, to judge whether a request would run into a stall.
    """

    def __init__(self, context: Context, mean_s: float = 0.010) -> None:
        self._clock = context.clock
        self._mean_s = mean_s
        self._servers: list[SimulatedServer] = []
        self._turn = 0

    def update(self, backends: Sequence[Backend]) -> None:
        self._servers = _simulated(backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        servers, now, mean_s = self._servers, self._clock(), self._mean_s
        self._turn = turn = (self._turn + 1) % len(servers)
        best, least = None, 0.0
        for server in servers[turn:] + servers[:turn]:
            free = server.free[0]
            end = server.end(free if free > now else now, mean_s)
            if best is None or end < least:
                best, least = server, end
        return best


def _simulated(backends: Sequence[Backend]) -> list[SimulatedServer]:
    servers = [backend for backend in backends if isinstance(backend, SimulatedServer)]
    if len(servers) < len(backends):
        raise ValueError("an oracle knows simulated servers only, of which the speed is given")
    return servers


ORACLES: dict[str, Callable[..., Strategy]] = {"oracle": ShortestExpectedDelay, "seer": Seer}
