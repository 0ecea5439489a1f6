"""The guard on instructions per request: what it lets pass, and what it does not."""

from __future__ import annotations

from bench.check import compare


def test_more_than_the_limit_fails_and_is_marked() -> None:
    lines, within = compare({"small": 10_000, "headers": 40_000}, {"small": 10_600, "headers": 40_000})
    assert not within
    assert lines[2:] == ["| small | 10,000 | 10,600 | +6.0 % too much |", "| headers | 40,000 | 40,000 | +0.0 % |"]


def test_a_little_more_and_any_less_pass() -> None:
    lines, within = compare({"small": 10_000, "headers": 40_000}, {"small": 10_400, "headers": 10_000})
    assert within
    assert not any("too much" in line for line in lines)


def test_a_new_case_and_a_missing_base_are_only_shown() -> None:
    assert compare({}, {"small": 10_000}) == (
        ["| case | base | here | change |", "|---|---:|---:|---:|", "| small | - | 10,000 | |"],
        True,
    )
    assert compare(None, {"small": 10_000})[1]
