"""Results as a picture: SVG by hand, small, and readable on a light and on a dark page.

One panel for each figure, one row for each strategy, one dot for each case: dots far to the left are good, a short line
means that the load matters little. Scales are logarithmic. What is far beyond the rest (a queue that grows as long as
the simulation lasts) becomes an arrow at the edge, or the others would be one dot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

from headgate.simulate.compare import Result
from headgate.simulate.table import milliseconds

_PANELS = (("p50", "p50_s"), ("p99", "p99_s"), ("p99.9", "p999_s"), ("max in flight at one server", "max_in_flight"))
_NAMES, _PANEL, _GAP, _ROW, _TOP, _BOTTOM = 150, 190, 18, 22, 64, 34
# Of the least value of a panel; what is larger is an arrow.
_REACH = 10.0
# Steps of one hue, from little load to much; the strongest contrast to the page has the highest load.
_LIGHT = ("#9cc4f4", "#5b9bea", "#256bc4", "#0d3a75")
_DARK = ("#234d84", "#3d79c6", "#74aaf0", "#cfe2ff")


def svg(results: Sequence[Result], title: str, label: Callable[[Result], str]) -> str:
    """The results of up to four cases and any number of strategies. label: what the legend calls the case of a result,
    for instance its load."""
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(result.candidate.title, []).append(result)
    cases = list(dict.fromkeys(label(result) for result in results))
    if len(cases) > len(_LIGHT):
        raise ValueError(f"a chart shows up to {len(_LIGHT)} cases, not {len(cases)}")
    shade = {case: number + len(_LIGHT) - len(cases) for number, case in enumerate(cases)}
    width = _NAMES + len(_PANELS) * (_PANEL + _GAP)
    height = _TOP + len(rows) * _ROW + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">',
        _style(),
        f'<text class="t" x="0" y="16">{escape(title)}</text>',
        *_legend(cases, shade, width),
    ]
    for number, name in enumerate(rows):
        y = _TOP + number * _ROW + _ROW / 2
        parts.append(f'<text x="{_NAMES - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
    for number, (heading, figure) in enumerate(_PANELS):
        left = _NAMES + number * (_PANEL + _GAP)
        parts += _panel(left, heading, figure, list(rows.values()), shade, label)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _style() -> str:
    light = "".join(f".d{n}{{fill:{colour}}}" for n, colour in enumerate(_LIGHT))
    dark = "".join(f".d{n}{{fill:{colour}}}" for n, colour in enumerate(_DARK))
    return (
        "<style>text{font:12px system-ui,sans-serif;fill:#30363d}.t{font-size:14px;font-weight:600}.s{font-size:10.5px;"
        f"fill:#636c76}}.g{{stroke:#d5dae0}}.l{{stroke:#8c959f;stroke-width:1.5}}{light}"
        "@media(prefers-color-scheme:dark){text{fill:#d1d7e0}.s{fill:#9198a1}.g{stroke:#3d444d}.l{stroke:#656c76}"
        f"{dark}}}</style>"
    )


def _legend(cases: Sequence[str], shade: dict[str, int], width: int) -> Iterator[str]:
    x = width - _GAP - 80 * len(cases)
    for case in cases:
        yield f'<circle class="d{shade[case]}" cx="{x}" cy="12" r="5"/><text x="{x + 9}" y="16">{escape(case)}</text>'
        x += 80


def _panel(
    left: int,
    heading: str,
    figure: str,
    rows: Sequence[Sequence[Result]],
    shade: dict[str, int],
    label: Callable[[Result], str],
) -> Iterator[str]:
    values = [max(result.mean(figure), 1e-9) for row in rows for result in row]
    least = min(values)
    most = max(value for value in values if value <= least * _REACH)
    low, high = log10(least / 1.08), log10(max(most, least * 2.0) * 1.08)
    room = _PANEL - 12

    def x(value: float) -> float:
        return left + room * (log10(value) - low) / (high - low)

    bottom = _TOP + len(rows) * _ROW
    yield f'<text x="{left}" y="{_TOP - 22}">{escape(heading)}</text>'
    for tick in _ticks(10**low, 10**high):
        text = milliseconds(tick) if figure.endswith("_s") else f"{tick:,.0f}"
        text = text.replace(".00", "").replace(".0", "")
        yield f'<line class="g" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP - 4}" y2="{bottom}"/>'
        yield f'<text class="s" x="{x(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{text}</text>'
    for number, row in enumerate(rows):
        y = _TOP + number * _ROW + _ROW / 2
        inside = [(x(max(result.mean(figure), 1e-9)), shade[label(result)]) for result in row]
        shown = [(at, step) for at, step in inside if at <= left + room + 1]
        beyond = [step for at, step in inside if at > left + room + 1]
        if shown:
            ends = [at for at, _ in shown]
            end = left + room + 4 if beyond else max(ends)
            yield f'<line class="l" x1="{min(ends):.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>'
        for at, step in shown:
            yield f'<circle class="d{step}" cx="{at:.1f}" cy="{y}" r="4.5"/>'
        for place, step in enumerate(reversed(beyond)):
            at = left + room + 8 - place * 7
            yield f'<path class="d{step}" d="M{at - 6:.1f} {y - 5}l8 5l-8 5z"/>'


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … in between; fewer where they would stand too close."""
    steps = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 7)
    found = [step * 10.0**power for power in range(floor(log10(low)), ceil(log10(high)) + 1) for step in steps]
    return [tick for tick in found if low <= tick <= high]
