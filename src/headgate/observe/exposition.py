"""The page of `/metrics`, in the text format of Prometheus (0.0.4) or as OpenMetrics (1.0), whichever is asked for.

A page of a thousand backends has some thirty thousand lines. It is made in slices, so that whatever else the supervisor
has to do (health checks, breakers) goes on in between; it carries no traffic itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from headgate.observe.metric import PREFIX, Histogram, Metric, Reading
from headgate.observe.metrics import METRICS

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Lines between two looks at everything else that waits: about a millisecond.
SLICE = 1000

_UNITS = ("seconds", "bytes")


def wants_open_metrics(accept: str) -> bool:
    """Does this Accept field (RFC 9110 section 12.5.1) prefer OpenMetrics 1.0 to the older text?"""
    asked, plain = 0.0, 0.0
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        given = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        try:
            quality = float(given.get("q", "1"))
        except ValueError:
            continue
        media = media.lower()
        if media == "application/openmetrics-text" and given.get("version", "1.0.0") in ("1.0.0", "1.0", "0.0.1"):
            asked = max(asked, quality)
        elif media == "text/plain":
            plain = max(plain, quality)
    return asked > 0 and asked >= plain


async def exposition(now: Reading, *, open_metrics: bool = False) -> bytes:
    """The whole page."""
    out: list[str] = []
    pieces: list[bytes] = []
    for metric in METRICS:
        out += _head(metric, open_metrics=open_metrics)
        for labels, value in metric.rows(now):
            if isinstance(value, Histogram):
                out += _histogram(metric.full_name, labels, value)
            else:
                out.append(f"{metric.full_name}{{{labels}}} {value}" if labels else f"{metric.full_name} {value}")
            if len(out) >= SLICE:
                pieces.append(_encoded(out))
                out.clear()
                await asyncio.sleep(0)
    if open_metrics:
        out.append("# EOF")
    pieces.append(_encoded(out))
    return b"".join(pieces)


def _encoded(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _head(metric: Metric, *, open_metrics: bool) -> list[str]:
    if open_metrics:
        # Here a family is called without the suffix of its samples.
        name, kind = f"{PREFIX}{metric.name}", metric.kind
        unit = next((unit for unit in _UNITS if metric.name.endswith(f"_{unit}")), "")
    else:
        name, kind, unit = metric.full_name, "gauge" if metric.kind == "info" else metric.kind, ""
    text = metric.text.replace("\\", "\\\\").replace("\n", "\\n")
    if open_metrics:
        text = text.replace('"', '\\"')
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *([f"# UNIT {name} {unit}"] if unit else [])]


def _histogram(name: str, labels: str, value: Histogram) -> list[str]:
    before = f"{labels}," if labels else ""
    braces = f"{{{labels}}}" if labels else ""
    return [
        *(
            f'{name}_bucket{{{before}le="{bound / 1e9}"}} {below}'
            for bound, below in zip(value.bounds_ns, value.below, strict=True)
        ),
        f'{name}_bucket{{{before}le="+Inf"}} {value.count}',
        f"{name}_sum{braces} {value.sum_s}",
        f"{name}_count{braces} {value.count}",
    ]
