"""When a reload is taken back."""

from __future__ import annotations

from headgate.config.schema import Rollback
from headgate.runtime.guard import Counts, Guard

SETTINGS = Rollback(errors=0.1, within=10.0, requests=20)


def guard(*, failed_before: int = 0) -> Guard:
    """After ten seconds with 1,000 answers."""
    made = Guard()
    for second in range(11):
        made.sample(second, Counts(100 * second, failed_before * second // 10), 10)
    made.begin(10, Counts(1000, failed_before), SETTINGS)
    return made


def test_failures_after_a_reload_take_it_back_once() -> None:
    made = guard()
    assert "50% of 40 requests failed in the 1.0 s since the reload (0% before)" in made.verdict(11, Counts(1040, 20))
    assert not made.watching
    assert made.verdict(12, Counts(1080, 40)) == ""


def test_a_few_answers_are_no_judgement() -> None:
    assert guard().verdict(11, Counts(1019, 19)) == ""
    assert guard().verdict(11, Counts(1020, 20)) != ""


def test_below_the_threshold_it_stays() -> None:
    made = guard()
    assert made.verdict(11, Counts(2000, 99)) == ""
    assert made.watching


def test_what_was_so_before_is_not_its_fault() -> None:
    made = guard(failed_before=300)
    assert made.verdict(11, Counts(1100, 330)) == ""
    assert made.verdict(11, Counts(1100, 340)) != ""


def test_afterwards_it_is_over() -> None:
    made = guard()
    assert made.verdict(20.5, Counts(1100, 0)) == ""
    assert not made.watching
    assert made.verdict(21, Counts(2000, 900)) == ""


def test_nothing_to_guard() -> None:
    made = Guard()
    made.begin(0, Counts(0, 0), None)
    assert made.verdict(1, Counts(100, 100)) == ""
