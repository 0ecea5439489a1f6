"""How long a dead worker is waited for, and what its end is called."""

from __future__ import annotations

import signal
import sys

import pytest

from headgate.runtime.processes import Backoff, describe_exit, worker_command


def test_a_worker_that_served_is_back_within_a_second_however_often_it_dies() -> None:
    backoff = Backoff()
    delays = [backoff.died(0.1, served=True) for _ in range(100)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    # The start itself takes up to half a second of the processor.
    assert 0.2 < max(delays) <= 0.5


def test_one_that_never_came_up_waits_longer_and_longer() -> None:
    backoff = Backoff()
    delays = [backoff.died(0.1, served=False) for _ in range(100)]
    assert delays[:3] == [0, 0.05, 0.1]
    assert max(delays) == 10
    assert backoff.deaths == 100


def test_a_long_life_is_a_clean_slate() -> None:
    backoff = Backoff()
    for _ in range(20):
        backoff.died(0.1, served=True)
    assert backoff.died(60, served=True) == 0
    assert backoff.deaths == 1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-200, "killed by signal 200"),
    ],
)
def test_what_an_end_is_called(code: int, text: str) -> None:
    assert describe_exit(code) == text


def test_the_command_line() -> None:
    head = [sys.executable, "-m", "headgate.runtime.worker", "--control", "5", "--segment", "6", "--worker", "1"]
    assert worker_command(1, 5, 6, None) == head
    assert worker_command(1, 5, 6, "/srv") == [*head, "--app-dir", "/srv"]
