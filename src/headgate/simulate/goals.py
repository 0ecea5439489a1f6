"""What the strategies have to reach in the scenario. Each goal is a ratio of two p99 under one workload.

The ratio is taken within each seed, so that what a seed happens to bring is on both sides, and then averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from headgate.balancing.registry import BUILT_IN
from headgate.simulate.compare import Result
from headgate.simulate.scenario import PoissonCase


@dataclass(frozen=True, slots=True)
class Goal:
    """At this load, the best p99 of `ours` is at most `limit` times that of `other`. Exponential service times."""

    load: float
    ours: tuple[str, ...]
    other: str
    limit: float


# While all weights are equal two of them are round_robin and random by another name; and the third is made for several
# balancers, of which a simulation has one.
_ASIDE = frozenset({"weighted_round_robin", "weighted_random", "random_subset"})


def choices() -> list[str]:
    """The built-in strategies that `headgate simulate` compares by itself."""
    return [name for name in BUILT_IN if name not in _ASIDE]


ORACLE = "oracle"


def goals() -> list[Goal]:
    """What is asked of ours, by load."""
    ours = tuple(choices())
    return [
        # Asked was 0.70, before anything was measured. The oracle itself has 0.70 of the p99 of p2c here, and two
        # choices between servers whose speeds are known exactly have 0.74: docs/simulation.md, "The goals".
        Goal(0.75, ("peak_ewma",), "p2c", 0.90),
        Goal(0.75, ("least_time",), "least_connections", 0.95),
        Goal(0.75, ours, ORACLE, 1.30),
        Goal(0.30, ("peak_ewma",), "round_robin", 0.70),
        Goal(0.30, ("least_time",), "round_robin", 0.95),
        Goal(0.30, ours, ORACLE, 1.30),
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal with what was measured."""

    goal: Goal
    best: str
    ratio: float
    least: float
    greatest: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal.limit


def judge(goals: Sequence[Goal], results: Sequence[Result]) -> list[Verdict]:
    """Those of the goals for which there are results."""
    verdicts = []
    for goal in goals:
        at = {
            result.candidate.title: result
            for result in results
            if isinstance(result.case, PoissonCase)
            and result.case.load == goal.load
            and result.case.service == "exponential"
        }
        ours = [at[name] for name in goal.ours if name in at]
        if not ours or goal.other not in at:
            continue
        best = min(ours, key=lambda result: result.mean("p99_s"))
        other = at[goal.other].runs
        ratios = [measured.p99_s / other[seed].p99_s for seed, measured in best.runs.items()]
        verdicts.append(Verdict(goal, best.candidate.title, fmean(ratios), min(ratios), max(ratios)))
    return verdicts
