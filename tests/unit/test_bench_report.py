"""The tables that a benchmark prints."""

from __future__ import annotations

from bench.load import Load
from bench.measurement import Measurement
from bench.report import summary


def measured(case: str, proxy: str, *cpu_us: float) -> list[Measurement]:
    load = Load(1000, 1.0, 1.0, 2.0, 0)
    return [Measurement(case, proxy, number, cost, load) for number, cost in enumerate(cpu_us)]


def test_a_row_for_each_case_that_somebody_else_was_in() -> None:
    some = [
        *measured("small", "nginx", 30, 20, 40),
        *measured("small", "headgate", 15, 10, 20),
        *measured("user", "headgate", 15),
        *measured("user", "user", 16),
    ]
    assert summary(some).splitlines()[2:] == ["| `small` | 15.0 | 30.0 |  |  |  | 0.50 (0.50-0.50) |  |"]
