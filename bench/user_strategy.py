"""A strategy as a user would write it after reading the guide: plain Python, nothing clever."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headgate.balancing.base import Backend, Context, Request


class InTurn:
    """One after the other, but for those that were tried."""

    def __init__(self, context: Context) -> None:
        self._backends: Sequence[Backend] = ()
        self._turn = 0

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        for _ in self._backends:
            self._turn = (self._turn + 1) % len(self._backends)
            backend = self._backends[self._turn]
            if backend not in tried:
                return backend
        return None
