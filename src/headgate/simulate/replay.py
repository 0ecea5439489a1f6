"""A log served again: the same requests at the same times, placed by another strategy.

What is known of a request is how long it took where it went. What it would have taken elsewhere is guessed like this:
it keeps its rank. One that was slower than 90 % of what its backend answered in those ten seconds would have been
slower than 90 % of what the other backend answered then. So a dear request stays dear, a slow backend slow, and a stall
of one backend is there at the same time of day.

A backend that gets more than it had would be slower, but how much the log cannot tell. Up to as many requests at once
as it was ever seen to have, times are taken as they are; what is beyond waits in a queue. So a strategy that wins by
piling everything on one backend does not win here.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from ipaddress import IPv6Address, ip_address

from headgate.simulate.log import Log, Logged
from headgate.simulate.measure import Measured
from headgate.simulate.server import Station
from headgate.simulate.workload import Caller, Workload

# Long enough for some hundred requests on a site of any size, short enough to see a stall.
WINDOW_S = 10.0
# With fewer answers in its window a backend is taken for what it was over the whole log.
FEWEST = 20


@dataclass(frozen=True, slots=True)
class LoggedServer:
    """A backend as the log shows it."""

    name: str
    slots: int
    """The most requests that it was seen to have at once."""
    whole: Sequence[float]
    """All its times, in order of length."""
    windows: Mapping[int, Sequence[float]]
    """Number of the window -> the times in it, in order of length."""
    weight: int = 1

    def open(self, slot: int) -> _Station:
        """One that is idle."""
        return _Station(self, slot)

    def times(self, when: float) -> Sequence[float]:
        """What it took at that time, in order of length."""
        return self.windows.get(int(when / WINDOW_S), self.whole)

    def rank(self, request: Logged) -> float:
        """Where the request stands among those of its time, from 0 to 1."""
        times = self.times(request.arrived_s)
        middle = (bisect_left(times, request.took_s) + bisect_right(times, request.took_s)) / 2
        return middle / len(times)


class _Station(Station):
    __slots__ = ("server",)

    def __init__(self, server: LoggedServer, slot: int) -> None:
        super().__init__(server.name, slot, server.weight, server.slots)
        self.server = server

    def end(self, start: float, work: float) -> float:
        times = self.server.times(start)
        return start + times[min(int(work * len(times)), len(times) - 1)]


class ReplayCase:
    """A log, and the pool that it is served by: a `Case`.

    weights: of backends, as configured; 1 for those not named; one of 0 had no new sessions and is left out.
    """

    warm_up_s = 0.0

    def __init__(self, log: Log, weights: Mapping[str, int] | None = None) -> None:
        weights = weights or {}
        self.title = f"pool {log.pool}: {len(log.requests):,} requests in {log.requests[-1].arrived_s:,.0f} s"
        by_backend: dict[str, list[Logged]] = {}
        for request in log.requests:
            by_backend.setdefault(request.backend, []).append(request)
        known = {name: _server(name, those, weights.get(name, 1)) for name, those in sorted(by_backend.items())}
        self.servers = [server for server in known.values() if server.weight > 0]
        if not self.servers:
            raise ValueError("every backend of the log has the weight 0")
        self._workload = _workload(log.requests, known)
        latencies = [request.took_s for request in log.requests]
        shares = {name: len(those) / len(latencies) for name, those in by_backend.items()}
        self.logged = Measured.of(latencies, max(server.slots for server in known.values()), shares)
        """What the log itself says."""

    def workload(self, seed: int) -> Workload:
        """Always the same: the seed is the strategies'."""
        return self._workload


def _server(name: str, requests: Sequence[Logged], weight: int) -> LoggedServer:
    windows: dict[int, list[float]] = {}
    for request in requests:
        windows.setdefault(int(request.arrived_s / WINDOW_S), []).append(request.took_s)
    enough = {number: sorted(times) for number, times in windows.items() if len(times) >= FEWEST}
    whole = sorted(request.took_s for request in requests)
    return LoggedServer(name, _most_at_once(requests), whole, enough, weight)


def _most_at_once(requests: Sequence[Logged]) -> int:
    """Requests are in the order in which they came."""
    ends: list[float] = []
    most = 0
    for request in requests:
        while ends and ends[0] <= request.arrived_s:
            heappop(ends)
        heappush(ends, request.arrived_s + request.took_s)
        most = max(most, len(ends))
    return most


def _workload(requests: Sequence[Logged], servers: Mapping[str, LoggedServer]) -> Workload:
    numbers: dict[tuple[str, str, str, str], int] = {}
    callers = array("L")
    for request in requests:
        key = (request.client, request.method, request.path, request.host)
        callers.append(numbers.setdefault(key, len(numbers)))
    who = [
        Caller(
            client,
            _client_bytes(client),
            method=method,
            path=path.encode("latin-1", "replace"),
            host=host.encode("latin-1", "replace"),
        )
        for client, method, path, host in numbers
    ]
    arrivals = array("d", (request.arrived_s for request in requests))
    works = array("d", (servers[request.backend].rank(request) for request in requests))
    return Workload(arrivals, works, callers, who)


def _client_bytes(client: str) -> bytes:
    """16 bytes, IPv4 mapped; zeros for a client without an address (a unix socket)."""
    try:
        address = ip_address(client)
    except ValueError:
        return bytes(16)
    return address.packed if isinstance(address, IPv6Address) else bytes(10) + b"\xff\xff" + address.packed
