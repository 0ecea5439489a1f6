"""Did a reload make things worse? Decides from counts alone when the old configuration is to come back. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from headgate.config.schema import Rollback


@dataclass(frozen=True, slots=True)
class Counts:
    """Of all workers, since they count. failed: answered with a status of 500 or more."""

    answered: int
    failed: int


class Guard:
    """Sees the counts twice a second; `begin` when a reload is in force, then ask `verdict`.

    The share of failures is compared with the one of as long a time before the reload: where requests failed already,
    the new configuration is not to blame.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Counts]] = deque()
        self._began: tuple[float, Counts] | None = None
        self._settings: Rollback | None = None
        self._before = 0.0

    def sample(self, now: float, counts: Counts, keep_s: float) -> None:
        """So it stands now. keep_s: how long ago the oldest sample may be."""
        self._samples.append((now, counts))
        while self._samples[0][0] < now - keep_s:
            self._samples.popleft()

    def begin(self, now: float, counts: Counts, settings: Rollback | None) -> None:
        """A new configuration is in force; None: there is nothing to guard."""
        oldest = self._samples[0][1] if self._samples else counts
        self._before = _share(oldest, counts)
        self._began = (now, counts)
        self._settings = settings

    @property
    def watching(self) -> bool:
        """Is there a reload that may still be taken back?"""
        return self._settings is not None

    def verdict(self, now: float, counts: Counts) -> str:
        """Why the reload should be taken back; "" while it should not."""
        if self._settings is None or self._began is None:
            return ""
        settings = self._settings
        since, at_begin = self._began
        share = _share(at_begin, counts)
        answered = counts.answered - at_begin.answered
        if answered >= settings.requests and share >= settings.errors and share > self._before:
            self._settings = None
            return (
                f"{share:.0%} of {answered} requests failed in the {now - since:.1f} s since the reload "
                f"({self._before:.0%} before)"
            )
        if now - since > settings.within:
            self._settings = None
        return ""


def _share(before: Counts, after: Counts) -> float:
    answered = after.answered - before.answered
    return (after.failed - before.failed) / answered if answered > 0 else 0.0
