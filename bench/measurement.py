"""One turn of one proxy, and what may be concluded from several."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .load import Load


@dataclass(frozen=True, slots=True)
class Measurement:
    """One proxy in one round."""

    case: str
    proxy: str
    round: int
    cpu_us: float  # processor time per request, in microseconds
    load: Load

    @property
    def p50_ms(self) -> float:
        return self.load.p50_ms

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "per_second": self.load.per_second}


def interval(values: Sequence[float], rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of the median, by the percentile bootstrap (Efron 1979). Seeded: the same data, the same answer."""
    chance = random.Random(0)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], medians[int(0.975 * rounds)]


def paired(
    measured: Sequence[Measurement], case: str, proxy: str, peer: str, figure: str = "cpu_us"
) -> list[tuple[float, float]]:
    """The figure of `proxy` and of `peer`, for each round in which both were measured."""
    by_round = {
        name: {one.round: getattr(one, figure) for one in measured if one.case == case and one.proxy == name}
        for name in (proxy, peer)
    }
    return [(mine, by_round[peer][number]) for number, mine in by_round[proxy].items() if number in by_round[peer]]
