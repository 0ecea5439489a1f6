"""What is asked: when requests arrive, how much work each is, and who sends it.

A workload is made once for a seed and given to every strategy alike, so two strategies differ by what they decide and
by nothing else (common random numbers): a ratio of two percentiles needs far fewer requests than either of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log, sqrt
from random import Random
from typing import Literal, TypeAlias, get_args

ServiceName: TypeAlias = Literal["constant", "exponential", "lognormal"]
SERVICES: tuple[ServiceName, ...] = get_args(ServiceName)

# Standard deviation over mean of the lognormal times. Constant times have 0 and exponential ones 1; 2 is what a mix of
# cheap and dear pages looks like, and the three lie far enough apart to show what depends on it.
LOGNORMAL_VARIATION = 2.0


def service_times(name: ServiceName, mean_s: float, random: Random) -> Callable[[], float]:
    """Draws of a service time in seconds, with this mean. Raises ValueError for a name that is not in `SERVICES`."""
    draw = random.random
    if name == "constant":
        return lambda: mean_s
    if name == "exponential":
        return lambda: -log(1.0 - draw()) * mean_s
    if name == "lognormal":
        variance = log(1.0 + LOGNORMAL_VARIATION**2)
        mu, sigma, lognormal = log(mean_s) - variance / 2.0, sqrt(variance), random.lognormvariate
        return lambda: lognormal(mu, sigma)
    raise ValueError(f"no service time {name!r}: there are {', '.join(SERVICES)}")


class Caller:
    """A request as a strategy sees it (`headgate.balancing.base.Request`), for all requests that are alike."""

    __slots__ = ("client", "client_bytes", "host", "idempotent", "method", "path")

    def __init__(
        self,
        client: str,
        client_bytes: bytes,
        *,
        method: str = "GET",
        path: bytes = b"/",
        host: bytes = b"example.org",
    ) -> None:
        self.client = client
        self.client_bytes = client_bytes
        self.method = method
        self.path = path
        self.host = host
        self.idempotent = method in ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")

    def header(self, name: str) -> bytes | None:
        return self.host if name.lower() == "host" else None

    def cookie(self, name: str) -> bytes | None:
        return None


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in the order of their arrival."""

    arrivals: Sequence[float]
    """Seconds since the start, never falling."""
    works: Sequence[float]
    """What the servers make a service time of: for `Server` seconds on one of slowness 1, for a replayed log the rank
    of the request's time among those of its backend, 0 to 1."""
    callers: Sequence[int]
    """Index into `who` for each request."""
    who: Sequence[Caller]

    def __len__(self) -> int:
        return len(self.arrivals)

    def __iter__(self) -> Iterator[tuple[float, float, Caller]]:
        return zip(self.arrivals, self.works, map(self.who.__getitem__, self.callers), strict=True)


def clients(count: int) -> list[Caller]:
    """Clients 10.0.0.0, 10.0.0.1, … each asking for a path of its own, so that every kind of hash key has something to
    hash."""
    made = []
    for number in range(count):
        address = (10 << 24 | number).to_bytes(4, "big")
        text = ".".join(map(str, address))
        made.append(Caller(text, bytes(10) + b"\xff\xff" + address, path=b"/item/%d" % number))
    return made


def poisson(rate: float, duration_s: float, service: ServiceName, mean_s: float, *, seed: int, who: int) -> Workload:
    """Independent arrivals, `rate` per second on average, from `who` clients that are all equally busy."""
    random = Random(f"workload {seed}")
    draw = random.random
    work = service_times(service, mean_s, random)
    arrivals, works, callers = array("d"), array("d"), array("L")
    now = 0.0
    while (now := now - log(1.0 - draw()) / rate) < duration_s:
        arrivals.append(now)
        works.append(work())
        callers.append(int(draw() * who))
    return Workload(arrivals, works, callers, clients(who))
