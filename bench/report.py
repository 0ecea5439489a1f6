"""From measurements to a table."""

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

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "per_second": self.load.per_second}


def interval(values: Sequence[float], rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of the median, by the percentile bootstrap (Efron 1979). Seeded: the same data, the same answer."""
    chance = random.Random(0)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], medians[int(0.975 * rounds)]


def ratios(measured: Sequence[Measurement], case: str, proxy: str, peer: str) -> list[float]:
    """CPU per request of `proxy` divided by that of `peer`, for each round in which both were measured."""
    by_round = {
        name: {one.round: one.cpu_us for one in measured if one.case == case and one.proxy == name}
        for name in (proxy, peer)
    }
    return [cpu / by_round[peer][number] for number, cpu in by_round[proxy].items() if number in by_round[peer]]


def _ratio(measured: Sequence[Measurement], case: str, proxy: str, peer: str) -> str:
    values = ratios(measured, case, proxy, peer)
    if not values or proxy == peer:
        return "" if not values else "1"
    low, high = interval(values)
    return f"{median(values):.2f} ({low:.2f}-{high:.2f})"


def table(measured: Sequence[Measurement], proxies: Sequence[str]) -> str:
    """A Markdown table: medians over the rounds, ratios within rounds."""
    peers = [name for name in ("nginx", "haproxy") if name in proxies]
    header = [
        "case",
        "proxy",
        "CPU µs/request",
        *(f"to {peer}" for peer in peers),
        "requests/s",
        "p50 ms",
        "p99 ms",
        "errors",
    ]
    rows = [header, ["---"] * 2 + ["---:"] * (len(header) - 2)]
    for case in dict.fromkeys(one.case for one in measured):
        for proxy in proxies:
            mine = [one for one in measured if one.case == case and one.proxy == proxy]
            if mine:
                rows.append(
                    [
                        case,
                        proxy,
                        f"{median(one.cpu_us for one in mine):.2f}",
                        *(_ratio(measured, case, proxy, peer) for peer in peers),
                        f"{median(one.load.per_second for one in mine):,.0f}",
                        f"{median(one.load.p50_ms for one in mine):.2f}",
                        f"{median(one.load.p99_ms for one in mine):.2f}",
                        str(sum(one.load.errors for one in mine)),
                    ]
                )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
