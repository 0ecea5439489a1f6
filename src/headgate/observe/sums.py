"""Everything that was counted, as one reading: for /metrics, the dashboard's rates, and whoever compares two moments.

A reading is made from the shared segment alone and holds plain values. All counters only grow (a worker's death takes
nothing away), so a rate is the difference of two readings; `Latency.since` is that for histograms.

    before = await read(segment, names)
    ...
    after = await read(segment, names)
    p99_ns = after.pools["web"].latency.since(before.pools["web"].latency).quantile(0.99)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headgate.engine.stats import (
    BackendMarkTotals,
    BackendTotals,
    Latency,
    ListenerTotals,
    PoolMarkTotals,
    PoolTotals,
    RouteTotals,
    Segment,
    SupervisorTotals,
    Totals,
    WorkerTotals,
)

# Rows between two looks at everything else that waits in the loop. A row costs some 10 µs, so nobody waits for more
# than a few milliseconds.
SLICE = 200


@dataclass(frozen=True, slots=True)
class Names:
    """Whose counters are to be read: slots of the segment by name.

    backends: (pool, name, slot). routes: by label. workers: the numbers of those that are attached now.
    """

    backends: Sequence[tuple[str, str, int]] = ()
    pools: Mapping[str, int] = field(default_factory=dict)
    routes: Mapping[str, int] = field(default_factory=dict)
    listeners: Mapping[str, int] = field(default_factory=dict)
    workers: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class BackendSums:
    """One backend, since its slot was given to it. first_byte: of its attempts; None where it was not asked for.

    ramp, penalty: see `Segment.backend_ramp` and `Segment.backend_penalty`.
    """

    pool: str
    name: str
    slot: int
    flags: int
    weight: int
    ramp: tuple[int, int]
    penalty: int
    totals: BackendTotals
    marks: BackendMarkTotals
    first_byte: Latency | None


@dataclass(frozen=True, slots=True)
class PoolSums:
    """One pool. latency: of its requests in all, tunnels left out. first_byte: to their first byte."""

    name: str
    slot: int
    totals: PoolTotals
    marks: PoolMarkTotals
    latency: Latency
    first_byte: Latency


@dataclass(frozen=True, slots=True)
class WorkerSums:
    """One worker that is attached now. slow: see `Segment.slow_batches`."""

    worker: int
    totals: WorkerTotals
    slow: Latency


@dataclass(frozen=True, slots=True)
class Sums:
    """One reading. time_s: CLOCK_MONOTONIC at its begin."""

    time_s: float
    totals: Totals
    supervisor: SupervisorTotals
    workers: tuple[WorkerSums, ...]
    listeners: Mapping[str, ListenerTotals]
    routes: Mapping[str, RouteTotals]
    pools: Mapping[str, PoolSums]
    backends: Sequence[BackendSums]


async def read(segment: Segment, names: Names, *, backend_latency: bool = False) -> Sums:
    """Read it all, letting others run in between. backend_latency: with a histogram for each backend."""
    began = time.monotonic()
    backends: list[BackendSums] = []
    for pool, name, slot in names.backends:
        flags, weight = segment.backend_flags(slot), segment.backend_weight(slot)
        first_byte = segment.backend_first_byte_latency(slot) if backend_latency else None
        ramp, penalty = segment.backend_ramp(slot), segment.backend_penalty(slot)
        totals, marks = segment.backend_totals(slot), segment.backend_marks(slot)
        backends.append(BackendSums(pool, name, slot, flags, weight, ramp, penalty, totals, marks, first_byte))
        if len(backends) % SLICE == 0:
            await asyncio.sleep(0)
    routes: dict[str, RouteTotals] = {}
    for label, slot in names.routes.items():
        routes[label] = segment.route_totals(slot)
        if len(routes) % SLICE == 0:
            await asyncio.sleep(0)
    pools: dict[str, PoolSums] = {}
    for name, slot in names.pools.items():
        latency, first_byte_time = segment.latency(slot), segment.latency(slot, first_byte=True)
        pools[name] = PoolSums(
            name, slot, segment.pool_totals(slot), segment.pool_mark_totals(slot), latency, first_byte_time
        )
        if len(pools) % SLICE == 0:
            await asyncio.sleep(0)
    # What belongs together is read together: requests of all kinds after all that they are made of.
    return Sums(
        time_s=began,
        totals=segment.totals(),
        supervisor=segment.supervisor_totals(),
        workers=tuple(
            WorkerSums(worker, segment.worker_totals(worker), segment.slow_batches(worker)) for worker in names.workers
        ),
        listeners={bind: segment.listener_totals(slot) for bind, slot in names.listeners.items()},
        routes=routes,
        pools=pools,
        backends=backends,
    )
