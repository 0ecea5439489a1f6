"""Names to addresses, beside the traffic: nothing ever waits for a resolver but the thread that asks it.

getaddrinfo blocks for as long as the system's resolver likes (glibc: 5 s per try and server), so a few daemon threads
ask and the event loop gets the answers. The last good addresses of a name stay in use while lookups fail.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from asyncio import AbstractEventLoop, Event, TimerHandle, timeout
from collections.abc import Callable, Sequence
from random import Random

from headgate.runtime.address import literal_address, pack_address

log = logging.getLogger("headgate.discovery")

# A change of address is noticed within the 10 s the documentation promises. A fixed time, since getaddrinfo does not
# tell the TTL; a resolver between here and the zone keeps to that.
INTERVAL_S = 10.0
# Connect failures ask for a lookup at once, but a dead backend under load would ask thousands of times a second.
SOONEST_S = 1.0
# glibc's default for one try at one server. After that the lookup counts as failed; its answer is still welcome.
PATIENCE_S = 5.0
# Lookups mostly wait: enough that a few hanging names do not hold up the others.
THREADS = 8

Name = tuple[str, int]
Lookup = Callable[[str, int], Sequence[bytes]]


def system_lookup(host: str, port: int) -> list[bytes]:
    """Packed addresses of a name from the system's resolver, in its order (RFC 6724), without doubles.

    Raises OSError (socket.gaierror) when there are none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or longer than 63 bytes
        raise OSError(f"not a host name: {error}") from error
    packed = [pack_address(item[0], item[4]) for item in found if item[0] in (socket.AF_INET, socket.AF_INET6)]
    return list(dict.fromkeys(packed))


class _Watched:
    """One name and what is known of it."""

    __slots__ = ("addresses", "asked", "count", "deadline", "due", "failing", "pending", "timer")

    def __init__(self) -> None:
        self.count = 0  # how many backends want it
        self.addresses: list[bytes] = []
        self.asked = float("-inf")
        self.pending = False
        self.failing = ""  # the text of the last failure, "" while lookups work
        self.timer: TimerHandle | None = None
        self.deadline: TimerHandle | None = None


class Resolver:
    """Keeps the addresses of names up to date and reports every change.

    loop: where everything but the lookups runs. changed: called with (host, port), the new addresses, and the reason
    when there are none; also once after the first lookup of a name, whatever came of it. lookup: blocking, called in
    threads. random: for the jitter that keeps a thousand names from being asked in one moment.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        changed: Callable[[Name, list[bytes], str], None],
        *,
        lookup: Lookup = system_lookup,
        random: Random | None = None,
        interval_s: float = INTERVAL_S,
        soonest_s: float = SOONEST_S,
        patience_s: float = PATIENCE_S,
        threads: int = THREADS,
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._lookup = lookup
        self._random = random or Random()
        self._interval_s = interval_s
        self._soonest_s = soonest_s
        self._patience_s = patience_s
        self._most_threads = threads
        self._threads = 0
        self._names: dict[Name, _Watched] = {}
        self._queue: queue.SimpleQueue[Name | None] = queue.SimpleQueue()
        self._unanswered: set[Name] = set()
        self._settled = Event()
        self._settled.set()
        self._closed = False

    def watch(self, host: str, port: int, known: Sequence[bytes] = ()) -> list[bytes]:
        """Begin to follow a name (counted: every `watch` has its `unwatch`); returns what is known of it now.

        A numeric address is answered at once, and never asked for. known: addresses from earlier, good until the first
        answer.
        """
        literal = literal_address(host, port)
        if literal is not None:
            return [literal]
        watched = self._names.get((host, port))
        if watched is None:
            watched = self._names[host, port] = _Watched()
            watched.addresses = list(known)
            self._unanswered.add((host, port))
            self._settled.clear()
            self._ask((host, port))
        watched.count += 1
        return watched.addresses

    def unwatch(self, host: str, port: int) -> None:
        """Stop following a name; harmless for numeric addresses."""
        watched = self._names.get((host, port))
        if watched is None:
            return
        watched.count -= 1
        if watched.count == 0:
            del self._names[host, port]
            self._stop_timers(watched)
            self._answered((host, port))

    def refresh(self, host: str, port: int) -> None:
        """Connections to it fail: ask again now, though not more often than every `soonest_s`."""
        watched = self._names.get((host, port))
        if watched is None or watched.pending:
            return
        wait = watched.asked + self._soonest_s - self._loop.time()
        if wait <= 0:
            self._ask((host, port))
        else:
            self._ask_later((host, port), watched, wait)

    def reason(self, host: str, port: int) -> str:
        """Why a name has no addresses, or why they are old: "" while lookups work."""
        watched = self._names.get((host, port))
        if watched is None:
            return ""
        return watched.failing or ("" if watched.addresses else "not resolved yet")

    async def settled(self, timeout_s: float) -> bool:
        """Wait until every name has been answered once, well or badly; false when time ran out first."""
        try:
            async with timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Forget everything. Threads that hang in a lookup are daemons: they hold up nothing."""
        self._closed = True
        for watched in self._names.values():
            self._stop_timers(watched)
        self._names.clear()
        self._unanswered.clear()
        self._settled.set()
        for _ in range(self._threads):
            self._queue.put(None)

    def _ask(self, name: Name) -> None:
        watched = self._names.get(name)
        if watched is None or watched.pending or self._closed:
            return
        self._stop_timers(watched)
        watched.asked = self._loop.time()
        watched.pending = True
        watched.deadline = self._loop.call_later(self._patience_s, self._lost_patience, name)
        if self._threads < self._most_threads:
            self._threads += 1
            threading.Thread(target=self._work, name=f"headgate-resolver-{self._threads}", daemon=True).start()
        self._queue.put(name)

    def _ask_later(self, name: Name, watched: _Watched, wait_s: float) -> None:
        if watched.timer is not None:
            watched.timer.cancel()
        watched.timer = self._loop.call_later(wait_s, self._ask, name)

    def _work(self) -> None:
        while (name := self._queue.get()) is not None:
            addresses: list[bytes] = []
            reason = ""
            try:
                addresses = list(self._lookup(*name))
                if not addresses:
                    reason = "the name has no address"
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
            except Exception as error:  # an injected lookup may raise anything; the thread must live
                reason = f"{type(error).__name__}: {error}"
            if self._closed:
                return
            try:
                self._loop.call_soon_threadsafe(self._arrived, name, addresses, reason)
            except RuntimeError:  # the loop has been closed
                return

    def _lost_patience(self, name: Name) -> None:
        watched = self._names.get(name)
        if watched is not None and watched.pending:
            self._report(name, watched, [], f"no answer from the resolver within {self._patience_s:g} s")

    def _arrived(self, name: Name, addresses: list[bytes], reason: str) -> None:
        watched = self._names.get(name)
        if watched is None or not watched.pending:
            return
        watched.pending = False
        self._stop_timers(watched)
        # Up to a tenth earlier, never later: names that began together must not be asked together for ever.
        self._ask_later(name, watched, self._interval_s * self._random.uniform(0.9, 1.0))
        self._report(name, watched, addresses, reason)

    def _report(self, name: Name, watched: _Watched, addresses: list[bytes], reason: str) -> None:
        first = name in self._unanswered
        self._answered(name)
        host = name[0]
        if not addresses:
            if reason != watched.failing:
                kept = "the last good addresses stay in use" if watched.addresses else "it has no address yet"
                log.warning("name %s does not resolve: %s; %s", host, reason, kept)
            changed = first or (not watched.addresses and reason != watched.failing)
            watched.failing = reason
            if changed:
                self._changed(name, watched.addresses, reason)
            return
        if watched.failing:
            log.info("name %s resolves again", host)
        watched.failing = ""
        # Round-robin DNS turns the order with every answer; that is no change.
        if first or set(addresses) != set(watched.addresses):
            watched.addresses = addresses
            self._changed(name, addresses, "")

    def _answered(self, name: Name) -> None:
        self._unanswered.discard(name)
        if not self._unanswered:
            self._settled.set()

    @staticmethod
    def _stop_timers(watched: _Watched) -> None:
        for handle in (watched.timer, watched.deadline):
            if handle is not None:
                handle.cancel()
        watched.timer = watched.deadline = None
