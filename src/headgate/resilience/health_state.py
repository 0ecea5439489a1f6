"""What active checks make of a backend: a counter between down and up. Supervisor side, one for each backend.

An up backend goes down after `fall` failures in a row, a down one comes up after `rise` passes in a row, so that one
lost packet or one lucky answer changes nothing. Between the states checks come faster: the doubt is worth the requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

# 5 s: with the fast interval a dead backend is out within 7 s, and 5,000 backends cost 1,000 checks a second.
INTERVAL_S = 5.0
# Three failures: a restart or a lost SYN (sent again after 1 s) is not yet a death.
FALL = 3
# Two passes: an application that accepts connections while it still starts answers one by chance.
RISE = 2
# Between the states: 1 s, or the interval where that is shorter.
FAST_INTERVAL_S = 1.0
# Up to a tenth earlier, never later than asked for: checks of many backends, or by many balancers, drift apart.
JITTER = 0.1


class State(Enum):
    UNCHECKED = "unchecked"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Transition:
    """The state changed; `reason` is for the log and the status page."""

    before: State
    after: State
    reason: str

    @property
    def down_to_up(self) -> bool:
        """It came back (what the breaker asks for), as opposed to: it is new."""
        return self.before is State.DOWN and self.after is State.UP


class HealthState:
    """Counts the results of one backend's checks."""

    def __init__(self, *, fall: int = FALL, rise: int = RISE, interval_s: float = INTERVAL_S) -> None:
        """Raises ValueError for a count below 1 or an interval that is not positive."""
        if fall < 1 or rise < 1:
            raise ValueError("fall and rise are at least 1")
        if not interval_s > 0:
            raise ValueError(f"interval is longer than nothing, not {interval_s:g} s")
        self.fall = fall
        self.rise = rise
        self.interval_s = interval_s
        self.state = State.UNCHECKED
        self.reason = "not checked yet"
        self._against = 0  # results in a row that speak against the state
        self._spread = False

    def passed(self, nothing_routable: bool = False) -> Transition | None:
        """A check passed. One is enough for a new backend, and while nothing in the pool is routable: none is worse."""
        if self.state is State.UP:
            self._against = 0
            return None
        self._against += 1
        if self.state is State.UNCHECKED:
            return self._enter(State.UP, "first check passed")
        if self._against >= self.rise:
            return self._enter(State.UP, f"{_count(self._against, 'check')} passed")
        if nothing_routable:
            return self._enter(State.UP, "a check passed, and nothing else in the pool is routable")
        return None

    def failed(self, reason: str) -> Transition | None:
        """A check failed. A new backend is down at once: it has not yet shown that it works."""
        if self.state is State.DOWN:
            self._against = 0
            self.reason = f"check failed: {reason}"
            return None
        if self.state is State.UNCHECKED:
            return self._enter(State.DOWN, f"first check failed: {reason}")
        return self._step_down(f"check failed: {reason}")

    def traffic_connect_failure(self, reason: str) -> Transition | None:
        """Live traffic could not connect: one step of `fall`, since a check would have failed as well.

        Says nothing new about one that is down, and nothing yet about one that no check has reached."""
        if self.state is not State.UP:
            return None
        return self._step_down(f"connect failed: {reason}")

    @property
    def in_doubt(self) -> bool:
        """Some results speak against the state, not yet enough: the next check should come soon."""
        return self._against > 0

    def first_delay(self, index: int, count: int) -> float:
        """Seconds to the first check of the `index`-th of `count` backends.

        Listeners open after the first round, so it is spread over half a second at most, not over the interval."""
        return index / max(1, count) * min(self.interval_s, FAST_INTERVAL_S / 2)

    def next_delay(self, random: Random) -> float:
        """Seconds from the begin of one check to the begin of the next."""
        fast = min(self.interval_s, FAST_INTERVAL_S)
        if self.in_doubt:
            return fast * random.uniform(1 - JITTER, 1)
        if not self._spread:
            # The first round came all at once; from here on the checks are spread over the interval.
            self._spread = True
            return random.uniform(fast, self.interval_s)
        return self.interval_s * random.uniform(1 - JITTER, 1)

    def _step_down(self, reason: str) -> Transition | None:
        self._against += 1
        if self._against < self.fall:
            return None
        return self._enter(State.DOWN, f"{_count(self._against, 'failure')} in a row, the last: {reason}")

    def _enter(self, state: State, reason: str) -> Transition:
        transition = Transition(self.state, state, reason)
        self.state = state
        self.reason = reason
        self._against = 0
        return transition


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
