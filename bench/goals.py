"""What Headgate promises about its cost, as numbers that a run either reaches or does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .measurement import Measurement, interval, paired


@dataclass(frozen=True, slots=True)
class Goal:
    """`subject` may cost `ratio` times what `against` costs, or `plus_us` more, taken within rounds."""

    against: str
    ratio: float | None = None
    plus_us: float | None = None
    subject: str = "headgate"
    figure: str = "cpu_us"  # or "p50_ms"

    @property
    def text(self) -> str:
        what = "p50" if self.figure == "p50_ms" else "CPU"
        most = f"{self.ratio:g} x {self.against}" if self.ratio is not None else f"{self.against} + {self.plus_us:g} µs"
        who = "" if self.subject == "headgate" else f"{self.subject}: "
        return f"{who}{what} ≤ {most}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a goal came to: the median over the rounds and its 95 % interval."""

    case: str
    goal: Goal
    value: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        limit = self.goal.ratio if self.goal.ratio is not None else self.goal.plus_us
        assert limit is not None
        return self.value <= limit

    @property
    def row(self) -> str:
        unit = "" if self.goal.ratio is not None else " µs"
        sign = "" if self.goal.ratio is not None else "+"
        seen = f"{self.value:{sign}.2f}{unit} ({self.low:{sign}.2f} to {self.high:{sign}.2f})"
        return f"| {self.case} | {self.goal.text} | {seen} | {'yes' if self.met else 'no'} |"


def judge(measured: Sequence[Measurement], case: str, goals: Sequence[Goal]) -> list[Verdict]:
    """One verdict for each goal whose two sides were measured."""
    found = []
    for goal in goals:
        pairs = paired(measured, case, goal.subject, goal.against, goal.figure)
        if pairs:
            values = [a / b if goal.ratio is not None else a - b for a, b in pairs]
            found.append(Verdict(case, goal, median(values), *interval(values)))
    return found


def table(verdicts: Sequence[Verdict]) -> str:
    """Markdown; the interval is that of the median, by bootstrap over the rounds."""
    return "\n".join(["| case | goal | seen | met |", "|---|---|---:|---|", *(verdict.row for verdict in verdicts)])
