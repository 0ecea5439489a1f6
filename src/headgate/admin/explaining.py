"""Where a request would go (`POST /explain`), and where real ones went (`GET /decisions`)."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.admin import documents as doc
from headgate.admin.endpoint import Call
from headgate.admin.wire import Refusal
from headgate.errors import TEXT, Kind
from headgate.explain.listeners import choose
from headgate.explain.question import BadQuestion, Question
from headgate.observe import status
from headgate.runtime.explaining import NobodyAnswers

# The bits of `retry.Note`, by the words of the access log.
_NOTES = ((1, "replay_cap"), (2, "retry_budget"), (4, "no_time_left"), (8, "hedged"), (16, "fallback"))


async def decisions(call: Call) -> doc.Decisions:
    """Read the rings."""
    query: doc.DecisionsQuery = call.query
    found = call.host.decisions.latest(
        query.limit,
        id=query.id.encode() if query.id else None,
        failed=query.failed,
        backend=query.backend.encode() if query.backend else None,
    )
    return doc.Decisions(decisions=[_decision(row) for row in found])


async def explain(call: Call) -> doc.Explanation:
    """Ask the workers."""
    host = call.host
    asked: doc.ExplainRequest = call.body
    question = Question(
        method=asked.method,
        url=asked.url,
        headers=asked.headers,
        client=asked.client,
        listener=asked.listener,
    )
    controller = host.controller
    # The file's listeners and the host's rows are the same, in the same order; a reload may come between.
    binds = [listener.bind.text for listener in controller.file.listeners]
    try:
        choice = choose(question, list(zip(binds, [listener.bind for listener in host.listeners], strict=False)))
        found = await controller.explaining.ask(controller.links, choice.bind, question)
    except BadQuestion as error:
        raise Refusal(400, "bad_request", str(error)) from None
    except NobodyAnswers as error:
        raise Refusal(503, "no_worker", str(error)) from None
    return msgspec.structs.replace(found, notes=[choice.note, *found.notes]) if choice.note else found


def _decision(row: dict[str, Any]) -> doc.Decision:
    kind = _kind(row["kind"])
    return doc.Decision(
        id=row["id"],
        time=status.moment(row["time_ns"] // 1_000_000),
        worker=row["worker"],
        sampled=row["sampled"],
        failed=row["failed"],
        method=row["method"],
        host=row["host"],
        path=row["path"],
        client=row["client"],
        listener=row["listener"],
        route=row["route"],
        pool=row["pool"],
        kind=kind.word,
        why=TEXT[kind],
        status=row["status"],
        attempts=[
            doc.Attempt(
                backend=one["backend"],
                kind=_kind(one["kind"]).word,
                status=one["status"],
                started_ms=one["started_ms"],
                first_byte_ms=one["first_byte_ms"],
                ms=one["ms"],
            )
            for one in row["attempts"]
        ],
        attempts_made=row["attempts_made"],
        sticky=row["sticky"],
        notes=[word for bit, word in _NOTES if row["notes"] & bit],
        queued_ms=row["queued_ms"],
        first_byte_ms=row["first_byte_ms"],
        total_ms=row["total_ms"],
        trace_id=row["trace_id"],
    )


def _kind(number: int) -> Kind:
    return Kind(number) if number in set(Kind) else Kind.INTERNAL
