"""Results as a picture: CPU per request against nginx, one row for each case, SVG by hand.

A dot is a median of ratios within rounds, the line behind it its 95 % interval. The scale is logarithmic; what is
beyond its end (Caddy, mostly) is an arrow with its figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log2
from statistics import median

from .measurement import Measurement, interval, paired

_SHOWN = {"headgate": "h", "haproxy": "p", "caddy": "c", "floor": "f"}
_LOW, _HIGH = 0.125, 4.0
_NAMES, _WIDTH, _ROW, _TOP = 110, 560, 30, 58
_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#30363d}.t{font-size:14px;font-weight:600}.s{font-size:10.5px;"
    "fill:#636c76}.g{stroke:#d5dae0}.n{stroke:#57606a;stroke-width:1.5}.h{fill:#0b63ce;stroke:#0b63ce}"
    ".p{fill:#b35900;stroke:#b35900}.c{fill:#8250df;stroke:#8250df}.f{fill:#8c959f;stroke:#8c959f}.i{stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#d1d7e0}.s{fill:#9198a1}.g{stroke:#3d444d}.n{stroke:#9198a1}"
    ".h{fill:#74aaf0;stroke:#74aaf0}.p{fill:#f0a35e;stroke:#f0a35e}.c{fill:#c297ff;stroke:#c297ff}"
    ".f{fill:#9198a1;stroke:#9198a1}}</style>"
)


def _x(ratio: float) -> float:
    return _NAMES + _WIDTH * (log2(ratio) - log2(_LOW)) / (log2(_HIGH) - log2(_LOW))


def _dots(measured: Sequence[Measurement], case: str, y: float) -> Iterator[str]:
    for proxy, shape in _SHOWN.items():
        values = [mine / nginx for mine, nginx in paired(measured, case, proxy, "nginx")]
        if not values:
            continue
        middle, (low, high) = median(values), interval(values)
        if middle > _HIGH:
            end = _NAMES + _WIDTH
            yield f'<path class="{shape}" d="M{end} {y - 5}l9 5l-9 5z"/>'
            yield f'<text class="s" x="{end + 14}" y="{y + 4}">{middle:.1f}</text>'
            continue
        left, right = _x(max(low, _LOW)), _x(min(high, _HIGH))
        yield f'<line class="{shape} i" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>'
        yield f'<circle class="{shape}" cx="{_x(max(middle, _LOW)):.1f}" cy="{y}" r="4.5"/>'


def svg(measured: Sequence[Measurement]) -> str:
    """Every case in which nginx was measured."""
    cases = [case for case in dict.fromkeys(one.case for one in measured) if paired(measured, case, "nginx", "nginx")]
    width, bottom = _NAMES + _WIDTH + 60, _TOP + _ROW * len(cases)
    title = "CPU per request against nginx (1 = nginx; less is better)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 30}" width="{width}" '
        f'height="{bottom + 30}" role="img" aria-label="{title}">',
        _STYLE,
        f'<text class="t" x="0" y="16">{title}</text>',
    ]
    for number, (proxy, shape) in enumerate(_SHOWN.items()):
        left = _NAMES + number * 100
        parts.append(
            f'<circle class="{shape}" cx="{left}" cy="36" r="4.5"/><text x="{left + 10}" y="40">{proxy}</text>'
        )
    for tick in (0.125, 0.25, 0.5, 1, 2, 4):
        style = "n" if tick == 1 else "g"
        x = _x(tick)
        parts.append(f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom}"/>')
        parts.append(f'<text class="s" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for number, case in enumerate(cases):
        y = _TOP + number * _ROW + _ROW / 2
        parts.append(f'<text x="{_NAMES - 12}" y="{y + 4}" text-anchor="end">{case}</text>')
        parts += _dots(measured, case, y)
    return "\n".join([*parts, "</svg>"]) + "\n"
