"""All active checks of one machine: when each is due, how many run at once, and what their results add up to.

One timer serves all backends: a heap of (time, backend) whose stale entries are skipped when they come up. Checks
that began in one round drift apart by their jitter, so the load of checking does not come in waves.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import resource
from asyncio import AbstractEventLoop, Event, TimerHandle, timeout
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from headgate.health.check import Check, Poller, Probe, Result, Secured
from headgate.health.introduction import Introduction
from headgate.resilience.health_state import FAST_INTERVAL_S, HealthState, State, Transition

log = logging.getLogger("headgate.health")

# Each check under way holds a descriptor. 1,024 hanging checks of 2 s each still make 500 a second.
MOST_IN_FLIGHT = 1024
# What is due this soon is done now: one wake-up for many.
_SLACK_S = 0.005
# How long the rest of an answer may be read after its verdict.
_LINGER_S = 1.0
# The complaint that we ourselves have no descriptors comes once in so many seconds.
_COMPLAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How one backend is checked. Times in seconds."""

    probe: Probe
    interval_s: float
    timeout_s: float
    fall: int
    rise: int
    introduction: Introduction | None = None  # said before the probe, and before TLS
    tls: Secured | None = None
    """How TLS is spoken; None: plain."""


class _Watched:
    __slots__ = (
        "addresses",
        "check",
        "last_step",
        "plan",
        "queued",
        "slot",
        "started",
        "state",
        "token",
    )

    def __init__(self, slot: int, plan: Plan, addresses: Sequence[bytes]) -> None:
        self.slot = slot
        self.plan = plan
        self.addresses = list(addresses)
        self.state = HealthState(fall=plan.fall, rise=plan.rise, interval_s=plan.interval_s)
        self.check: Check | None = None
        self.queued = False
        self.started = 0.0
        self.last_step = float("-inf")
        self.token = 0  # heap entries with another one are stale


class Monitor:
    """Runs the checks and reports every change of state.

    loop: where it runs. changed: called with (slot, transition) when a backend goes up or down, first of all when
    its first check has ended. urgent: tells whether one pass is to be enough for this slot (nothing else in its pool
    can be used). judged: called with (slot, passed) for every check that has a result. random: for jitter.
    most_in_flight: checks at a time; MOST_IN_FLIGHT, or fewer where descriptors are scarce, when not given.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        changed: Callable[[int, Transition], None],
        *,
        urgent: Callable[[int], bool] = lambda slot: False,
        judged: Callable[[int, bool], None] = lambda slot, ok: None,
        random: Random | None = None,
        most_in_flight: int | None = None,
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._urgent = urgent
        self._judge = judged
        self._random = random or Random()
        # Half of what the process may have open at most: connections to workers and lookups need some, too.
        open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_in_flight = most_in_flight or max(1, min(MOST_IN_FLIGHT, open_files // 2))
        self._poller = Poller(loop.add_reader, loop.remove_reader)
        self._backends: dict[int, _Watched] = {}
        self._heap: list[tuple[float, int, _Watched | None, int, Check | None]] = []
        self._order = itertools.count()
        self._timer: TimerHandle | None = None
        self._timer_at = float("inf")
        self._ready: deque[_Watched] = deque()
        self._in_flight = 0
        self._pumping = False
        self._unchecked: set[int] = set()
        self._round_done = Event()
        self._round_done.set()
        self._complained = float("-inf")

    @property
    def in_flight(self) -> int:
        """Checks under way."""
        return self._in_flight

    def watch(self, slot: int, plan: Plan, addresses: Sequence[bytes]) -> None:
        """Check this backend from now on; the first check starts at once. Without addresses it waits for some.

        For a slot that is watched already this changes the plan; state and counts stay.
        """
        known = self._backends.get(slot)
        if known is not None:
            known.plan = plan
            state = known.state
            state.fall, state.rise, state.interval_s = plan.fall, plan.rise, plan.interval_s
            self.set_addresses(slot, addresses)
            if known.check is None and not known.queued and known.addresses:
                self._schedule(known, known.state.next_delay(self._random))
            return
        watched = self._backends[slot] = _Watched(slot, plan, addresses)
        if watched.addresses:
            self._unchecked.add(slot)
            self._round_done.clear()
            self._schedule(watched, 0.0)

    def remember(self, slot: int, *, up: bool, reason: str) -> None:
        """What earlier checks (of another process) came to: the next one is not the first."""
        watched = self._backends[slot]
        watched.state.state = State.UP if up else State.DOWN
        watched.state.reason = reason
        self._settle(slot)

    def unwatch(self, slot: int) -> None:
        """Stop checking it. Nothing is reported for it any more."""
        watched = self._backends.pop(slot, None)
        if watched is None:
            return
        self._abandon(watched)
        self._settle(slot)

    def set_addresses(self, slot: int, addresses: Sequence[bytes]) -> None:
        """The backend's name has moved: check the new addresses now, if any is new."""
        watched = self._backends.get(slot)
        if watched is None:
            return
        new = set(addresses) - set(watched.addresses)
        watched.addresses = list(addresses)
        if not addresses:
            self._abandon(watched)
            self._settle(slot)
        elif new and watched.check is None and not watched.queued:
            if watched.state.state is State.UNCHECKED:
                self._unchecked.add(slot)
                self._round_done.clear()
            self._schedule(watched, 0.0)

    def connect_failed(self, slot: int, reason: str) -> None:
        """A connection in traffic could not be made: one step of `fall`, at most one a second, and a check soon."""
        watched = self._backends.get(slot)
        now = self._loop.time()
        # Every worker meets the same dead backend in the same instant: that is one observation, not eight.
        if watched is None or now - watched.last_step < FAST_INTERVAL_S:
            return
        watched.last_step = now
        changed = watched.state.traffic_connect_failure(reason)
        if changed is not None:
            self._changed(slot, changed)
        if watched.check is None and not watched.queued:
            self._schedule(watched, watched.state.next_delay(self._random))

    async def first_round(self, timeout_s: float) -> bool:
        """Wait until every backend with an address has been checked once; false when time ran out first."""
        try:
            async with timeout(timeout_s):
                await self._round_done.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Stop everything."""
        for slot in list(self._backends):
            self.unwatch(slot)
        for _, _, _, _, check in self._heap:
            if check is not None:
                check.cancel()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._poller.close()

    # When

    def _schedule(self, watched: _Watched, delay_s: float) -> None:
        watched.token += 1
        self._push(delay_s, watched, None)

    def _push(self, delay_s: float, watched: _Watched | None, check: Check | None) -> None:
        when = self._loop.time() + delay_s
        token = watched.token if watched is not None else 0
        heapq.heappush(self._heap, (when, next(self._order), watched, token, check))
        self._arm()

    def _arm(self) -> None:
        if not self._heap:
            return
        when = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        limit = self._loop.time() + _SLACK_S
        while self._heap and self._heap[0][0] <= limit:
            _, _, watched, token, check = heapq.heappop(self._heap)
            if watched is None:
                assert check is not None
                check.expire()  # the rest of an answer that does not end
            elif token != watched.token:
                continue
            elif watched.check is not None:
                self._expired(watched)
            else:
                watched.queued = True
                self._ready.append(watched)
        self._pump()
        self._arm()

    # What

    def _pump(self) -> None:
        """Start what is ready, as far as there is room. A check may end while it starts: hence a loop, no recursion."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._ready and self._in_flight < self._most_in_flight:
                watched = self._ready.popleft()
                if watched.queued:
                    watched.queued = False
                    self._start(watched)
        finally:
            self._pumping = False

    def _start(self, watched: _Watched) -> None:
        watched.token += 1
        token = watched.token
        check = Check(
            self._poller,
            watched.addresses,
            watched.plan.probe,
            lambda result: self._ended(watched, token, check, result),
            watched.plan.introduction,
            watched.plan.tls,
        )
        watched.check = check
        watched.started = self._loop.time()
        self._in_flight += 1
        check.start()
        if watched.check is check:
            self._push(watched.plan.timeout_s / check.count, watched, None)

    def _expired(self, watched: _Watched) -> None:
        """The address that is being tried may have used up its time: address i has until (i + 1) / n of the timeout."""
        check = watched.check
        assert check is not None
        now = self._loop.time()
        share = watched.plan.timeout_s / check.count
        if now + _SLACK_S >= watched.started + share * (check.index + 1):
            check.expire()
        if watched.check is check:
            self._push(watched.started + share * (check.index + 1) - now, watched, None)

    def _ended(self, watched: _Watched, token: int, check: Check, result: Result | None) -> None:
        self._in_flight -= 1
        watched.check = None
        if check.open:
            self._push(_LINGER_S, None, check)
        if result is None:
            self._complain(watched)
            self._schedule(watched, min(watched.plan.interval_s, FAST_INTERVAL_S))
        else:
            self._judged(watched, result)
            if self._backends.get(watched.slot) is watched:
                self._schedule(watched, watched.state.next_delay(self._random))
        self._settle(watched.slot)
        self._pump()

    def _judged(self, watched: _Watched, result: Result) -> None:
        """A check more: report what it changes."""
        state = watched.state
        self._judge(watched.slot, result.ok)
        if result.ok:
            changed = state.passed(state.state is State.DOWN and self._urgent(watched.slot))
        else:
            changed = state.failed(result.detail)
        if changed is not None:
            self._changed(watched.slot, changed)

    def _complain(self, watched: _Watched) -> None:
        now = self._loop.time()
        if now - self._complained >= _COMPLAIN_S:
            self._complained = now
            log.error("health checks cannot run: this process has no free descriptor, port or memory; not counted")

    def _abandon(self, watched: _Watched) -> None:
        watched.token += 1
        watched.queued = False
        if watched.check is not None:
            watched.check.cancel()
            watched.check = None
            self._in_flight -= 1
            self._pump()

    def _settle(self, slot: int) -> None:
        self._unchecked.discard(slot)
        if not self._unchecked:
            self._round_done.set()
