"""What a strategy is told when an attempt ends, and what becomes of it if it is kept."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from headgate.engine.clock import clock
from headgate.engine.outcome import Outcome
from headgate.errors import Kind, Verdict

from .conftest import Converse
from .conversation import Conversation, answer, get


def asked_and_answered(talk: Conversation, status: str = "200 OK") -> None:
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> answer(status, b"", "Connection: close")
    client << f"HTTP/1.1 {status}"


def test_one_that_is_kept_says_for_ever_what_it_said(conversation: Converse) -> None:
    talk = conversation("a")
    kept: list[Outcome] = []
    talk.stage.pool.pool.done = lambda backend, outcome: kept.append(outcome)
    asked_and_answered(talk)
    asked_and_answered(talk, "503 Service Unavailable")
    good, bad = kept
    assert (good.kind, good.verdict, good.status, good.ok) == (Kind.OK, Verdict.SUCCESS, 200, True)
    assert (bad.kind, bad.status, bad.ok) == (Kind.SERVER_ERROR, 503, False)
    assert good.verdict != bad.verdict
    assert good.retry_after_s == -1.0
    assert 0 <= good.first_byte_s <= good.total_s
    assert repr(good).startswith("<Outcome OK status=200 first_byte_s=0.")


def test_one_that_nobody_keeps_serves_again(conversation: Converse) -> None:
    talk = conversation("a")
    seen: list[tuple[int, int]] = []
    talk.stage.pool.pool.done = lambda backend, outcome: seen.append((id(outcome), outcome.status))
    for status in ("200 OK", "404 Not Found", "200 OK"):
        asked_and_answered(talk, status)
    assert [status for _, status in seen] == [200, 404, 200]
    assert len({address for address, _ in seen}) == 1


def test_it_cannot_be_changed_and_a_copy_is_itself(conversation: Converse) -> None:
    talk = conversation("a")
    kept: list[Any] = []
    talk.stage.pool.pool.done = lambda backend, outcome: kept.append(outcome)
    asked_and_answered(talk)
    (outcome,) = kept
    with pytest.raises(AttributeError):
        outcome.status = 500
    assert copy.deepcopy(kept) == kept


def test_the_clock_of_strategies_is_the_engines_and_is_not_copied(conversation: Converse) -> None:
    engine = conversation("a").stage.engine
    now = clock(engine)
    before = time.monotonic()
    engine.run_once()
    assert before - 1 < now() == engine.now
    assert copy.deepcopy(now)() == engine.now
