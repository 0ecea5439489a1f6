"""The guard on instructions per request: what it lets pass, and what it does not."""

from __future__ import annotations

from pathlib import Path

from bench.check import compare, read_cases


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


def test_each_tree_says_which_cases_it_plays(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    script = "from types import SimpleNamespace as Case\n"
    script += "CASES = (Case(name='b', request=b'?'), Case(name='a', request=b'y'))\n"
    (tmp_path / "bench" / "conversation.py").write_text(script)
    cases = read_cases(tmp_path)
    assert list(cases) == ["b", "a"], "in the order in which callgrind writes their figures"
    (tmp_path / "bench" / "conversation.py").write_text(script.replace("?", "z"))
    again = read_cases(tmp_path)
    assert (again["a"], again["b"] != cases["b"]) == (cases["a"], True)
