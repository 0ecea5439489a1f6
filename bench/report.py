"""From measurements to a table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from .measurement import Measurement, interval, paired

PEERS = ("nginx", "haproxy")
BESIDE = ("nginx", "haproxy", "caddy", "floor")


def ratio(measured: Sequence[Measurement], case: str, proxy: str, peer: str) -> str:
    """Median of the ratios within rounds, with its interval; "" when there is none."""
    values = [mine / other for mine, other in paired(measured, case, proxy, peer)]
    if not values or proxy == peer:
        return "" if not values else "1"
    low, high = interval(values)
    return f"{median(values):.2f} ({low:.2f}-{high:.2f})"


def table(measured: Sequence[Measurement]) -> str:
    """A Markdown table: medians over the rounds, ratios within rounds."""
    header = ["case", "proxy", "CPU µs/request", *(f"to {peer}" for peer in PEERS)]
    header += ["requests/s", "p50 ms", "p99 ms", "errors"]
    rows = [header, ["---"] * 2 + ["---:"] * (len(header) - 2)]
    for case in dict.fromkeys(one.case for one in measured):
        for proxy in dict.fromkeys(one.proxy for one in measured if one.case == case):
            mine = [one for one in measured if one.case == case and one.proxy == proxy]
            rows.append(
                [
                    case,
                    proxy,
                    f"{median(one.cpu_us for one in mine):.2f}",
                    *(ratio(measured, case, proxy, peer) for peer in PEERS),
                    f"{median(one.load.per_second for one in mine):,.0f}",
                    f"{median(one.load.p50_ms for one in mine):.2f}",
                    f"{median(one.load.p99_ms for one in mine):.2f}",
                    str(sum(one.load.errors for one in mine)),
                ]
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def summary(measured: Sequence[Measurement]) -> str:
    """A row for each case with a peer in it: CPU µs per request of Headgate and the others, and the ratio to each."""
    cells = [["case", "Headgate", *BESIDE, *(f"to {peer}" for peer in PEERS)]]
    cells.append(["---"] + ["---:"] * (len(cells[0]) - 1))
    for case in dict.fromkeys(one.case for one in measured):
        costs = {
            name: median(one.cpu_us for one in measured if one.case == case and one.proxy == name)
            for name in {one.proxy for one in measured if one.case == case}
        }
        if "headgate" not in costs or not costs.keys() & set(BESIDE):
            continue
        shown = [f"{costs[name]:,.1f}" if name in costs else "" for name in ("headgate", *BESIDE)]
        cells.append([f"`{case}`", *shown, *(ratio(measured, case, "headgate", peer) for peer in PEERS)])
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
