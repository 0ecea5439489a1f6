"""What one worker sees of a pool's backends: how attempts end, and what follows from it here and at the supervisor.

The detectors count, the supervisor decides. Between the two this worker avoids what its detector tripped over, and
holds the half-open probes that it has in flight.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from headgate.config import schema
from headgate.engine.stats import EJECTED, HALF_OPEN
from headgate.errors import Kind, Verdict
from headgate.resilience.cause import Cause
from headgate.resilience.detector import Detector
from headgate.resilience.penalty import Asking
from headgate.runtime.messages import Failed, Message, Penalty, Probed, Trip

if TYPE_CHECKING:
    from headgate.engine import Backend, Outcome, Segment

# The supervisor answers a trip within milliseconds. Two seconds without an answer mean that it knows better (too many
# are open already) or is gone: then what the states say holds again.
_UNANSWERED_S = 2.0
# Every request of a busy worker meets the same refused connection; one message says it.
_FAILED_EVERY_S = 1.0

BROKEN = EJECTED | HALF_OPEN


class Attempts:
    """clock: monotonic seconds. send: passes a message to the supervisor. changed: what `flags` says has changed."""

    def __init__(
        self,
        segment: Segment,
        worker: int,
        *,
        clock: Callable[[], float],
        send: Callable[[Message], object],
        changed: Callable[[], None],
    ) -> None:
        self._segment = segment
        self._worker = worker
        self._clock = clock
        self._send = send
        self._changed = changed
        self._detectors: dict[Backend, Detector] = {}
        self._asking: dict[Backend, Asking] = {}
        # Out of use as the states say; when one is back, its detector begins afresh.
        self._broken: set[Backend] = set()
        # Tripped here: avoided until the supervisor's answer shows, or until then.
        self._avoided: dict[Backend, float] = {}
        # Half-open probes of this worker that are in flight.
        self._probing: set[Backend] = set()
        self._failed_at: dict[Backend, float] = {}
        self._half_open: Sequence[Backend] = ()
        self._next_probe = 0
        self._count = 0

    # Who is watched

    def watch(self, backends: Iterable[Backend], breaker: schema.Breaker | None, *, anew: bool) -> None:
        """These are the pool's backends now. One detector for each, while the breaker is on. anew: its settings have
        changed."""
        members = list(backends)
        self._count = len(members)
        before = {} if anew else self._detectors
        self._detectors = {}
        if breaker is not None:
            self._detectors = {backend: before.get(backend) or _detector(breaker) for backend in members}
        self._asking = {backend: self._asking.get(backend) or Asking() for backend in members}

    def forget(self, left: Sequence[Backend]) -> None:
        """These are no longer among them."""
        for backend in left:
            self._avoided.pop(backend, None)
            self._failed_at.pop(backend, None)
            self._broken.discard(backend)
            self.unwatched(backend)

    def flags(self, backend: Backend) -> int:
        """A backend's state, with what this worker knows earlier than the supervisor."""
        flags = backend.flags
        if flags & BROKEN:
            self._broken.add(backend)
            self._avoided.pop(backend, None)  # the supervisor agreed, and decides from here on
        elif backend in self._avoided:
            flags |= EJECTED
        elif backend in self._broken:
            self._broken.discard(backend)
            if (detector := self._detectors.get(backend)) is not None:
                detector.reset()  # old failures must not add to the first new one
        return flags

    # What happens

    def outcome(self, backend: Backend, outcome: Outcome) -> None:
        """An attempt failed in a way that counts, or one at a half-open backend ended, or one was asked for less."""
        verdict = outcome.verdict
        if outcome.retry_after_s > 0:
            self._asked(backend, outcome)
        if verdict == Verdict.CONNECT:
            self._say_failed(backend, outcome.kind)
        if backend.watched:
            self._tried_half_open(backend, outcome)
        elif verdict > Verdict.SUCCESS:
            detector = self._detectors.get(backend)
            if detector is not None and not backend.flags & BROKEN and backend not in self._avoided:
                tripped = detector.failed(self._clock(), backend.succeeded)
                if tripped is not None:
                    word = Kind(outcome.kind).word.replace("_", " ")
                    answered = f" {outcome.status}" if outcome.status >= 500 else ""
                    self._trip(backend, outcome.kind, f"{tripped.reason}: {word}{answered}", tripped.cause)

    def _say_failed(self, backend: Backend, kind: int) -> None:
        now = self._clock()
        if now - self._failed_at.get(backend, now - _FAILED_EVERY_S) >= _FAILED_EVERY_S:
            self._failed_at[backend] = now
            self._send(Failed(backend.slot, kind))

    def _asked(self, backend: Backend, outcome: Outcome) -> None:
        asking = self._asking.get(backend)
        if asking is not None:
            for_s = asking.asked(outcome.status, outcome.retry_after_s, self._clock(), backend.succeeded)
            if for_s is not None:
                self._send(Penalty(backend.slot, outcome.status, for_s))

    def _trip(self, backend: Backend, kind: int, reason: str, cause: Cause) -> None:
        """Stop using the backend at once, as far as the cap allows, and let the supervisor decide."""
        out = len(self._broken) + len(self._avoided)
        if self._count > 1 and out < max(1, self._count // 2):
            self._avoided[backend] = self._clock() + _UNANSWERED_S
            self._changed()
        self._send(Trip(backend.slot, kind, reason, cause))

    # Half-open backends

    def offer(self, half_open: Sequence[Backend]) -> None:
        """These may be probed."""
        self._half_open = half_open

    def probe(self) -> Backend | None:
        """A half-open backend for this idempotent request, if nobody probes it yet. The engine asks."""
        for _ in self._half_open:
            self._next_probe = (self._next_probe + 1) % len(self._half_open)
            backend = self._half_open[self._next_probe]
            if backend not in self._probing and self._segment.claim_probe(backend.slot, self._worker):
                self._probing.add(backend)
                return backend
        return None

    def next_probe(self) -> Backend | None:
        """Whom `probe` would give now. Claims nothing."""
        for step in range(1, len(self._half_open) + 1):
            backend = self._half_open[(self._next_probe + step) % len(self._half_open)]
            if backend not in self._probing and self._segment.probe_holder(backend.slot) is None:
                return backend
        return None

    def unwatched(self, backend: Backend) -> None:
        """It is not half-open any more, whatever became of a probe."""
        if backend in self._probing:
            self._release(backend)

    def _tried_half_open(self, backend: Backend, outcome: Outcome) -> None:
        """Report it if it was a probe, or came by another way that is open now; attempts from before tell old news."""
        if outcome.verdict == Verdict.NONE:
            # Says nothing. A stale connection is replaced and the same request goes on: still the probe.
            if outcome.kind != Kind.STALE and backend in self._probing:
                self._release(backend)
        elif backend in self._probing or backend.eligible or backend.bound_ok:
            self._probing.discard(backend)
            self._send(Probed(backend.slot, outcome.verdict == Verdict.SUCCESS, outcome.kind))

    def _release(self, backend: Backend) -> None:
        """Give up a probe that told nothing, so that another request may be one."""
        self._probing.discard(backend)
        if self._segment.probe_holder(backend.slot) == self._worker:
            self._segment.release_probe(backend.slot)

    # Time

    def tick(self) -> bool:
        """Once a second. True: what `flags` says may have changed."""
        now = self._clock()
        for backend, detector in self._detectors.items():
            detector.sample(now, backend.succeeded)
        for backend in [backend for backend in self._probing if not backend.active]:
            self._release(backend)  # its attempt ended without a word
        late = [backend for backend, until in self._avoided.items() if until <= now]
        for backend in late:
            del self._avoided[backend]
        return bool(late or self._avoided)


def _detector(breaker: schema.Breaker) -> Detector:
    if breaker.failure_rate is None:
        # Only failures in a row: no share is ever taken of so many.
        return Detector(breaker.failure_threshold, window_s=breaker.window, minimum=sys.maxsize)
    return Detector(breaker.failure_threshold, breaker.failure_rate, breaker.window)
