"""The guard on instructions per request: what it lets pass, and what it does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bench import check
from bench.check import compare, find_base, read_cases


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


class Repository:
    """A git repository that stands in for this one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._commits = 0
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        names = ["-c", "user.name=A", "-c", "user.email=a@h.example", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *names, *arguments], cwd=self._root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self) -> str:
        self._commits += 1  # of the same parent, in the same second and with the same text it would be the same commit
        self.git("commit", "--quiet", "--allow-empty", f"--message={self._commits}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.delenv(check.BASE_VARIABLE, raising=False)
    return Repository(tmp_path)


def test_a_branch_is_compared_with_where_it_left_main(repository: Repository) -> None:
    left = repository.commit()
    repository.git("checkout", "--quiet", "-b", "work")
    repository.commit()
    repository.commit()
    assert find_base() == left


def test_main_is_compared_with_the_commit_before_or_with_where_the_push_started(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, before, _ = repository.commit(), repository.commit(), repository.commit()
    assert find_base() == before
    monkeypatch.setenv(check.BASE_VARIABLE, first)
    assert find_base() == first
    monkeypatch.setenv(check.BASE_VARIABLE, "0" * 40)  # what services say of a branch's first push
    assert find_base() == before
    assert "names no commit that is here" in capsys.readouterr().out


def test_a_merge_is_compared_with_main_as_it_was(repository: Repository) -> None:
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "work")
    repository.commit()
    repository.git("checkout", "--quiet", "main")
    before = repository.commit()
    repository.git("merge", "--quiet", "--no-ff", "--message=x", "work")
    assert find_base() == before


def test_without_a_commit_before_there_is_nothing_to_compare_with(repository: Repository) -> None:
    assert find_base() is None, "no commit at all"
    repository.commit()
    assert find_base() is None


def test_a_shallow_clone_has_no_commit_before(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit()
    repository.commit()
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth=1", tmp_path.as_uri(), str(clone))
    monkeypatch.setattr(check, "ROOT", clone)
    assert find_base() is None
