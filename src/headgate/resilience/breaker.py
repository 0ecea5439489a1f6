"""The breaker of each backend: closed, open (= ejected), half-open (= probed). Supervisor side, one group for each
pool.

A worker's detector asks (`trip`), the group decides: of n backends at most max(1, n // 2) may be out, and the only one
never is, since an ejected backend serves nobody while a bad one may still serve some. Open lasts 10 s, and twice as
long each time it opens again, up to 300 s; time spent closed takes that back at the rate at which it was earned. Then
it is half-open: single idempotent requests of live traffic are sent there, and enough successes close it, a failure
opens it.

An active check that goes from down to up closes it early, but only where connect or transport errors opened it: then
the check proves what had been in doubt. Where bad answers opened it a check proves nothing: it was passing all the
while.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import msgspec

from headgate.errors import MEANING, Kind, Verdict
from headgate.resilience.cause import Cause

K = TypeVar("K", bound=Hashable)

# A restart takes seconds; a shorter pause would probe into it again and again.
RECOVERY_S = 10.0
# Five minutes: what is broken for hours costs a probe (which is retried elsewhere) now and then, and no more.
RECOVERY_MAX_S = 300.0
# Two, as with the `rise` of active checks: one may be luck. More would keep a good backend out of a quiet pool for
# long, since probes go one at a time and need idempotent requests.
SUCCESS_THRESHOLD = 2
# Without a probe for so long (nothing but POST comes, or nothing at all) it closes untried, or it would be lost for
# ever.
UNPROBED_S = 30.0


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Transition(Generic[K]):
    """A breaker changed state. `until` is when it will go on by itself (monotonic seconds), None while closed. `cause`
    is the rule that opened it, None for a change to any other state."""

    key: K
    before: State
    after: State
    reason: str
    until: float | None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Refused(Generic[K]):
    """A trip was not granted; the backend stays in use. `reason` says why."""

    key: K
    reason: str


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """One breaker's state, to be handed from one process to the next. Times are monotonic seconds."""

    state: State
    since: float
    until: float | None
    reason: str
    opened_by: int
    openings: int
    opened_s: float
    successes: int


class _Breaker:
    """State of one backend."""

    __slots__ = ("opened_by", "opened_s", "openings", "reason", "since", "state", "successes", "until")

    def __init__(self, now: float) -> None:
        self.state = State.CLOSED
        self.since = now
        self.until: float | None = None
        self.reason = ""
        self.opened_by = Verdict.NONE
        self.openings = 0  # not yet paid back by time spent closed
        self.opened_s = 0.0  # how long it is open this time
        self.successes = 0  # of probes


class BreakerGroup(Generic[K]):
    """The breakers of one pool. `now` is always monotonic seconds; backends are known by any hashable key.

    Call `advance` when `next_event` has come. What a method returns belongs into the backend's state and the log.
    """

    def __init__(
        self,
        keys: Iterable[K] = (),
        *,
        now: float = 0.0,
        recovery_s: float = RECOVERY_S,
        recovery_max_s: float = RECOVERY_MAX_S,
        success_threshold: int = SUCCESS_THRESHOLD,
        unprobed_s: float = UNPROBED_S,
    ) -> None:
        """Raises ValueError if a time is not positive, the maximum is below the first, or the threshold below 1."""
        if not 0 < recovery_s <= recovery_max_s:
            raise ValueError(f"recovery is above 0 and at most recovery_max, not {recovery_s:g} s")
        if success_threshold < 1:
            raise ValueError(f"success_threshold is at least 1, not {success_threshold}")
        if not unprobed_s > 0:
            raise ValueError(f"unprobed is longer than nothing, not {unprobed_s:g} s")
        self.recovery_s = recovery_s
        self.recovery_max_s = recovery_max_s
        self.success_threshold = success_threshold
        self.unprobed_s = unprobed_s
        self._breakers: dict[K, _Breaker] = {}
        for key in keys:
            self.add(key, now)

    # Members

    def add(self, key: K, now: float) -> None:
        """A backend joined the pool, closed. One that is known already keeps its state."""
        self._breakers.setdefault(key, _Breaker(now))

    def remove(self, key: K) -> None:
        """A backend left the pool. Those that are open stay so, even if fewer may be from now on."""
        self._breakers.pop(key, None)

    def remembered(self, key: K) -> Remembered | None:
        """Its whole state; None for one that has nothing to remember."""
        breaker = self._breakers[key]
        if breaker.state is State.CLOSED and not breaker.openings:
            return None
        return Remembered(
            state=breaker.state,
            since=breaker.since,
            until=breaker.until,
            reason=breaker.reason,
            opened_by=int(breaker.opened_by),
            openings=breaker.openings,
            opened_s=breaker.opened_s,
            successes=breaker.successes,
        )

    def restore(self, key: K, remembered: Remembered) -> None:
        """Be as another group was."""
        breaker = self._breakers[key]
        for name in Remembered.__struct_fields__:
            setattr(breaker, name, getattr(remembered, name))
        breaker.opened_by = Verdict(remembered.opened_by)

    # What is known

    def state(self, key: K) -> State:
        return self._breakers[key].state

    def reason(self, key: K) -> str:
        """Why it is in that state; empty for one that never left closed."""
        return self._breakers[key].reason

    def until(self, key: K) -> float | None:
        return self._breakers[key].until

    @property
    def limit(self) -> int:
        """How many may be out (open or half-open) at a time."""
        n = len(self._breakers)
        return max(1, n // 2) if n > 1 else 0

    @property
    def out(self) -> int:
        """How many are out."""
        return sum(breaker.state is not State.CLOSED for breaker in self._breakers.values())

    # What happens

    def trip(
        self, key: K, kind: Kind, reason: str, now: float, cause: Cause = Cause.CONSECUTIVE_FAILURES
    ) -> Transition[K] | Refused[K] | None:
        """A worker's detector tripped over `kind`, by the rule `cause`. None if it is open already: another worker was
        first to say so."""
        breaker = self._breakers.get(key)
        if breaker is None or breaker.state is State.OPEN:
            return None
        if breaker.state is State.CLOSED:
            if self.limit == 0:
                return Refused(key, f"{reason}; kept in use: it is the only backend of its pool")
            if (out := self.out) >= self.limit:
                return Refused(key, f"{reason}; kept in use: {out} of {len(self._breakers)} are out already")
            self._pay_back(breaker, now)
        return self._open(key, breaker, MEANING[kind].verdict, reason, cause, now)

    def probed(self, key: K, ok: bool, kind: Kind, now: float) -> Transition[K] | None:
        """A probe ended. One that ended without saying anything about the backend (the client left) does not count."""
        breaker = self._breakers.get(key)
        if breaker is None or breaker.state is not State.HALF_OPEN:
            return None
        meaning = MEANING[kind]
        if not ok:
            if meaning.verdict is Verdict.NONE:
                return None
            return self._open(key, breaker, meaning.verdict, f"probe failed: {meaning.word}", Cause.PROBE_FAILED, now)
        breaker.successes += 1
        if breaker.successes < self.success_threshold:
            breaker.until = now + self.unprobed_s
            return None
        count = f"{breaker.successes} probes" if breaker.successes > 1 else "probe"
        return self._close(key, breaker, f"{count} succeeded", now)

    def check_passed(self, key: K, down_to_up: bool, now: float) -> Transition[K] | None:
        """An active check passed; `down_to_up` if the backend was down until now."""
        breaker = self._breakers.get(key)
        if breaker is None or breaker.state is State.CLOSED or not down_to_up:
            return None
        if breaker.opened_by not in (Verdict.CONNECT, Verdict.TRANSPORT):
            return None
        return self._close(key, breaker, "active check passed again", now)

    def next_event(self, now: float) -> float | None:
        """When `advance` has something to do next (not before `now`); None while all are closed."""
        times = [breaker.until for breaker in self._breakers.values() if breaker.until is not None]
        return max(now, min(times)) if times else None

    def advance(self, now: float) -> list[Transition[K]]:
        """What became of time passing: open ones become half-open, half-open ones that nobody probed close."""
        transitions: list[Transition[K]] = []
        for key, breaker in self._breakers.items():
            if breaker.until is None or breaker.until > now:
                continue
            if breaker.state is State.OPEN:
                transitions.append(self._half_open(key, breaker, now))
            else:
                transitions.append(
                    self._close(key, breaker, f"no request to probe with for {self.unprobed_s:g} s", now)
                )
        return transitions

    # Steps

    def _open_for(self, openings: int) -> float:
        # The exponent is bounded: 2.0**1024 would overflow.
        return float(min(self.recovery_max_s, self.recovery_s * 2.0 ** min(openings - 1, 64)))

    def _pay_back(self, breaker: _Breaker, now: float) -> None:
        """One opening is forgotten for each time it stayed closed as long as that opening had cost."""
        credit = now - breaker.since
        while breaker.openings and credit >= (cost := self._open_for(breaker.openings)):
            credit -= cost
            breaker.openings -= 1

    def _open(
        self, key: K, breaker: _Breaker, verdict: Verdict, reason: str, cause: Cause, now: float
    ) -> Transition[K]:
        # Beyond the maximum more openings would only have to be paid back.
        if breaker.openings == 0 or self._open_for(breaker.openings) < self.recovery_max_s:
            breaker.openings += 1
        breaker.opened_by = verdict
        breaker.opened_s = self._open_for(breaker.openings)
        reason = f"{reason}; out for {breaker.opened_s:g} s"
        return self._enter(key, breaker, State.OPEN, reason, now, breaker.opened_s, cause)

    def _half_open(self, key: K, breaker: _Breaker, now: float) -> Transition[K]:
        breaker.successes = 0
        return self._enter(key, breaker, State.HALF_OPEN, f"probing after {breaker.opened_s:g} s", now, self.unprobed_s)

    def _close(self, key: K, breaker: _Breaker, reason: str, now: float) -> Transition[K]:
        return self._enter(key, breaker, State.CLOSED, reason, now, None)

    def _enter(
        self,
        key: K,
        breaker: _Breaker,
        state: State,
        reason: str,
        now: float,
        lasts_s: float | None,
        cause: Cause | None = None,
    ) -> Transition[K]:
        before = breaker.state
        breaker.state = state
        breaker.reason = reason
        breaker.since = now
        breaker.until = None if lasts_s is None else now + lasts_s
        return Transition(key, before, state, reason, breaker.until, cause)
