"""Answers that only look. Long ones are made in slices, so that health checks go on between them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from typing import Any

from headgate import __version__
from headgate.admin import documents as doc
from headgate.admin.endpoint import Call, Raw
from headgate.admin.host import Host
from headgate.admin.wire import Refusal
from headgate.config.dump import dump
from headgate.observe import exposition, status
from headgate.observe.logging import LEVELS
from headgate.observe.metric import reading
from headgate.observe.sums import read
from headgate.runtime.address import format_address
from headgate.runtime.controller import Controller
from headgate.runtime.links import Link
from headgate.runtime.overrides import PoolChanges
from headgate.runtime.states import BackendRecord

# Rows of a long answer between two looks at everything else that waits; a row costs about 20 µs.
SLICE = 100


async def livez(call: Call) -> Raw:
    """The process serves."""
    return Raw(b"ok\n")


async def readyz(call: Call) -> Raw:
    """It takes traffic."""
    return Raw(b"ready\n") if call.host.ready else Raw(b"not ready\n", 503)


async def overview(call: Call) -> doc.Status:
    """Everything at a glance."""
    host = call.host
    controller = host.controller
    backends = await backend_list(host)
    return doc.Status(
        version=__version__,
        pid=os.getpid(),
        started=status.moment(int(host.started_s * 1000)),
        ready=host.ready,
        config_file=host.config_path,
        generation=controller.generation,
        listeners=listener_list(host),
        workers=worker_list(controller),
        pools=pool_list(host, backends),
        backends=backends,
        totals=status.total_status(controller.segment),
        certificates=status.certificate_list(controller.certificates, time.time()),
    )


async def pools(call: Call) -> list[doc.Pool]:
    """All pools."""
    return pool_list(call.host, await backend_list(call.host))


async def pool(call: Call) -> doc.Pool:
    """One pool."""
    name = pool_name(call)
    (found,) = pool_list(call.host, await backend_list(call.host, [name]), [name])
    return found


async def backends(call: Call) -> list[doc.Backend]:
    """All backends."""
    return await backend_list(call.host)


async def pool_backends(call: Call) -> list[doc.Backend]:
    """A pool's backends."""
    return await backend_list(call.host, [pool_name(call)])


async def backend(call: Call) -> doc.Backend:
    """One backend."""
    return backend_view(call.host, backend_record(call))


async def config(call: Call) -> doc.ConfigDocument:
    """What runs and what the file says."""
    controller = call.host.controller
    notes = controller.merged(controller.file).notes
    return doc.ConfigDocument(
        effective=await asyncio.to_thread(dump, controller.config),
        file=await asyncio.to_thread(dump, controller.file),
        changes=[doc.Change(kind=note.kind, where=note.where, text=note.text) for note in notes],
    )


async def events(call: Call) -> doc.Events:
    """What happened lately."""
    query: doc.EventsQuery = call.query
    known = call.host.controller.events
    found = [event for event in known if event.number > query.after][-query.limit :]
    return doc.Events(
        events=[
            doc.Event(
                number=event.number,
                time=status.moment(int(event.time * 1000)),
                pool=event.pool,
                backend=event.backend,
                what=event.what,
                reason=event.reason,
            )
            for event in found
        ],
        last=known[-1].number if known else 0,
    )


async def connections(call: Call) -> doc.Connections:
    """Who is connected, in numbers."""
    host = call.host
    totals = status.total_status(host.controller.segment)
    rows = []
    for number, record in enumerate(host.controller.backends()):
        if number % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        counted = host.controller.segment.backend_totals(record.slot)
        if counted.active or counted.idle:
            rows.append(
                doc.BackendConnections(
                    pool=record.pool, backend=record.config.name, active=counted.active, idle=counted.idle
                )
            )
    return doc.Connections(
        clients=totals.connections,
        in_flight=totals.in_flight,
        tunnels=totals.tunnels,
        listeners=[
            doc.ListenerConnections(
                bind=one.bind,
                state=one.state,
                connections=host.controller.listener_connections(one.configured or one.bind),
            )
            for one in host.listeners
        ],
        workers=worker_list(host.controller),
        backends=rows,
    )


async def metrics_json(call: Call) -> doc.Metrics:
    """All counters."""
    found = await backend_list(call.host)
    return doc.Metrics(
        totals=status.total_status(call.host.controller.segment),
        workers=worker_list(call.host.controller),
        pools=pool_list(call.host, found),
        backends=found,
        certificates=status.certificate_list(call.host.controller.certificates, time.time()),
    )


async def metrics(call: Call) -> Raw:
    """The counters, for Prometheus."""
    controller = call.host.controller
    wanted = [("supervisor", os.getpid()), *((f"worker-{link.worker}", link.pid) for link in _by_number(controller))]
    # Counting descriptors may take a moment where there are many of them.
    looked = await asyncio.to_thread(call.feed.processes.look, wanted)
    segment = controller.segment
    sums = await read(segment, controller.names, backend_latency=controller.config.metrics.backend_latency)
    now = reading(
        sums,
        version=__version__,
        processes=looked,
        panic=set(controller.in_panic),
        stand_ins={name for name, serves in controller.stand_ins.items() if serves},
        certificates=status.certificate_list(controller.certificates, time.time()),
        heartbeats={one.worker: segment.heartbeat_s(one.worker) for one in sums.workers},
        now_s=time.monotonic(),
    )
    open_metrics = exposition.wants_open_metrics(call.accept)
    page = await exposition.exposition(now, open_metrics=open_metrics)
    return Raw(page, content_type=exposition.OPEN_METRICS if open_metrics else exposition.TEXT)


async def log_level(call: Call) -> doc.LogLevel:
    """How much the balancer says of itself."""
    level = logging.getLogger("headgate").getEffectiveLevel()
    word: Any = next((word for word, number in LEVELS.items() if number >= level), "error")
    return doc.LogLevel(level=word)


# Views


def pool_name(call: Call) -> str:
    """The pool that the path names. Raises Refusal (404)."""
    name = call.params["pool"]
    if name not in call.host.controller.config.pools:
        raise Refusal(404, "no_such_pool", f"there is no pool {name!r}")
    return name


def backend_record(call: Call) -> BackendRecord:
    """The backend that the path names. Raises Refusal (404)."""
    pool = pool_name(call)
    try:
        return call.host.controller.backend(pool, call.params["backend"])
    except ValueError as error:
        raise Refusal(404, "no_such_backend", str(error)) from None


async def backend_list(host: Host, pools: Iterable[str] | None = None) -> list[doc.Backend]:
    """The backends of some pools, or of all."""
    rows: list[doc.Backend] = []
    names = list(host.controller.config.pools if pools is None else pools)
    for name in names:
        if name not in host.controller.config.pools:
            continue  # gone while we let others run
        for record in host.controller.backends(name):
            rows.append(backend_view(host, record))
            if len(rows) % SLICE == 0:
                await asyncio.sleep(0)
    return rows


def backend_view(host: Host, record: BackendRecord) -> doc.Backend:
    """One backend as it is now."""
    row = (record.pool, record.config.name, record.config.url.text, record.slot)
    shown = status.backend_status(host.controller.segment, row)
    fields = {name: getattr(shown, name) for name in shown.__struct_fields__}
    changes = host.controller.changes.pools.get(record.pool, PoolChanges())
    name = record.config.name
    changed = [
        *(["added"] if name in changes.added else []),
        *(["weight"] if name in changes.weights else []),
        *([changes.states[name].state] if name in changes.states else []),
    ]
    addresses = [format_address(address) for address in record.addresses]
    return doc.Backend(**fields, reasons=record.reasons, addresses=addresses, changed=changed)


def pool_list(host: Host, rows: Iterable[doc.Backend], names: Iterable[str] | None = None) -> list[doc.Pool]:
    """Pools with the sums of these backends."""
    controller = host.controller
    members: dict[str, list[doc.Backend]] = {}
    for row in rows:
        members.setdefault(row.pool, []).append(row)
    slots = controller.pool_slots
    found = []
    for name in controller.config.pools if names is None else names:
        summed = status.pool_status(
            controller.segment,
            name,
            members.get(name, []),
            slots.get(name),
            panic=name in controller.in_panic,
            stand_in=controller.stand_ins.get(name),
        )
        fields = {field: getattr(summed, field) for field in summed.__struct_fields__}
        strategy = controller.config.pools[name].strategy
        changes = host.controller.changes.pools.get(name, PoolChanges())
        changed = [
            *(["strategy"] if changes.strategy is not None else []),
            *(["backends"] if changes.added or changes.removed else []),
        ]
        found.append(doc.Pool(**fields, strategy=strategy.name, strategy_options=strategy.options, changed=changed))
    return found


def worker_list(controller: Controller) -> list[doc.Worker]:
    """The workers that are attached now."""
    return [_worker(controller, link) for link in _by_number(controller)]


def _by_number(controller: Controller) -> list[Link]:
    return sorted(controller.links, key=lambda link: link.worker)


def _worker(controller: Controller, link: Link) -> doc.Worker:
    counted = controller.segment.worker_totals(link.worker)
    return doc.Worker(
        worker=link.worker,
        pid=link.pid,
        generation=link.generation,
        connections=counted["connections"],
        in_flight=counted["in_flight"],
        tunnels=counted["tunnels"],
        accepted=counted["accepted"],
        refused_connections=counted["refused_connections"],
        requests=counted["requests"],
        problem=link.rejected,
    )


def listener_list(host: Host) -> list[doc.Listener]:
    """All listeners."""
    states: Any = [(listener.bind, listener.state) for listener in host.listeners]
    return [doc.Listener(bind=bind, state=state) for bind, state in states]
