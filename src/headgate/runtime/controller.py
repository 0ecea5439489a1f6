"""The owner of desired and observed state: what should run, and what is known of every backend.

It knows no process and no listening socket: workers are channels that somebody attaches (the supervisor over
socketpairs, `LoadBalancer` directly), and everything runs in one event loop. What it wants, workers get as snapshots;
what it knows of backends, they read from the shared segment; what they see, they say in messages.
"""

from __future__ import annotations

import logging
import time
from asyncio import AbstractEventLoop, Event, TimerHandle, timeout
from collections.abc import Callable, Collection, Mapping
from functools import partial
from random import Random
from typing import Any

import msgspec

from headgate.config.schema import Config, Strategy
from headgate.discovery.dns import Lookup, system_lookup
from headgate.engine import stats
from headgate.observe.logging import LEVELS
from headgate.observe.sums import Names
from headgate.runtime import edits, overrides, states
from headgate.runtime.certificates import Certificates
from headgate.runtime.drains import checked_deadline
from headgate.runtime.explaining import Explaining
from headgate.runtime.fleet import Fleet
from headgate.runtime.knowledge import Knowledge
from headgate.runtime.links import Link
from headgate.runtime.messages import (
    Addresses,
    Applied,
    Apply,
    Drained,
    Explained,
    Failed,
    Hello,
    Log,
    Message,
    Penalty,
    Probed,
    Rejected,
    StrategyError,
    Tried,
    Trip,
    Try,
)
from headgate.runtime.overrides import Changes, Effective
from headgate.runtime.secrets import machine_secret, pool_secret, state_directory
from headgate.runtime.snapshot import Snapshot
from headgate.runtime.states import BackendRecord
from headgate.runtime.transport import DirectChannel, MessageChannel
from headgate.tls.files import TlsFiles
from headgate.tls.inventory import Used

log = logging.getLogger("headgate.control")

# How long the start waits for names and first checks; the listeners open after that, whatever is known by then.
FIRST_ROUND_S = 2.0
# Slots that rest, and workers that were busy at the last snapshot, are looked after this often.
_HOUSEKEEPING_S = 0.5


class Controller:
    """Runs a configuration: slots, snapshots, checks, breakers, names, and changes while it runs.

    config: validated, as a file has it. changes: made at run time earlier, to be put over it. segment: the shared
    segment, whose states this process alone writes. loop: where everything happens; all methods are called from its
    thread. lookup: resolves names (blocking, called in threads). random, now (monotonic seconds) and wall (seconds
    since 1970): injected for tests. secret: the machine's secret for sticky cookies; read from its file, once it is
    needed, when not given. knowledge: what the process before this one knew of the backends (an upgrade);
    same_segment: it used this very segment, and workers of it still do.

    Resolving and checking begin at once; `first_round` waits for them. Raises ValueError for certificates and keys that
    cannot be used.
    """

    def __init__(
        self,
        config: Config,
        segment: stats.Segment,
        *,
        loop: AbstractEventLoop,
        lookup: Lookup = system_lookup,
        random: Random | None = None,
        now: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
        secret: bytes | None = None,
        changes: Changes = overrides.NONE,
        knowledge: Knowledge | None = None,
        same_segment: bool = False,
    ) -> None:
        self._loop = loop
        self._segment = segment
        self._secret = secret
        self._wall = wall
        self._file = config
        self._config = config
        self._changes = changes
        self._generation = 0
        self._links: list[Link] = []
        self._publishing = False
        self._late: set[Link] = set()
        self._acknowledged = Event()
        self._rehearsal = 0
        self._rehearsing: dict[Link, str | None] = {}
        self._said: set[tuple[str, str]] = set()
        self.explaining = Explaining(loop)
        """Questions to workers about where a request would go."""
        self._timer: TimerHandle | None = None
        self._closed = False
        self.on_message: Callable[[Link, Message], None] = lambda link, message: None
        """Called with every message of a worker, after the controller has dealt with it."""
        self.on_gone: Callable[[Link], None] = lambda link: None
        """Called when a worker's channel has ended without `detach`; it is detached by then."""
        self.on_changes: Callable[[Changes], None] = lambda changes: None
        """Called when what was changed at run time is another than before, with all of it (for a state file)."""
        self.recycling = True
        """May the slots of removed backends be used again? Not while workers that are not attached use the segment."""
        self._fleet = Fleet(
            segment,
            self._moved,
            loop=loop,
            lookup=lookup,
            random=random,
            now=now,
            wall=wall,
            knowledge=knowledge,
            same_segment=same_segment,
        )
        self._certificates = Certificates(loop, wall=wall, changed=self._renew, note=partial(self.note, quiet=True))
        self._become(config, overrides.effective(config, changes))
        self.in_force()

    # What there is

    @property
    def config(self) -> Config:
        """The configuration as it is now, runtime changes included."""
        return self._config

    @property
    def file(self) -> Config:
        """The configuration without runtime changes: as it was last given whole."""
        return self._file

    @property
    def changes(self) -> Changes:
        """What was changed at run time and holds (see `overrides`)."""
        return self._changes

    @property
    def segment(self) -> stats.Segment:
        """Where the states are, and the workers' counters."""
        return self._segment

    @property
    def generation(self) -> int:
        """Of the last snapshot. (The segment has a generation word of its own, for states.)"""
        return self._generation

    @property
    def links(self) -> tuple[Link, ...]:
        """The attached workers."""
        return tuple(self._links)

    def knowledge(self) -> Knowledge:
        """What is known of the backends, for the process that comes after this one."""
        return self._fleet.knowledge()

    @property
    def events(self) -> list[states.Event]:
        """The last changes of state, oldest first."""
        return list(self._fleet.states.events)

    def watch_events(self, callback: Callable[[], None]) -> None:
        """Call this after each event, instead of whatever was called before. It may not fail."""
        self._fleet.states.on_event = callback

    def note(self, what: str, reason: str, pool: str = "", *, quiet: bool = False) -> None:
        """Add something to the events that is about no single backend. quiet: the log has it from elsewhere."""
        self._fleet.states.note(what, reason, pool, quiet=quiet)

    @property
    def pool_slots(self) -> dict[str, int]:
        """Pool name -> its slot in the segment, for its latencies."""
        return self._fleet.pool_slots

    def in_force(self) -> None:
        """Note for the metrics that what runs is what the file says."""
        self._segment.set_supervisor("reloaded_ms", int(self._wall() * 1000))
        self._segment.set_supervisor("reload_ok", 1)

    @property
    def names(self) -> Names:
        """Whose counters there are to read: everything configured now, and the workers that are attached."""
        return Names(
            backends=[(record.pool, record.config.name, record.slot) for record in self.backends()],
            pools={name: slot for name, slot in self.pool_slots.items() if name in self._config.pools},
            routes=self._fleet.traffic.routes,
            listeners=self._fleet.traffic.listeners,
            workers=sorted(link.worker for link in self._links),
        )

    @property
    def in_panic(self) -> Collection[str]:
        """The pools in which ejected backends are used, since too few others are left."""
        return self._fleet.in_panic

    @property
    def stand_ins(self) -> Mapping[str, str]:
        """The pools in which nothing is routable -> what serves in their place; see `runtime.outlook`."""
        return self._fleet.stand_ins

    @property
    def tls(self) -> TlsFiles:
        """The files for TLS, as they were read."""
        return self._certificates.files

    @property
    def certificates(self) -> list[Used]:
        """The certificates in use."""
        return self._certificates.used

    def read_tls(self, config: Config) -> TlsFiles:
        """The files that this configuration needs, read anew and looked over. Raises ValueError with every problem."""
        return self._certificates.read(config, anew=True)

    def listener_connections(self, bind: str) -> int:
        """Open client connections that came in by this listener (its `bind` as configured), in all workers."""
        return self._fleet.traffic.connections(bind)

    def backends(self, pool: str | None = None) -> list[BackendRecord]:
        """What is known of each backend (of one pool), in the configuration's order. To be read only."""
        pools = self._config.pools if pool is None else {pool: edits.pool_of(self._config, pool)}
        return [self._fleet.records[name, backend.name] for name, one in pools.items() for backend in one.backends]

    def backend(self, pool: str, backend: str) -> BackendRecord:
        """One backend, by its name or URL. Raises ValueError."""
        return self._fleet.records[pool, edits.backend_of(self._config, pool, backend).name]

    def snapshot(self) -> Snapshot:
        """The desired state, as workers get it."""
        return Snapshot(
            config=self._config,
            generation=self._generation,
            pool_slots=self._fleet.pool_slots,
            backend_slots=self._fleet.backend_slots,
            addresses={record.slot: list(record.addresses) for record in self._fleet.records.values()},
            sticky_secrets=self._sticky_secrets(),
            listener_slots=self._fleet.traffic.listeners,
            route_slots=self._fleet.traffic.routes,
            tls=self.tls,
        )

    async def first_round(self, timeout_s: float | None = None) -> bool:
        """Wait for names and first checks; false when `timeout_s` (`FIRST_ROUND_S` if not given) ran out with some of
        them still unknown."""
        return await self._fleet.first_round(FIRST_ROUND_S if timeout_s is None else timeout_s)

    async def applied(self, timeout_s: float) -> bool:
        """Wait until every attached worker runs the current snapshot; false when one cannot, or time ran out.

        Without workers that is at once. A worker's reason to refuse is in its `Link.rejected`.
        """
        self._send_snapshot()
        try:
            async with timeout(timeout_s):
                while any(link.generation < self._generation for link in self._links):
                    if any(link.rejected for link in self._links):
                        return False
                    self._acknowledged.clear()
                    await self._acknowledged.wait()
        except TimeoutError:
            return False
        return True

    # Workers

    def attach(self, channel: MessageChannel | DirectChannel, worker: int = 0) -> Link:
        """A worker has come. It gets the current snapshot now and every later one; its link says what it answered."""
        self._send_snapshot()
        link = Link(self._loop, channel, worker, self._received, self._gone)
        self._links.append(link)
        link.send(Apply(self.snapshot()))
        return link

    def detach(self, link: Link) -> None:
        """A worker has gone, or shall go. Its gauges and the probes it held are cleared away; its counters stay."""
        link.close()
        if link in self._links:
            self._links.remove(link)
            lost = self._segment.worker_totals(link.worker)["in_flight"]
            self._segment.add_supervisor("requests_lost", max(0, lost))
            self._rehearsing.pop(link, None)
            self._late.discard(link)
            self.explaining.gone(link)
            self._segment.zero_worker_gauges(link.worker)
            self._recycle()
            self._acknowledged.set()

    def publish(self) -> None:
        """Send the workers a new snapshot; changes made in one turn of the loop go together."""
        if not self._publishing and not self._closed:
            self._publishing = True
            self._loop.call_soon(self._send_snapshot)

    def publish_now(self) -> None:
        """Send at once what waits to be published, snapshots and states alike, if anything does."""
        self._send_snapshot()
        self._fleet.states.settle()

    def close(self) -> None:
        """Stop checking and resolving, and let go of all workers."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._fleet.close()
        self._certificates.close()
        for link in self._links:
            link.close()
        self._links.clear()

    # Changes while it runs. All raise ValueError with a text for people, and then nothing has changed. A backend is
    # named by its name, or by its URL where that is unique in the pool.

    def add_backend(
        self, pool: str, url: str, weight: int = 1, name: str | None = None, *, priority: int = 0
    ) -> BackendRecord:
        """One backend more, used as soon as its first check has passed."""
        config, added = edits.with_backend(self._config, pool, url, weight, name, priority)
        self._change(config, overrides.with_added(self._changes, self._file, pool, added))
        return self._fleet.records[pool, added.name]

    def remove_backend(self, pool: str, backend: str) -> None:
        """No new request from now on; those in flight finish."""
        config, removed = edits.without_backend(self._config, pool, backend)
        self._change(config, overrides.with_removed(self._changes, self._file, pool, removed.name))

    def drain_backend(self, pool: str, backend: str, deadline_s: float | None = None) -> None:
        """No new sessions from now on; bound ones go on. `enable_backend` ends it.

        deadline_s: after so many seconds bound sessions go elsewhere, too, and all connections to it are closed: a
        request in flight is cut off (`Kind.DRAIN_DEADLINE`), and goes elsewhere where that is safe. None: never.
        Once more sets another deadline.
        """
        deadline_s = checked_deadline(deadline_s)
        record = self.backend(pool, backend)
        self._fleet.drain(record, deadline_s)
        until = None if deadline_s is None else self._wall() + deadline_s
        self._remember(overrides.with_state(self._changes, record.pool, record.config, "draining", until))

    def enable_backend(self, pool: str, backend: str) -> None:
        """Back from `drain_backend` or `disable_backend`."""
        record = self.backend(pool, backend)
        self._fleet.enable(record)
        self._remember(overrides.with_state(self._changes, record.pool, record.config, None))

    def disable_backend(self, pool: str, backend: str) -> None:
        """No new request at all from now on, bound sessions included; those in flight finish."""
        record = self.backend(pool, backend)
        self._fleet.disable(record)
        self._remember(overrides.with_state(self._changes, record.pool, record.config, "disabled"))

    def set_weight(self, pool: str, backend: str, weight: int) -> None:
        """0 to 256; 0 = bound sessions only."""
        config, changed = edits.with_weight(self._config, pool, backend, weight)
        self._change(config, overrides.with_weight(self._changes, self._file, pool, changed.name, weight))
        self._fleet.states.happened(self._fleet.records[pool, changed.name], "weight set", str(weight))

    def set_strategy(self, pool: str, strategy: str | Mapping[str, Any] | Strategy) -> None:
        """Another way to pick: a name, a table with name and options, or the schema's object.

        A worker that cannot build it refuses the snapshot (see `applied`) and goes on as before.
        """
        config = edits.with_strategy(self._config, pool, strategy)
        chosen = config.pools[pool].strategy
        self._change(config, overrides.with_strategy(self._changes, self._file, pool, chosen))

    def set_listener(self, bind: str, *, closed: bool) -> None:
        """Close a listener of the file, or have it again. (Its socket is the supervisor's.)"""
        changes = overrides.with_listener(self._changes, bind, closed=closed)
        config = overrides.effective(self._file, changes).config
        self._change(msgspec.structs.replace(self._config, listeners=config.listeners), changes)

    def set_workers(self, workers: int) -> None:
        """Remember that so many workers are wanted, whatever the file says. (Starting them is the supervisor's.)"""
        config = msgspec.structs.replace(self._config, workers=workers)
        self._change(config, overrides.with_workers(self._changes, self._file, workers))

    def apply(self, config: Config) -> None:
        """A whole new configuration, and nothing but it: of what was changed at run time, only which backends are
        drained or disabled stays. Backends that stay keep their slot, health and breaker."""
        states = {
            name: overrides.PoolChanges(states=changed.states)
            for name, changed in self._changes.pools.items()
            if changed.states
        }
        self._become(config, overrides.effective(config, Changes(states)))

    def merged(self, config: Config) -> Effective:
        """What would run if this were the file now: `config` with the changes made at run time over it."""
        return overrides.effective(config, self._changes)

    def reload(self, config: Config, tls: TlsFiles | None = None) -> Effective:
        """The file has been read again. Changes made at run time stay, by the rule of `overrides`.

        tls: its certificates and keys; read here when not given.
        """
        become = self.merged(config)
        self._become(config, become, tls)
        return become

    async def rehearse(self, config: Config, timeout_s: float, tls: TlsFiles) -> list[str]:
        """Ask every worker whether it could become this, with these certificates and keys; returns why not, each reason
        once. Nothing changes.

        What only workers find out: whether a strategy can be imported and built, whether the log can be opened.
        """
        self._rehearsal += 1
        self._rehearsing = dict.fromkeys(self._links)
        for link in self._links:
            link.send(Try(self._rehearsal, config, tls))
            link.deliver()
        try:
            async with timeout(timeout_s):
                while None in self._rehearsing.values():
                    self._acknowledged.clear()
                    await self._acknowledged.wait()
        except TimeoutError:
            return [f"a worker did not answer within {timeout_s:g} s"]
        finally:
            answers, self._rehearsing = self._rehearsing, {}
        return list(dict.fromkeys(answer for answer in answers.values() if answer))

    def _restore(self, record: BackendRecord, change: overrides.StateChange) -> None:
        """What was wanted of it before is still wanted."""
        if change.state == "disabled":
            self._fleet.disable(record)
        elif not record.draining:  # else its deadline runs already
            self._fleet.drain(record, None if change.until is None else max(0.0, change.until - self._wall()))

    def _change(self, config: Config, changes: Changes) -> None:
        """Something was changed at run time."""
        self._apply(config, self._certificates.read(config, anew=False))
        self._remember(changes)

    def _become(self, file: Config, become: Effective, tls: TlsFiles | None = None) -> None:
        self._apply(become.config, self.read_tls(become.config) if tls is None else tls)
        self._file = file
        for pool, changed in become.changes.pools.items():
            for name, change in changed.states.items():
                self._restore(self._fleet.records[pool, name], change)
        self._remember(become.changes)

    def _remember(self, changes: Changes) -> None:
        if changes != self._changes:
            self._changes = changes
            self.on_changes(changes)

    def _apply(self, config: Config, tls: TlsFiles) -> None:
        built = self._certificates.build(config, tls)
        self._fleet.apply(config, self._generation + 1, built)
        self._certificates.use(config, tls, built)
        self._config = config
        self.publish()

    def _renew(self, tls: TlsFiles) -> None:
        """Watched files have changed."""
        self._apply(self._config, tls)

    # What workers say

    def _received(self, link: Link, message: Message) -> None:
        match message:
            case Applied(generation):
                link.generation = max(link.generation, generation)
                link.rejected = ""
                self._recycle()
                self._acknowledged.set()
            case Rejected(generation, text):
                if generation == self._generation:
                    link.rejected = text or "no reason given"
                if link.generation:  # at the start there is no "as before": whoever starts the worker says what follows
                    said = f"the new state is refused, workers go on as before: {text}"
                    self._say_once("rejected", said, logging.ERROR)
                self._acknowledged.set()
            case Tried(number, text):
                if number == self._rehearsal and link in self._rehearsing:
                    self._rehearsing[link] = text
                    self._acknowledged.set()
            case Explained():
                self.explaining.answered(link, message)
            case Failed(slot, kind, reason):
                self._fleet.failed(slot, kind, reason)
            case Trip(slot, kind, reason, cause):
                self._fleet.tripped(slot, kind, reason, cause)
            case Penalty(slot, status, for_s):
                self._fleet.penalized(slot, status, for_s)
            case Probed(slot, ok, kind):
                self._fleet.probed(slot, ok, kind)
            case StrategyError(pool, text):
                text = f"pool {pool}: the strategy failed, round robin serves: {text}"
                self._say_once(f"strategy {pool}", text, logging.ERROR)
            case Log(level, text):
                log.log(LEVELS.get(level, logging.INFO), "worker %d: %s", link.worker, text)
            case Hello(_, pid):
                link.pid = pid
            case Drained():
                link.drained = True
            case _:
                log.error("worker %d sent a message that is not for us: %s", link.worker, type(message).__name__)
        self.on_message(link, message)

    def _gone(self, link: Link) -> None:
        self.detach(link)
        self.on_gone(link)

    def _say_once(self, about: str, text: str, level: int = logging.WARNING) -> None:
        """Every worker meets the same mistake; one line tells it. (Bounded: a text may carry a number that changes.)"""
        if len(self._said) < 1000 and (about, text) not in self._said:
            self._said.add((about, text))
            log.log(level, "%s", text)

    # What workers are told

    def _send_snapshot(self) -> None:
        if not self._publishing or self._closed:
            return
        self._publishing = False
        self._generation += 1
        self._said = {said for said in self._said if said[0] != "rejected"}
        message = Apply(self.snapshot())
        for link in self._links:
            link.rejected = ""
            if link.busy:
                self._late.add(link)  # it gets the newest one when it has read what waits: snapshots do not pile up
            else:
                link.send(message)
                link.deliver()  # the loop called us: a change is in force before what the network brings next
        self._recycle()

    def _moved(self, slot: int, addresses: list[bytes]) -> None:
        for link in self._links:
            link.send(Addresses(slot, addresses))

    def _recycle(self) -> None:
        if not self.recycling:
            return
        acknowledged = min((link.generation for link in self._links), default=self._generation)
        self._fleet.recycle(acknowledged)
        if self._timer is None and not self._closed and (self._fleet.resting or self._late):
            self._timer = self._loop.call_later(_HOUSEKEEPING_S, self._housekeeping)

    def _housekeeping(self) -> None:
        self._timer = None
        for link in [link for link in self._late if not link.busy]:
            self._late.discard(link)
            link.send(Apply(self.snapshot()))
        self._recycle()

    def _sticky_secrets(self) -> dict[str, bytes]:
        secrets = {}
        for name, pool in self._config.pools.items():
            if pool.sticky is not None:
                if self._secret is None and not pool.sticky.secret:
                    self._secret = machine_secret(state_directory())
                secrets[name] = pool_secret(pool.sticky.secret, self._secret or b"", name)
        return secrets
