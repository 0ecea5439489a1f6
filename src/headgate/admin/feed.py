"""What open dashboards are told: everything once, then each second what has become different.

One look a second at the segment serves all readers, and keeps the past while there are none (`observe.history`). A
change of state is told at once. A reader that does not keep up is told everything anew when it has caught up, so what
waits for one is bounded, and no reader makes another wait.
"""

from __future__ import annotations

import os
import time
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from headgate import __version__
from headgate.admin import documents as doc
from headgate.admin.host import Host
from headgate.admin.meters import TURN, BackendMeter, PoolMeter, RouteMeter
from headgate.admin.reader import Reader
from headgate.admin.reads import listener_list, worker_list
from headgate.observe import status
from headgate.observe.history import History, merged
from headgate.observe.names import route_name
from headgate.observe.processes import Processes
from headgate.resilience import slow_start
from headgate.runtime.overrides import PoolChanges
from headgate.runtime.states import BackendRecord
from headgate.tls.expiry import days_left

# Between an event and telling it: what follows from it (a panic, the state in the segment) goes along.
SOON_S = 0.02
# From one look to the next, though it be late.
LEAST_S = 0.9
# Events told when everything is: one page of the timeline. GET /events has the rest.
EVENTS = 300


class _Backend:
    """A backend as the readers know it. number: for short, and never given to another in this run."""

    __slots__ = ("known", "meter", "number", "record", "shown", "told", "written")

    def __init__(self, number: int, record: BackendRecord) -> None:
        self.number = number
        self.record = record
        self.meter = BackendMeter(record.slot)
        self.written: object = None
        self.shown: doc.StreamBackend | None = None
        self.told: tuple[Any, ...] | None = None


class Feed:
    """The looks and the readers. now: monotonic seconds, wall: seconds since 1970; injected for tests."""

    def __init__(
        self,
        host: Host,
        loop: AbstractEventLoop,
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._loop = loop
        self._now = now
        self._wall = wall
        self._run = f"{os.getpid()}-{int(wall() * 1000)}"
        self.history = History()
        self.processes = Processes()
        """For /metrics: it remembers what processes that have ended used."""
        self._readers: set[Reader] = set()
        self._backends: dict[tuple[str, str], _Backend] = {}
        self._pools: dict[str, PoolMeter] = {}
        self._pools_told: dict[str, tuple[Any, ...]] = {}
        self._routes: list[RouteMeter] = []
        self._routes_told: list[tuple[Any, ...]] = []
        self._numbers = 0
        self._layout: object = None
        self._known: dict[str, Any] = {}
        self._turn = 0
        self._beats = 0
        self._before: tuple[float, int, int] | None = None
        self._last_event = 0
        self._timer: TimerHandle | None = None
        self._soon: TimerHandle | None = None
        self._next = 0.0
        self._closed = False

    def start(self) -> None:
        """Look from now on, once a second."""
        self._host.controller.watch_events(self._happened)
        self._next = self._loop.time()
        self._beat()

    def close(self) -> None:
        """Look no more: the segment may be gone."""
        self._closed = True
        self._host.controller.watch_events(lambda: None)
        for timer in (self._timer, self._soon):
            if timer is not None:
                timer.cancel()

    async def read(self, query: doc.StreamQuery) -> AsyncGenerator[bytes, None]:
        """Server-sent events for one reader, until it goes."""
        reader = Reader()
        # Without a pause between the two: what everything does not have is told from here on.
        first = self._everything(query)
        self._readers.add(reader)
        try:
            yield first
            while True:
                yield await reader.take() or self._everything(None)
        finally:
            self._readers.discard(reader)

    # Looking

    def _beat(self) -> None:
        if self._closed:
            return
        # What was missed while it was held up stays missing: a look right behind another would make a rate of a few
        # milliseconds, five requests a thousand in a second.
        self._next = max(self._next + 1.0, self._loop.time() + LEAST_S)
        self._timer = self._loop.call_at(self._next, self._beat)
        self.look()

    def look(self) -> None:
        """One look, told to all readers. To be called once a second."""
        self._beats += 1
        segment = self._host.controller.segment
        now = self._now()
        whole = self._same_layout()
        totals = status.total_status(segment)
        buckets = merged([pool.look(segment, now) for pool in self._pools.values()])
        points = self._look_at_backends(now)
        self._look_at_routes(now)
        row = minute = None
        errors = totals.statuses["5xx"]
        if self._before is not None and now > self._before[0]:
            since, requests_then, errors_then = self._before
            row, minute = self.history.add(
                self._wall(),
                now - since,
                requests=max(0, totals.requests - requests_then),
                errors=max(0, errors - errors_then),
                buckets=buckets,
                in_flight=totals.in_flight,
                connections=totals.connections,
            )
        self._before = (now, totals.requests, errors)
        if not self._readers:
            self._last_event = self._newest_event()
            return
        if whole:
            self._tell(self._everything(None, history=False))
        self._tell(
            _encoded(
                "tick",
                doc.StreamTick(
                    now=self._ms(),
                    row=row,
                    minute=minute,
                    recent=self.history.recent(),
                    ready=self._host.ready,
                    totals=self._changed("totals", totals),
                    workers=self._changed("workers", worker_list(self._host.controller)),
                    listeners=self._changed("listeners", listener_list(self._host)),
                    certificates=self._changed_certificates(),
                    pools=self._pool_numbers(),
                    routes=self._changed_routes(),
                    numbers=self._backend_numbers(),
                    points=points,
                    states=self._states(),
                    events=self._new_events(),
                ),
            )
        )

    def _happened(self) -> None:
        if self._soon is None and self._readers and not self._closed:
            self._soon = self._loop.call_later(SOON_S, self._tell_events)

    def _tell_events(self) -> None:
        self._soon = None
        if self._same_layout():
            self._tell(self._everything(None, history=False))
        events = self._new_events()
        states = self._states()
        if events or states:
            self._tell(_encoded("change", doc.StreamTick(now=self._ms(), events=events, states=states)))

    def _tell(self, data: bytes) -> None:
        for reader in self._readers:
            reader.offer(data)

    def _changed(self, name: str, value: Any) -> Any:
        """The value, or None where the readers have it."""
        if self._known.get(name) == value:
            return None
        self._known[name] = value
        return value

    # What there is

    def _same_layout(self) -> bool:
        """Follow the configuration. Returns whether the readers need everything anew."""
        controller = self._host.controller
        config = controller.config
        if config is self._layout:
            return False
        first = self._layout is None
        self._layout = config
        records = {(record.pool, record.config.name): record for record in controller.backends()}
        same = list(records) == list(self._backends)
        backends = {}
        for key, record in records.items():
            known = self._backends.get(key)
            if known is None or known.record.slot != record.slot or known.record.config.url != record.config.url:
                self._numbers += 1
                known = _Backend(self._numbers, record)
                same = False
            known.record = record
            backends[key] = known
        self._backends = backends
        slots = controller.pool_slots
        self._pools = {
            name: meter
            if (meter := self._pools.get(name)) is not None and meter.slot == slots[name]
            else PoolMeter(slot)
            for name, slot in slots.items()
            if name in config.pools
        }
        self._pools_told = {name: told for name, told in self._pools_told.items() if name in self._pools}
        routes = controller.names.routes
        known_routes = {meter.slot: meter for meter in self._routes if meter.slot}
        slots_of_routes = [routes.get(route_name(route), 0) for route in config.routes]
        self._routes = [known_routes.get(slot) or RouteMeter(slot) for slot in slots_of_routes]
        self._routes_told = []
        described = (self._pool_list(), self._route_list())
        same = self._changed("layout", described) is None and same
        return not same and not first

    def _pool_list(self) -> list[doc.StreamPool]:
        controller = self._host.controller
        found = []
        for name, pool in controller.config.pools.items():
            changes = controller.changes.pools.get(name, PoolChanges())
            changed = [
                *(["strategy"] if changes.strategy is not None else []),
                *(["backends"] if changes.added or changes.removed else []),
            ]
            found.append(
                doc.StreamPool(
                    name=name, strategy=pool.strategy.name, strategy_options=pool.strategy.options, changed=changed
                )
            )
        return found

    def _route_list(self) -> list[doc.StreamRoute]:
        return [
            doc.StreamRoute(listener=route.listener, host=route.host, path_prefix=route.path_prefix, pool=route.pool)
            for route in self._host.controller.config.routes
        ]

    def _changed_certificates(self) -> list[doc.StreamCertificate] | None:
        """They change by the day, and when a file does: looked at once a minute."""
        return self._changed("certificates", self._certificate_list()) if self._beats % 60 == 1 else None

    def _certificate_list(self) -> list[doc.StreamCertificate]:
        now = datetime.fromtimestamp(self._wall(), UTC)
        return [
            doc.StreamCertificate(
                where=used.where,
                file=used.file,
                names=list(used.certificate.names[:4]),
                ends=int(used.certificate.not_after.timestamp() * 1000),
                days=days_left(used.certificate.not_after, now),
            )
            for used in self._host.controller.certificates
        ]

    def _look_at_backends(self, now: float) -> list[tuple[int, float, float | None]]:
        """Those whose turn it is. Returns the points that are new."""
        segment = self._host.controller.segment
        turns = -(-len(self._backends) // TURN) or 1
        self._turn = (self._turn + 1) % turns
        points = []
        for backend in list(self._backends.values())[self._turn :: turns]:
            if backend.meter.look(segment, now):
                points.append((backend.number, *backend.meter.points[-1]))
        return points

    def _states(self) -> list[doc.StreamBackend]:
        """Backends whose state is another than the readers know."""
        found = []
        for backend in self._backends.values():
            # Written anew whenever something about the state is; while it starts slowly, the clock alone changes it.
            if backend.record.written is not backend.written or (backend.shown is not None and backend.shown.part < 1):
                backend.written = backend.record.written
                shown = self._describe(backend)
                if shown != backend.shown:
                    backend.shown = shown
                    found.append(shown)
        return found

    def _describe(self, backend: _Backend) -> doc.StreamBackend:
        record = backend.record
        flags = record.flags
        from_ms, for_ms = record.ramp
        reasons = record.reasons
        since_ms = self._host.controller.segment.backend_since_ms(record.slot)
        return doc.StreamBackend(
            id=backend.number,
            pool=record.pool,
            name=record.config.name,
            url=record.config.url.text,
            healthy=status.routable(flags),
            state=status.state_of(flags),
            reason=record.reason,
            more=reasons[1:],
            since=since_ms,
            weight=record.weight,
            priority=record.priority,
            part=round(slow_start.factor(time.monotonic(), from_ms / 1e3, for_ms / 1e3), 2),
        )

    def _backend_numbers(self) -> list[tuple[Any, ...]]:
        found = []
        for backend in self._backends.values():
            numbers = backend.meter.numbers
            if numbers is not backend.told:
                if numbers != backend.told:
                    found.append((backend.number, *numbers))
                backend.told = numbers
        return found

    def _look_at_routes(self, now: float) -> None:
        """Those whose turn it is."""
        turns = -(-len(self._routes) // TURN) or 1
        for meter in self._routes[self._beats % turns :: turns]:
            meter.look(self._host.controller.segment, now)

    def _route_numbers(self) -> list[tuple[Any, ...]]:
        return [(index, *meter.numbers) for index, meter in enumerate(self._routes) if meter.numbers is not None]

    def _changed_routes(self) -> list[tuple[Any, ...]]:
        numbers = self._route_numbers()
        told, self._routes_told = set(self._routes_told), numbers
        return [row for row in numbers if row not in told]

    def _pool_numbers(self) -> list[tuple[Any, ...]]:
        found = []
        panic = self._host.controller.in_panic
        for name, meter in self._pools.items():
            row = (name, *meter.numbers, name in panic)
            if row != self._pools_told.get(name):
                self._pools_told[name] = row
                found.append(row)
        return found

    def _newest_event(self) -> int:
        events = self._host.controller.events
        return events[-1].number if events else 0

    def _new_events(self) -> list[doc.StreamEvent]:
        last, self._last_event = self._last_event, self._newest_event()
        return self._events_after(last) if self._last_event > last else []

    def _events_after(self, number: int) -> list[doc.StreamEvent]:
        return [
            doc.StreamEvent(
                number=event.number,
                time=int(event.time * 1000),
                pool=event.pool,
                backend=event.backend,
                what=event.what,
                reason=event.reason,
            )
            for event in self._host.controller.events[-EVENTS:]
            if event.number > number
        ]

    def _everything(self, query: doc.StreamQuery | None, *, history: bool = True) -> bytes:
        """All there is; of the past, only what a reader that was here before does not have.

        query: where such a reader stands. history: with the past at all.
        """
        host = self._host
        if not self._readers:
            # Nobody was told anything: what they are told next is against this.
            self._states()
            self._known = {"layout": self._known.get("layout")}
        known = query if query is not None and query.run == self._run else doc.StreamQuery()
        backends = []
        for backend in self._backends.values():
            shown = backend.shown if backend.written is backend.record.written else None
            backends.append(
                doc.StreamBackendWhole(
                    state=shown or self._describe(backend),
                    numbers=backend.meter.numbers,
                    points=list(backend.meter.points) if history else None,
                )
            )
        return _encoded(
            "state",
            doc.StreamState(
                run=self._run,
                now=self._ms(),
                version=__version__,
                pid=os.getpid(),
                started=int(host.started_s * 1000),
                config_file=host.config_path,
                ready=host.ready,
                recent=self.history.recent(),
                totals=status.total_status(host.controller.segment),
                workers=worker_list(host.controller),
                listeners=listener_list(host),
                certificates=self._certificate_list(),
                pools=self._pool_list(),
                pool_numbers=[
                    (name, *meter.numbers, name in host.controller.in_panic) for name, meter in self._pools.items()
                ],
                routes=self._route_list(),
                route_numbers=self._route_numbers(),
                backends=backends,
                seconds=[row for row in self.history.seconds if row[0] > known.after] if history else None,
                minutes=[row for row in self.history.minutes if row[0] > known.after - 60] if history else None,
                events=self._events_after(known.event) if history else [],
            ),
        )

    def _ms(self) -> int:
        return int(self._wall() * 1000)


_encoder = msgspec.json.Encoder()


def _encoded(name: str, value: Any) -> bytes:
    """One server-sent event. (JSON has no line breaks of its own.)"""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encoder.encode(value))
