"""Strategies that a user might have written, good and bad."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from headgate.balancing.base import Backend, Outcome, Request


class Last:
    """Always the last one; remembers what it was told."""

    def __init__(self, note: str = "") -> None:
        self.note = note
        self.sets: list[list[str]] = []
        self.outcomes: list[str] = []
        self._backends: list[Backend] = []

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)
        self.sets.append([backend.name for backend in backends])

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        return next((backend for backend in reversed(self._backends) if backend not in tried), None)

    def done(self, backend: Backend, outcome: Outcome) -> None:
        self.outcomes.append(backend.name)


class OfThree:
    """Wants to hear of ends only while it has three."""

    def __init__(self) -> None:
        self._backends: list[Backend] = []

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        return next((backend for backend in self._backends if backend not in tried), None)

    @property
    def done(self) -> Callable[[Backend, Outcome], None] | None:
        return self._ended if len(self._backends) == 3 else None

    def _ended(self, backend: Backend, outcome: Outcome) -> None: ...


class NoTwo(Last):
    """Cannot stand a set of two."""

    def update(self, backends: Sequence[Backend]) -> None:
        if len(backends) == 2:
            raise ZeroDivisionError("two is one too few")
        super().update(backends)


class Raises(Last):
    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        raise LookupError(f"no idea where to send {request.path!r}")


class Nonsense(Last):
    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        return "b1"  # type: ignore[return-value]


HERE = __name__
