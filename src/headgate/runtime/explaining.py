"""Questions to the workers about where a request would go: asked of all, answered by each for itself."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future
from collections.abc import Sequence

import msgspec

from headgate.explain.answer import Explanation, WorkerView
from headgate.explain.question import BadQuestion, Question
from headgate.runtime.links import Link
from headgate.runtime.messages import Explain, Explained

# A worker answers between two batches of requests. One that is stopped, or stuck in somebody's code, does not.
_PATIENCE_S = 2.0


class NobodyAnswers(RuntimeError):
    """No worker said anything in time."""


class Explaining:
    """The questions that are under way."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._number = 0
        self._open: dict[tuple[int, Link], Future[Explained | None]] = {}

    async def ask(
        self, links: Sequence[Link], listener: str, question: Question, timeout_s: float = _PATIENCE_S
    ) -> Explanation:
        """The explanation of the first worker, with what each would do where there are several.

        listener: its `bind` as configured. Raises BadQuestion, and NobodyAnswers.
        """
        self._number += 1
        number = self._number
        asked = {link: self._loop.create_future() for link in sorted(links, key=lambda one: one.worker)}
        for link, answer in asked.items():
            self._open[number, link] = answer
            link.send(Explain(number, listener, question))
            link.deliver()
        try:
            if asked:
                await asyncio.wait(asked.values(), timeout=timeout_s)
        finally:
            for link in asked:
                self._open.pop((number, link), None)
        said = [(link.worker, one.result()) for link, one in asked.items() if one.done() and one.result() is not None]
        return _together([(worker, explained) for worker, explained in said if explained is not None])

    def answered(self, link: Link, message: Explained) -> None:
        """A worker has said something."""
        self._settle(message.number, link, message)

    def gone(self, link: Link) -> None:
        """Nothing more will come from there."""
        for number, asked in list(self._open):
            if asked is link:
                self._settle(number, link, None)

    def _settle(self, number: int, link: Link, message: Explained | None) -> None:
        answer = self._open.pop((number, link), None)
        if answer is not None and not answer.done():
            answer.set_result(message)


def _together(said: Sequence[tuple[int, Explained]]) -> Explanation:
    explained = [(worker, one.explanation) for worker, one in said if one.explanation is not None]
    if not explained:
        if said:
            raise BadQuestion(said[0][1].problem)
        raise NobodyAnswers("no worker answers")
    worker, first = explained[0]
    views = [
        WorkerView(worker=number, picked=one.picked, picked_by=one.picked_by, outcome=one.outcome)
        for number, one in explained
    ]
    notes = list(first.notes)
    several = len(views) > 1
    if several and len({view.picked for view in views}) > 1:
        notes.append(
            "each worker takes turns and learns for itself; the kernel chooses which one a connection comes to"
        )
    return msgspec.structs.replace(first, worker=worker, workers=views if several else [], notes=notes)
