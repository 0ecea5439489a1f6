"""The backends as they are: slots, addresses, checks and breakers, and the state that follows from them.

Everything that is seen of a backend ends here, whoever saw it (the monitor, the resolver, a worker), and leaves through
`States` into the shared segment.
"""

from __future__ import annotations

import socket
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Collection, Mapping
from random import Random

from headgate.config.schema import Backend, Config, Health
from headgate.discovery.dns import Lookup, Resolver, system_lookup
from headgate.engine import stats
from headgate.errors import MEANING, Kind, Verdict
from headgate.health.monitor import Monitor
from headgate.health.plan import check_addresses, plan_for
from headgate.observe.status import moment
from headgate.resilience import breaker, health_state
from headgate.resilience.cause import Cause
from headgate.runtime.address import pack_address
from headgate.runtime.breakers import Breakers
from headgate.runtime.drains import Drains
from headgate.runtime.knowledge import Knowledge, KnownBackend
from headgate.runtime.outlook import Outlook
from headgate.runtime.ramps import Ramps
from headgate.runtime.slots import SlotTable
from headgate.runtime.states import BackendRecord, States
from headgate.runtime.traffic import TrafficSlots
from headgate.tls.built import Built

Key = tuple[str, str]  # pool name, backend name

_BREAKER_WORDS = {
    breaker.State.OPEN: "ejected",
    breaker.State.HALF_OPEN: "half-open",
    breaker.State.CLOSED: "readmitted",
}


class Fleet:
    """All backends of all pools. For the arguments see `Controller`.

    moved: called with (slot, addresses) when a backend's name has new addresses.
    """

    def __init__(
        self,
        segment: stats.Segment,
        moved: Callable[[int, list[bytes]], None],
        *,
        loop: AbstractEventLoop,
        lookup: Lookup = system_lookup,
        random: Random | None = None,
        now: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
        knowledge: Knowledge | None = None,
        same_segment: bool = False,
    ) -> None:
        """knowledge: from the process before (an upgrade). same_segment: it wrote into this very segment."""
        random = random or Random()
        self._segment = segment
        self._moved = moved
        self._loop = loop
        self._wall = wall
        self._config = Config()
        self._built = Built()
        self._starting = True  # a thousand backends that come up at the start are no news
        self.states = States(segment, loop.call_soon, wall)
        self.records: dict[Key, BackendRecord] = {}
        self._by_name: dict[tuple[str, int], list[BackendRecord]] = {}
        self._slots: SlotTable[Key] = SlotTable(segment.backend_capacity, self._busy)
        self._pool_slots: SlotTable[str] = SlotTable(segment.pool_capacity)
        self.traffic = TrafficSlots(segment)
        """Where listeners and routes count."""
        self._resolver = Resolver(loop, self._resolved, lookup=lookup, random=random)
        self._monitor = Monitor(loop, self._health_changed, urgent=self._urgent, random=random, judged=self._checked)
        self._drains = Drains(loop, self._drain_over)
        self._ramps = Ramps(loop, self._ramp_over, now=now or time.monotonic)
        self._outlook = Outlook(self.states, loop.call_soon, self._members)
        self._breakers = Breakers(loop, self._breaker_changed, self._breaker_refused, now=now or loop.time)

        self._before: dict[Key, KnownBackend] = {}
        self._same_segment = same_segment
        if knowledge is not None:
            self._before = {(known.pool, known.name): known for known in knowledge.backends}
            if same_segment:
                self._take_over_slots(knowledge)

    def _take_over_slots(self, knowledge: Knowledge) -> None:
        for known in knowledge.backends:
            self._slots.reserve((known.pool, known.name), known.slot)
        for pool, slot in knowledge.pools.items():
            self._pool_slots.reserve(pool, slot)
        for slot in knowledge.resting_backends:
            self._slots.rest(slot, 0)
        for slot in knowledge.resting_pools:
            self._pool_slots.rest(slot, 0)
        self.traffic.take_over(knowledge)

    def knowledge(self) -> Knowledge:
        """All that is known, for the process that comes after this one."""
        return Knowledge(
            backends=[
                KnownBackend(
                    pool=record.pool,
                    name=record.config.name,
                    url=record.config.url.text,
                    slot=record.slot,
                    checked=record.checked,
                    up=record.up,
                    reason=record.health_reason,
                    addresses=record.addresses,
                    breaker=self._breakers.remembered(record.pool, record.slot),
                )
                for record in self.records.values()
            ],
            pools=self.pool_slots,
            resting_backends=self._slots.resting_slots(),
            resting_pools=self._pool_slots.resting_slots(),
            **self.traffic.knowledge(),
        )

    @property
    def pool_slots(self) -> dict[str, int]:
        """Pool name -> slot."""
        return dict(self._pool_slots.items())

    @property
    def backend_slots(self) -> dict[Key, int]:
        """(pool name, backend name) -> slot."""
        return dict(self._slots.items())

    @property
    def in_panic(self) -> Collection[str]:
        """The pools in which ejected backends are used, since too few others are left."""
        return self._outlook.in_panic

    @property
    def stand_ins(self) -> Mapping[str, str]:
        """The pools in which nothing is routable -> what serves in their place; see `runtime.outlook`."""
        return self._outlook.stand_ins

    @property
    def resting(self) -> int:
        """Freed slots that may not be given away yet."""
        return self._slots.resting + self._pool_slots.resting + self.traffic.resting

    def at(self, slot: int) -> BackendRecord | None:
        """The backend in this slot; None when it has been removed."""
        key = self._slots.key(slot)
        return self.records.get(key) if key is not None else None

    async def first_round(self, timeout_s: float) -> bool:
        """Wait for names and first checks; false when time ran out with some of them still unknown."""
        deadline = self._loop.time() + timeout_s
        settled = await self._resolver.settled(timeout_s)
        checked = await self._monitor.first_round(max(0.0, deadline - self._loop.time()))
        self._starting = False
        self._outlook.settle()
        return settled and checked

    def close(self) -> None:
        """Stop checking and resolving."""
        self._monitor.close()
        self._resolver.close()
        self._breakers.close()
        self._drains.close()
        self._ramps.close()
        self.states.close()

    # Which backends there are

    def apply(self, config: Config, generation: int, built: Built) -> None:
        """Become this configuration. `generation` is the snapshot that will tell the workers; `built` has the contexts
        that https backends are checked with.

        Raises ValueError, with nothing changed, when there is no room for it in the segment.
        """
        wanted = {(name, backend.name): backend for name, pool in config.pools.items() for backend in pool.backends}
        gone = [key for key, record in self.records.items() if not _stays(record, wanted.get(key))]
        new = [key for key in wanted if (key not in self.records and self._slots.get(key) is None) or key in gone]
        # What is freed now rests for a moment: it makes no room for what comes now.
        if len(self._slots) + self._slots.resting + len(new) > self._slots.capacity:
            raise ValueError(f"there is no room for so many backends: the segment holds {self._slots.capacity}")
        new_pools = config.pools.keys() - self.pool_slots.keys()
        if len(self._pool_slots) + self._pool_slots.resting + len(new_pools) > self._pool_slots.capacity:
            raise ValueError(f"there is no room for so many pools: the segment holds {self._pool_slots.capacity}")
        old, self._config = self._config, config
        old_built, self._built = self._built, built
        for key in gone:
            self._remove(key, generation)
        for name in old.pools.keys() - config.pools.keys():
            self._pool_slots.release(name, generation)
            self._breakers.remove_pool(name)
            self._ramps.forget_pool(name)
        self.traffic.apply(config, generation)
        for name, pool in config.pools.items():
            self._pool_slots.take(name)
            self._breakers.configure(name, pool.breaker)
        self._outlook.configure(config.pools)
        for key, backend in wanted.items():
            pool = config.pools[key[0]]
            record = self.records.get(key)
            if record is None:
                self._add(key, backend, pool.health, generation)
            else:
                before = old.pools[key[0]]
                record.config = backend
                if (before.health, before.proxy_protocol) != (pool.health, pool.proxy_protocol) or (
                    backend.url.tls and (before.tls != pool.tls or old_built.of_pool(before) is not built.of_pool(pool))
                ):
                    self._check(record, pool.health)
                self._write(record)
        self._forget_what_was(generation)

    def _forget_what_was(self, generation: int) -> None:
        """Backends of the process before that this one does not have: their slots rest, like those of removed ones."""
        if not self._before:
            return
        if self._same_segment:
            for key in self._before.keys() - self.records.keys():
                self._segment.set_backend(self._slots.release(key, generation), flags=0, reason="removed")
            for name in self.pool_slots.keys() - self._config.pools.keys():
                self._pool_slots.release(name, generation)
        self._before.clear()

    def enable(self, record: BackendRecord) -> None:
        """The administrator wants it back. Nothing happens when it was not gone."""
        self._drains.cancel(record.slot)
        self._administer(record, "enabled", enabled=True, draining=False)

    def disable(self, record: BackendRecord) -> None:
        """The administrator wants no new request to go there."""
        self._drains.cancel(record.slot)
        self._administer(record, "disabled", enabled=False, draining=False)

    def drain(self, record: BackendRecord, deadline_s: float | None) -> None:
        """No new sessions; what is bound to it moves on after `deadline_s` seconds (None: never)."""
        self._drains.begin(record.slot, deadline_s)
        record.draining_until = "" if deadline_s is None else moment(int((self._wall() + deadline_s) * 1000))
        until = "" if deadline_s is None else f"bound sessions may stay for {deadline_s:g} s"
        self._administer(record, "draining", until, enabled=True, draining=True)

    def _administer(
        self,
        record: BackendRecord,
        what: str,
        reason: str = "",
        *,
        enabled: bool,
        draining: bool,
        drained: bool = False,
    ) -> None:
        wanted = (enabled, draining, drained)
        if (record.enabled, record.draining, record.drained) != wanted:
            record.enabled, record.draining, record.drained = wanted
            self._write(record)
            self.states.happened(record, what, reason)
        elif draining:
            self._write(record)  # another deadline

    def _drain_over(self, slot: int) -> None:
        record = self.at(slot)
        if record is not None:
            self._administer(
                record, "drained", "the deadline has passed", enabled=record.enabled, draining=True, drained=True
            )

    def recycle(self, acknowledged: int) -> None:
        """Every worker runs at least this generation: free the slots that no worker knows any more."""
        self.states.clear(self._slots.recycle(acknowledged))
        for slot in self._pool_slots.recycle(acknowledged):
            self._segment.clear_pool(slot)
        self.traffic.recycle(acknowledged)

    def _busy(self, slot: int) -> bool:
        return self._segment.backend_active(slot) > 0

    def _add(self, key: Key, backend: Backend, health: Health, generation: int) -> None:
        known = self._before.get(key)
        if known is not None and known.url != backend.url.text:
            # Another backend by the name of an old one: the old one's slot is the old one's, until nobody uses it.
            if self._same_segment:
                self._slots.release(key, generation)
            known = None
        record = BackendRecord(pool=key[0], config=backend, slot=self._slots.take(key))
        self.records[key] = record
        self._breakers.add(key[0], record.slot)
        url = backend.url
        if url.is_unix:
            record.addresses = [pack_address(socket.AF_UNIX, url.path)]
        else:
            self._by_name.setdefault((url.host, url.port), []).append(record)
            record.addresses = list(self._resolver.watch(url.host, url.port, known.addresses if known else ()))
        self._check(record, health)
        if known is not None:
            self._recall(record, known, health)
        self._write(record)
        self.states.happened(record, "added", "", quiet=self._starting)

    def _recall(self, record: BackendRecord, known: KnownBackend, health: Health) -> None:
        """What the process before knew of it."""
        if known.checked and health.type != "none" and record.addresses:
            record.checked, record.up, record.health_reason = True, known.up, known.reason
            self._monitor.remember(record.slot, up=known.up, reason=known.reason)
        if known.breaker is not None:
            record.breaker = self._breakers.restore(record.pool, record.slot, known.breaker)
            record.breaker_reason = known.breaker.reason
        if self._same_segment:
            self.states.recall(record)
            self._ramps.resume(record)

    def _remove(self, key: Key, generation: int) -> None:
        record = self.records.pop(key)
        self._slots.release(key, generation)
        self._monitor.unwatch(record.slot)
        self._breakers.remove(record.pool, record.slot)
        self._drains.cancel(record.slot)
        self._ramps.forget(record)
        url = record.config.url
        if not url.is_unix:
            self._by_name[url.host, url.port].remove(record)
            self._resolver.unwatch(url.host, url.port)
        self.states.withdraw(record)
        self.states.happened(record, "removed", "")

    def _members(self, pool: str) -> list[BackendRecord]:
        return [self.records[pool, backend.name] for backend in self._config.pools[pool].backends]

    def _write(self, record: BackendRecord) -> None:
        """Its state may have changed: tell the workers, and see what that does to its pool."""
        pool = self._config.pools[record.pool]
        slowly = self._ramps.look(record, pool.slow_start, starting=self._starting)
        self.states.write(record)
        if slowly:  # said after what made it come back
            why = f"its share grows for {pool.slow_start:g} s"
            self._loop.call_soon(lambda: self.states.happened(record, "starts slowly", why))
        self._outlook.doubt(record.pool)

    # What is seen of them

    def _check(self, record: BackendRecord, health: Health) -> None:
        pool = self._config.pools[record.pool]
        context = self._built.of_pool(pool)
        plan = plan_for(health, record.config, pool.tls, context, proxy_protocol=pool.proxy_protocol)
        if plan is not None:
            self._monitor.watch(record.slot, plan, check_addresses(record.addresses, health.port))
            if not record.addresses:
                self._without_address(record)
            return
        self._monitor.unwatch(record.slot)
        if record.addresses:
            record.checked = record.up = True
            record.health_reason = "not checked (health type is none)"
        else:
            self._without_address(record)

    def _without_address(self, record: BackendRecord) -> None:
        url = record.config.url
        record.checked = False
        record.up = False
        record.health_reason = f"no address for {url.host}: {self._resolver.reason(url.host, url.port)}"

    def _resolved(self, name: tuple[str, int], addresses: list[bytes], reason: str) -> None:
        for record in self._by_name.get(name, ()):
            changed = record.addresses != addresses
            record.addresses = list(addresses)
            health = self._config.pools[record.pool].health
            if changed:
                self._moved(record.slot, record.addresses)
                if health.type == "none":
                    self._check(record, health)
                else:
                    if not record.checked:
                        record.health_reason = "not checked yet"
                    self._monitor.set_addresses(record.slot, check_addresses(addresses, health.port))
            if not addresses:
                self._without_address(record)
            self._write(record)

    def _health_changed(self, slot: int, transition: health_state.Transition) -> None:
        record = self.at(slot)
        if record is None:
            return
        up = transition.after is health_state.State.UP
        if up != record.up or not record.checked:
            self._segment.add_mark(slot, "went_up" if up else "went_down")
        record.checked, record.up, record.health_reason = True, up, transition.reason
        self._write(record)
        first = self._starting and transition.before is health_state.State.UNCHECKED
        self.states.happened(record, "up" if up else "down", transition.reason, quiet=first and up)
        if transition.down_to_up:
            self._breakers.came_up(record.pool, slot)

    def _checked(self, slot: int, ok: bool) -> None:
        self._segment.add_mark(slot, "checks_passed" if ok else "checks_failed")

    def _urgent(self, slot: int) -> bool:
        """Nothing else in its pool can be used: one passed check is enough."""
        record = self.at(slot)
        return record is not None and not any(
            self.records[record.pool, other.name].routable for other in self._config.pools[record.pool].backends
        )

    def _breaker_changed(self, slot: int, transition: breaker.Transition[int]) -> None:
        record = self.at(slot)
        if record is None:
            return
        if transition.after is breaker.State.OPEN:
            self._segment.add_mark(slot, "ejections")
            if transition.cause is not None:
                cause = stats.EJECTION_CAUSES.index(transition.cause)
                self._segment.add_pool_mark(self.pool_slots[record.pool], "ejections", cause)
        record.breaker, record.breaker_reason = transition.after, transition.reason
        self.states.free_probe(record)
        self._write(record)
        self.states.happened(record, _BREAKER_WORDS[transition.after], transition.reason)

    def _breaker_refused(self, slot: int, reason: str) -> None:
        record = self.at(slot)
        if record is not None:
            self.states.happened(record, "failing", reason)

    # What workers saw

    def failed(self, slot: int, kind: int, reason: str) -> None:
        """A worker could not connect."""
        record = self.at(slot)
        if record is None or MEANING[Kind(kind)].verdict is not Verdict.CONNECT:
            return
        url = record.config.url
        self._resolver.refresh(url.host, url.port)
        reason = reason or MEANING[Kind(kind)].word.replace("_", " ")
        if self._config.pools[record.pool].health.type == "none":
            reason = f"a request could not connect: {reason}"
            self._breakers.eject(record.pool, slot, Kind(kind), reason, Cause.CONNECT_FAILURE)
        else:
            self._monitor.connect_failed(slot, reason)

    def tripped(self, slot: int, kind: int, reason: str, cause: Cause) -> None:
        """A worker's detector opened the breaker."""
        record = self.at(slot)
        if record is not None:
            self._breakers.trip(record.pool, slot, Kind(kind), reason, cause)

    def penalized(self, slot: int, status: int, for_s: float) -> None:
        """It answered so, and asked for less for so long."""
        record = self.at(slot)
        if record is None:
            return
        if status in stats.PENALTY_STATUSES and self._ramps.penalize(
            record, status, for_s, self._config.pools[record.pool].slow_start
        ):
            index = stats.PENALTY_STATUSES.index(status)
            self._segment.add_pool_mark(self.pool_slots[record.pool], "penalties", index)
            self.states.happened(record, "gets less", f"it answered {status} with Retry-After, for {for_s:g} s")
        self._write(record)

    def _ramp_over(self, slot: int, status: int) -> None:
        record = self.at(slot)
        if record is not None:
            self._write(record)
            why = f"it answers no {status} with Retry-After any more" if status else "its slow start is over"
            self.states.happened(record, "has its share", why)

    def probed(self, slot: int, ok: bool, kind: int) -> None:
        """A half-open backend was tried."""
        record = self.at(slot)
        if record is not None:
            self._breakers.probed(record.pool, slot, ok, Kind(kind))
            # Whatever it showed, the next probe may begin.
            self.states.free_probe(record)


def _stays(record: BackendRecord, wanted: Backend | None) -> bool:
    """The same name with another address is another backend: nothing known of the old one holds for it."""
    return wanted is not None and wanted.url.identity == record.config.url.identity
