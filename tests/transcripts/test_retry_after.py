"""A backend that asks for a pause (RFC 9110 section 10.2.3): the policy is told, its breaker is not."""

from __future__ import annotations

import pytest

from headgate.engine.model import Backend
from headgate.engine.outcome import Outcome
from headgate.runtime.messages import Penalty

from .conftest import Converse
from .conversation import Conversation, answer, get


def overheard(talk: Conversation) -> list[tuple[str, int, float]]:
    """What the policy is told of pauses, as it comes: (backend, status, seconds)."""
    pauses: list[tuple[str, int, float]] = []
    pool = talk.stage.pool.pool
    policy = pool.outcome
    assert policy is not None

    def outcome(backend: Backend, outcome: Outcome) -> None:
        if outcome.retry_after_s > 0:
            pauses.append((backend.name, outcome.status, outcome.retry_after_s))
        policy(backend, outcome)

    pool.outcome = outcome
    return pauses


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
@pytest.mark.parametrize(("said", "told"), [("7", [7.0]), ("100000", [100000.0]), ("0", []), ("soon", [])])
def test_the_policy_is_told(conversation: Converse, status: str, said: str, told: list[float]) -> None:
    talk = conversation("a", breaker={"failure_threshold": 1})
    pauses = overheard(talk)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> answer(status, b"later", f"Retry-After: {said}")
    client << f"HTTP/1.1 {status}\nretry-after: {said}\n\nlater"
    assert pauses == [("a", int(status[:3]), seconds) for seconds in told]
    # 429 says nothing against a backend; neither does 503 when it says for how long.
    counts = status.startswith("503") and said == "soon"
    assert talk.stage.totals("a").failed == counts
    # The supervisor hears of a trip, or of a server that wants less; a single 429 is about a single user.
    penalties = [Penalty(0, 503, min(seconds, 60.0)) for seconds in told if status.startswith("503")]
    assert [report for report in talk.stage.reports if isinstance(report, Penalty)] == penalties
    assert len(talk.stage.reports) == counts + len(penalties)


def test_the_policy_is_told_though_another_backend_answers(conversation: Converse) -> None:
    talk = conversation("ab", retry={"on": [429, 503]}, breaker={"failure_threshold": 1})
    pauses = overheard(talk)
    for n, status in enumerate(("429 Too Many Requests", "503 Service Unavailable")):
        client = talk.client()
        client >> get()
        up = talk["a"].accepts()
        up << "GET / HTTP/1.1"
        up >> answer(status, b"later", "Retry-After: 5")
        if n == 0:
            other = talk["b"].accepts()
        other << "GET / HTTP/1.1"
        other >> answer("200 OK", b"b")
        client << "HTTP/1.1 200 OK\n!retry-after\n\nb"
    assert pauses == [("a", 429, 5.0), ("a", 503, 5.0)]
    assert talk.stage.reports == [Penalty(0, 503, 5.0)]


def test_other_answers_ask_for_nothing(conversation: Converse) -> None:
    talk = conversation("a")
    pauses = overheard(talk)
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> answer("301 Moved Permanently", b"", "Retry-After: 5")
    client << "HTTP/1.1 301 Moved Permanently\nretry-after: 5"
    assert pauses == []


def test_a_policy_that_raises_harms_nobody(conversation: Converse, caplog: pytest.LogCaptureFixture) -> None:
    talk = conversation("a")

    def outcome(backend: Backend, outcome: Outcome) -> None:
        raise KeyError("no")

    talk.stage.pool.pool.outcome = outcome
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> answer("429 Too Many Requests", b"", "Retry-After: 5")
    client << "HTTP/1.1 429 Too Many Requests"
    assert "the outcome policy" in caplog.text
