"""What came out of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

QUANTILES = {"p50": 0.50, "p99": 0.99, "p99.9": 0.999}


def quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest value that at least `q` of all are not above (nearest rank); 0 of none."""
    return ordered[max(0, ceil(q * len(ordered)) - 1)] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One strategy under one workload. Latencies are seconds from arrival to answer, queueing included."""

    requests: int
    """Those measured: that arrived after the warm-up."""
    mean_s: float
    p50_s: float
    p99_s: float
    p999_s: float
    max_s: float
    max_in_flight: int
    """The most that one server had at once, warm-up included: what its accept queue or its memory must bear."""
    shares: dict[str, float]
    """Server -> share of all requests it was given."""

    @classmethod
    def of(cls, latencies: list[float], max_in_flight: int, shares: dict[str, float]) -> Measured:
        """Sorts `latencies` in place."""
        latencies.sort()
        n = len(latencies)
        p50, p99, p999 = (quantile(latencies, q) for q in QUANTILES.values())
        mean = sum(latencies) / n if n else 0.0
        return cls(n, mean, p50, p99, p999, latencies[-1] if n else 0.0, max_in_flight, shares)
