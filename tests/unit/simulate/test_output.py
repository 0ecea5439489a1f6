"""Tables, charts and goals."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from headgate.simulate import Candidate, Measured, PoissonCase, Result, as_json, markdown, svg
from headgate.simulate.goals import Goal, judge
from headgate.simulate.table import goals_markdown, milliseconds


def result(name: str, p99_s: float, load: float = 0.75, seeds: int = 2) -> Result:
    runs = {
        seed: Measured(100, 0.01, 0.007, p99_s * (1 + 0.1 * (seed - 1)), p99_s * 2, 1.0, 7, {"a": 0.25, "b": 0.75})
        for seed in range(1, seeds + 1)
    }
    return Result(PoissonCase("exponential", load), Candidate(name), runs)


RESULTS = [result("oracle", 0.040), result("p2c", 0.060), result("round_robin", 60.0)]


def test_quantities_are_read_at_a_glance() -> None:
    assert [milliseconds(value) for value in (0.009996, 0.09996)] == ["10.0 ms", "100 ms"]
    assert [milliseconds(value) for value in (0.00712, 0.0461, 0.46, 1.23, 93.2)] == [
        "7.12 ms",
        "46.1 ms",
        "460 ms",
        "1,230 ms",
        "93 s",
    ]


def test_a_table_for_each_case() -> None:
    text = markdown([*RESULTS, result("p2c", 0.050, load=0.3)], reference="oracle")
    assert text.count("## ") == 2
    assert "## Exponential service times, load 75 %" in text
    assert "| `p2c` | 7.00 ms | 63.0 ms | 120 ms | 1.50 | 7 |" in text
    # Without the reference there is nothing to compare with.
    assert "| `p2c` | 7.00 ms | 52.5 ms | 100 ms | 7 |" in text


def test_json_has_every_run() -> None:
    data = json.loads(as_json(RESULTS, seeds=[1, 2]))
    assert data["seeds"] == [1, 2]
    assert [one["strategy"] for one in data["results"]] == ["oracle", "p2c", "round_robin"]
    assert data["results"][1]["runs"]["2"]["p99_s"] == pytest.approx(0.066)


def test_goals_are_judged_within_a_seed() -> None:
    goals = [
        Goal(0.75, ("p2c",), "oracle", 1.6),
        Goal(0.75, ("round_robin", "p2c"), "oracle", 1.4),
        Goal(0.30, ("p2c",), "oracle", 1.0),  # there are no results for it
        Goal(0.75, ("p2c",), "least_time", 1.0),
    ]
    verdicts = judge(goals, RESULTS)
    assert [(verdict.best, verdict.met) for verdict in verdicts] == [("p2c", True), ("p2c", False)]
    assert verdicts[0].ratio == verdicts[0].least == pytest.approx(1.5)
    text = goals_markdown(verdicts)
    assert "| 75 % | `p2c` | `oracle` | ≤ 1.60 | 1.500 (1.500 to 1.500) | met |" in text
    assert "| 75 % | the best of ours, `p2c` | `oracle` | ≤ 1.40 | 1.500 (1.500 to 1.500) | not met |" in text


def test_a_chart_is_xml_with_a_dot_for_each_result() -> None:
    results = [*RESULTS, *(result(name, 0.05, load=0.9) for name in ("oracle", "p2c", "round_robin"))]
    root = ElementTree.fromstring(svg(results, "Title & more", lambda one: f"{one.case.load:.0%}"))  # type: ignore[attr-defined]
    space = "{http://www.w3.org/2000/svg}"
    legend, panels, results_in_panel = 2, 4, 6
    dots = len(root.findall(f"{space}circle")) - legend
    arrows = len(root.findall(f"{space}path"))  # round robin at 75 % is far beyond the rest: p99 and p99.9
    assert arrows == 2
    assert dots + arrows == panels * results_in_panel
    style = root.find(f"{space}style")
    assert style is not None
    assert "prefers-color-scheme:dark" in (style.text or "")
    width = float(root.attrib["width"])
    assert all(0 <= float(dot.attrib["cx"]) <= width for dot in root.iter(f"{space}circle"))
    assert next(text.text for text in root.iter(f"{space}text")) == "Title & more"


def test_a_chart_has_four_shades() -> None:
    results = [result("p2c", 0.05, load=load / 10) for load in range(1, 6)]
    with pytest.raises(ValueError, match="up to 4 cases, not 5"):
        svg(results, "", lambda one: one.case.title)
