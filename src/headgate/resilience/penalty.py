"""What a backend's "not now" means: an answer of 429 or 503 with Retry-After asks for less, and is no sign of death.

Such an answer never counts against the breaker (it answered in order, and quickly); for the time it names the backend
gets the least share, see `slow_start`. 503 speaks for the whole server (RFC 9110 section 15.6.4) and is believed at
once. 429 speaks of one user (RFC 6585 section 4), whose excess must not turn a healthy backend away from all the
others: it is believed when most of what the backend answers is that.
"""

from __future__ import annotations

from headgate.resilience.slow_start import PENALTY_MAX_S

# Of the answers since the window began; and a single user's burst in a quiet pool is not most of anything.
_MOST = 0.5
_AT_LEAST = 5
_WINDOW_S = 10.0
# Every request of a busy worker meets the same answer; one message says it.
_SAY_EVERY_S = 1.0


class Asking:
    """Listens to one backend in one worker. `now` is monotonic seconds, `succeeded` the engine's count of successes
    (a 429 is one of them: the exchange went well)."""

    __slots__ = ("_asked", "_began", "_said", "_succeeded")

    def __init__(self) -> None:
        self._said = float("-inf")
        self._began = float("-inf")
        self._asked = 0
        self._succeeded = 0

    def asked(self, status: int, retry_after_s: float, now: float, succeeded: int) -> float | None:
        """It answered so; for how many seconds it should get less from now on, or None when there is nothing to say."""
        if retry_after_s <= 0 or (status == 429 and not self._is_most(now, succeeded)):
            return None
        if now - self._said < _SAY_EVERY_S:
            return None
        self._said = now
        return min(retry_after_s, PENALTY_MAX_S)

    def _is_most(self, now: float, succeeded: int) -> bool:
        if now - self._began >= _WINDOW_S:
            self._began, self._asked, self._succeeded = now, 0, succeeded
        self._asked += 1
        answered = max(self._asked, succeeded - self._succeeded)
        return self._asked >= _AT_LEAST and self._asked >= _MOST * answered
