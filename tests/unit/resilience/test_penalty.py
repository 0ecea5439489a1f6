"""Which answers with Retry-After make a backend get less, and for how long."""

from __future__ import annotations

from headgate.resilience.penalty import Asking


def test_a_503_is_believed_at_once_and_said_once_a_second() -> None:
    asking = Asking()
    assert asking.asked(503, 5.0, 100.0, 0) == 5.0
    assert asking.asked(503, 5.0, 100.9, 0) is None
    assert asking.asked(503, 4.0, 101.0, 0) == 4.0


def test_not_longer_than_a_minute() -> None:
    assert Asking().asked(503, 86400.0, 0.0, 0) == 60.0


def test_a_pause_of_nothing_is_none() -> None:
    assert Asking().asked(503, 0.0, 0.0, 0) is None


def test_a_429_among_many_other_answers_is_about_its_user() -> None:
    asking = Asking()
    succeeded = 0
    for n in range(1000):
        succeeded += 10  # nine others were served
        assert asking.asked(429, 60.0, n * 0.05, succeeded) is None


def test_when_most_answers_are_429_it_is_about_the_backend() -> None:
    asking = Asking()
    told = [asking.asked(429, 7.0, n * 0.1, n + 1) for n in range(5)]
    assert told == [None, None, None, None, 7.0]


def test_a_burst_long_ago_does_not_count() -> None:
    asking = Asking()
    for n in range(4):
        assert asking.asked(429, 7.0, n * 0.1, n + 1) is None
    assert asking.asked(429, 7.0, 20.0, 10_000) is None
