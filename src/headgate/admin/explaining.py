"""Where a request would go (`POST /explain`), and where real ones went (`GET /decisions`)."""

from __future__ import annotations

import msgspec

from headgate.admin import documents as doc
from headgate.admin.endpoint import Call
from headgate.admin.wire import Refusal
from headgate.explain.listeners import choose
from headgate.explain.question import BadQuestion, Question
from headgate.runtime.explaining import NobodyAnswers


async def explain(call: Call) -> doc.Explanation:
    """Ask the workers."""
    host = call.host
    asked: doc.ExplainRequest = call.body
    question = Question(
        method=asked.method,
        url=asked.url,
        headers=tuple(asked.headers),
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
