"""What is known of each backend, and how it gets into the shared segment and the log.

Only the supervisor writes backend states. Several things may be wrong with a backend at once; the flags say all of
them, and the reason names the one an operator should look at first.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from headgate.config.schema import Backend
from headgate.engine import stats
from headgate.resilience.breaker import State as Breaker

log = logging.getLogger("headgate.control")

# Enough for the story of a bad night, and bounded: a flapping backend writes a few lines a minute.
EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """A change of state. time: seconds since 1970. what: "up", "down", "ejected", "half-open", "readmitted"...

    number: counts them from 1, in this run. pool, backend: "" where it is about neither.
    """

    number: int
    time: float
    pool: str
    backend: str
    what: str
    reason: str


@dataclass(slots=True)
class BackendRecord:
    """One backend."""

    pool: str
    config: Backend
    slot: int
    enabled: bool = True
    draining: bool = False
    draining_until: str = ""
    """When the drain's deadline comes (RFC 3339, UTC); "" = it has none."""
    drained: bool = False
    """The drain's deadline has passed: bound sessions have moved on, too."""
    checked: bool = False
    up: bool = False
    health_reason: str = "not checked yet"
    breaker: Breaker = Breaker.CLOSED
    breaker_reason: str = ""
    addresses: list[bytes] = field(default_factory=list)
    ramp: tuple[int, int] = (0, 0)
    """(from_ms, ms): its share grows from that moment on (CLOCK_MONOTONIC), for so long; (0, 0) = it has all of it."""
    penalty: int = 0
    """The status (429, 503) by which it asked for that ramp; 0 = it starts slowly, or has no ramp."""
    written: tuple[int, int, str, tuple[int, int], int] | None = None

    @property
    def name(self) -> str:
        """As the log calls it: "web/http://127.0.0.1:9001"."""
        return f"{self.pool}/{self.config.name}"

    @property
    def flags(self) -> int:
        """`BackendFlag` bits."""
        return (
            stats.PRESENT
            | (stats.ENABLED if self.enabled else 0)
            | (stats.DRAINING if self.draining else 0)
            | (stats.DRAINED if self.drained else 0)
            | (stats.CHECKED if self.checked else 0)
            | (stats.UP if self.up else 0)
            | (stats.EJECTED if self.breaker is Breaker.OPEN else 0)
            | (stats.HALF_OPEN if self.breaker is Breaker.HALF_OPEN else 0)
        )

    @property
    def weight(self) -> int:
        """As configured."""
        return self.config.weight

    @property
    def priority(self) -> int:
        """As configured."""
        return self.config.priority

    @property
    def factor(self) -> float:
        """1: who is routable does not depend on who starts slowly."""
        return 1.0

    @property
    def routable(self) -> bool:
        """May take new requests, panic left aside."""
        return self.enabled and not self.draining and self.checked and self.up and self.breaker is Breaker.CLOSED

    @property
    def reason(self) -> str:
        """Why it is in its state, for the status page."""
        if not self.enabled:
            return "disabled"
        if self.drained:
            return "drained: the deadline has passed"
        if self.draining:
            return self._draining
        if not self.up or not self.checked or self.breaker is Breaker.CLOSED:
            return self.health_reason
        return self.breaker_reason

    @property
    def _draining(self) -> str:
        return f"draining, bound sessions may stay until {self.draining_until}" if self.draining_until else "draining"

    @property
    def reasons(self) -> list[str]:
        """Everything that keeps it from new sessions, the first to look at first; empty when nothing does."""
        found = []
        if not self.enabled:
            found.append("disabled")
        if self.draining:
            found.append("drained: the deadline has passed" if self.drained else self._draining)
        if not self.checked or not self.up:
            found.append(f"{'down' if self.checked else 'not checked'}: {self.health_reason}")
        if self.breaker is not Breaker.CLOSED:
            found.append(f"{self.breaker.name.lower().replace('_', '-')}: {self.breaker_reason}")
        if self.config.weight == 0:
            found.append("weight 0")
        return found


class States:
    """Writes records into the segment, and remembers and logs what changed.

    segment: the shared segment. soon: runs a function a little later (`loop.call_soon`): a hundred changes in one turn
    of the loop raise the generation once. wall: seconds since 1970.
    """

    def __init__(
        self,
        segment: stats.Segment,
        soon: Callable[[Callable[[], None]], object],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._segment = segment
        self._soon = soon
        self._wall = wall
        self._announced = False
        self._closed = False
        self._numbers = itertools.count(1)
        self.events: deque[Event] = deque(maxlen=EVENTS)
        """The last changes, oldest first."""
        self.on_event: Callable[[], None] = lambda: None
        """Called after each that is added. What it is about may not be in the segment yet."""

    def write(self, record: BackendRecord) -> None:
        """Bring the segment up to date with the record, if it is not."""
        wanted = (record.flags, record.config.weight, record.reason, record.ramp, record.penalty)
        if record.written == wanted:
            return
        changed = record.written is None or record.written[0] != wanted[0]
        record.written = wanted
        self._segment.set_backend(
            record.slot,
            flags=wanted[0],
            weight=wanted[1],
            reason=wanted[2],
            since_ms=int(self._wall() * 1000) if changed else None,
            ramp=wanted[3],
            penalty=wanted[4],
        )
        self._announce()

    def recall(self, record: BackendRecord) -> None:
        """The segment has this backend's state from the process before: what is so already is not written anew."""
        flags, weight, reason, _ = self._segment.backend_state(record.slot)
        record.ramp = self._segment.backend_ramp(record.slot)
        record.penalty = self._segment.backend_penalty(record.slot)
        record.written = (flags, weight, reason, record.ramp, record.penalty)

    def withdraw(self, record: BackendRecord) -> None:
        """The backend is gone: no worker may pick it from now on. Its counters stay until the slot is used again."""
        record.written = None
        self._segment.set_backend(record.slot, flags=0, reason="removed", since_ms=int(self._wall() * 1000))
        self._announce()

    def clear(self, slots: Iterable[int]) -> None:
        """These slots are free: nothing of their last backend may show in the next one's numbers."""
        for slot in slots:
            self._segment.clear_backend(slot)

    def free_probe(self, record: BackendRecord) -> None:
        """Let the next half-open probe begin with nobody holding it."""
        self._segment.release_probe(record.slot)

    def happened(self, record: BackendRecord, what: str, reason: str, *, quiet: bool = False) -> None:
        """Remember an event and log it: `backend web/http://127.0.0.1:9001 down: 3 checks failed: connection refused`.

        quiet: a matter of course, for the debug level.
        """
        self._remember(record.pool, record.config.name, what, reason)
        level = logging.DEBUG if quiet else logging.WARNING if what in ("down", "ejected", "failing") else logging.INFO
        log.log(level, "backend %s %s%s", record.name, what, f": {reason}" if reason else "")

    def note(self, what: str, reason: str, pool: str = "", *, quiet: bool = False) -> None:
        """Remember an event that is not about one backend, and log it: `reloaded: pool web: …`."""
        self._remember(pool, "", what, reason)
        where = f"pool {pool}: " if pool else ""
        log.log(logging.DEBUG if quiet else logging.INFO, "%s%s%s", where, what, f": {reason}" if reason else "")

    def _remember(self, pool: str, backend: str, what: str, reason: str) -> None:
        self.events.append(Event(next(self._numbers), self._wall(), pool, backend, what, reason))
        self.on_event()

    def pool_happened(self, pool: str, what: str, reason: str) -> None:
        """The same for a pool as a whole, with its own level."""
        self._remember(pool, "", what, reason)
        level = logging.WARNING if what in ("panic", "nothing routable") else logging.INFO
        log.log(level, "pool %s: %s: %s", pool, what, reason)

    def _announce(self) -> None:
        if not self._announced:
            self._announced = True
            self._soon(self._bump)

    def settle(self) -> None:
        """Announce at once what waits to be announced, if anything does."""
        if self._announced:
            self._bump()

    def close(self) -> None:
        """The segment may be gone from now on: announce nothing more."""
        self._closed = True

    def _bump(self) -> None:
        self._announced = False
        if not self._closed:
            self._segment.bump_generation()
