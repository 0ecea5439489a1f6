"""Results as Markdown tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from headgate.simulate.compare import Result
from headgate.simulate.goals import Verdict

_COLUMNS = {"p50": "p50_s", "p99": "p99_s", "p99.9": "p999_s"}


def milliseconds(seconds: float) -> str:
    """Three digits that count, in ms; from 10 s on in s: 46.1 ms, 1,230 ms, 93 s."""
    if seconds >= 10.0:
        return f"{seconds:,.0f} s"
    value = seconds * 1e3
    shown = float(f"{value:.3g}")  # 9.999 is shown as 10.0
    return f"{value:,.0f} ms" if shown >= 100 else f"{value:.1f} ms" if shown >= 10 else f"{value:.2f} ms"


def by_case(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    """The results of each case, in their order."""
    return [(title, list(group)) for title, group in groupby(results, key=lambda result: result.case.title)]


def markdown(results: Sequence[Result], reference: str | None = None) -> str:
    """A table for each case. reference: the title of a candidate to which p99 is compared in a column of its own."""
    return "\n".join(
        f"## {title[0].upper()}{title[1:]}\n\n{_table(group, reference)}" for title, group in by_case(results)
    )


def _table(results: Sequence[Result], reference: str | None) -> str:
    base = next((result.mean("p99_s") for result in results if result.candidate.title == reference), 0.0)
    heads = ["strategy", *_COLUMNS, *([f"p99 to {reference}"] if base else []), "max in flight"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for result in results:
        cells = [f"`{result.candidate.title}`", *(milliseconds(result.mean(figure)) for figure in _COLUMNS.values())]
        if base:
            ratio = result.mean("p99_s") / base
            cells.append(f"{ratio:,.2f}" if ratio < 100 else f"{ratio:,.0f}")
        cells.append(f"{result.mean('max_in_flight'):,.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def goals_markdown(verdicts: Sequence[Verdict]) -> str:
    """A table of goals with what was measured."""
    lines = [
        "| load | p99 of | to that of | asked | measured (least to greatest of the seeds) | |",
        "|---:|---|---|---:|---:|---|",
    ]
    for verdict in verdicts:
        goal = verdict.goal
        ours = f"`{verdict.best}`" if len(goal.ours) == 1 else f"the best of ours, `{verdict.best}`"
        cells = [
            percent(goal.load),
            ours,
            f"`{goal.other}`",
            f"≤ {goal.limit:.2f}",
            f"{verdict.ratio:.3f} ({verdict.least:.3f} to {verdict.greatest:.3f})",
            "met" if verdict.met else "not met",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def percent(part: float) -> str:
    """0.75 as 75 %."""
    return f"{part * 100:g} %"


def as_json(results: Sequence[Result], **more: Any) -> str:
    """Every figure of every run; `more` goes in front."""
    return json.dumps({**more, "results": [result.as_json() for result in results]}, indent=1) + "\n"
