"""The scenario that Headgate's strategies are measured by. Fixed, so that figures of different times can be compared.

Eight servers with four slots each; a request takes 10 ms on average. One server is three times slower than the others
and one stands still for 500 ms in every 10 s, and the balancer is told neither: all weights are equal. That is a pool
as it is found: the same machine eight times on paper, with an old processor in one and a full disk in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headgate.simulate.server import Server, Spec, Stall
from headgate.simulate.workload import ServiceName, Workload, poisson

MEAN_S = 0.010
SERVERS = (
    *(Server(f"plain{number}") for number in range(1, 7)),
    Server("slow", slowness=3.0),
    # Not at the start, when nothing is known yet of any server: half a period later.
    Server("stalling", stall=Stall(for_s=0.5, every_s=10.0, offset_s=5.0)),
)
LOADS = (0.30, 0.50, 0.75, 0.90)
SEEDS = (1, 2, 3, 4, 5)
MEASURED_S = 600.0
# Three stalls and three times the decay time of peak_ewma: what is measured is what lasts, not what is learned first.
WARM_UP_S = 30.0
# Many more than servers, so that hashes spread them, and few enough that every client is seen in every second.
CLIENTS = 1000


class Case(Protocol):
    """Servers and what is asked of them. Can be pickled, since runs are spread over processes."""

    @property
    def title(self) -> str: ...

    @property
    def servers(self) -> Sequence[Spec]: ...

    @property
    def warm_up_s(self) -> float: ...

    def workload(self, seed: int) -> Workload: ...


@dataclass(frozen=True, slots=True)
class PoissonCase:
    """The scenario with one kind of service times under one load. Other servers make another scenario."""

    service: ServiceName
    load: float
    """Arrivals over what all servers together could finish."""
    servers: tuple[Server, ...] = SERVERS
    mean_s: float = MEAN_S
    warm_up_s: float = WARM_UP_S
    measured_s: float = MEASURED_S
    clients: int = CLIENTS

    @property
    def title(self) -> str:
        return f"{self.service} service times, load {self.load:.0%}".replace("%", " %")

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.load * sum(server.capacity(self.mean_s) for server in self.servers)

    def workload(self, seed: int) -> Workload:
        duration_s = self.warm_up_s + self.measured_s
        return poisson(self.rate, duration_s, self.service, self.mean_s, seed=seed, who=self.clients)
