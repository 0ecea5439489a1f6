from collections.abc import Sequence
from types import TracebackType
from typing import Final, TypedDict

from headgate.engine.histogram import Latency as Latency
from headgate.engine.histogram import bucket_of as bucket_of
from headgate.engine.histogram import histogram_bounds as histogram_bounds

PRESENT: Final[int]
ENABLED: Final[int]
UP: Final[int]
CHECKED: Final[int]
EJECTED: Final[int]
HALF_OPEN: Final[int]
DRAINING: Final[int]
DRAINED: Final[int]
MAX_WEIGHT: Final[int]
EJECTION_CAUSES: Final[tuple[str, ...]]
PENALTY_STATUSES: Final[tuple[int, ...]]
NOT_RETRIED: Final[tuple[str, ...]]
"""Why a failed request was not sent again."""

class BackendTotals:
    """One backend's counters, summed over workers."""

    active: Final[int]
    """Attempts in flight."""
    attempts: Final[int]
    """Attempts started."""
    succeeded: Final[int]
    failed: Final[int]
    """Attempts whose kind counts against the backend."""
    bytes_received: Final[int]
    """Body bytes from the backend."""
    bytes_sent: Final[int]
    connects: Final[int]
    """Connections opened."""
    reused: Final[int]
    """Attempts on a kept connection."""
    retried: Final[int]
    """Attempts that were a retry of a request which failed elsewhere."""
    idle: Final[int]
    """Idle kept connections."""
    connections: Final[int]
    """Open connections, idle ones included."""
    status: Final[tuple[int, ...]]
    """Answers by class; [0] = none."""

    def as_dict(self) -> dict[str, int | list[int]]:
        """The same as a dict, `status` as a list."""

class Totals(TypedDict):
    """Counters of WorkerCounters in stats.pxd."""

    accepted: int
    connections: int
    """Open client connections."""
    requests: int
    """Exchanges begun."""
    in_flight: int
    answered: int
    """Exchanges that got a complete answer."""
    status: list[int]
    """Answers by class; [0] = none."""
    kind: list[int]
    """Exchanges by how they ended, indexed by headgate.errors.Kind."""
    retries: int
    strategy_errors: int
    log_dropped: int
    """Access-log lines."""
    bytes_received: int
    """Body bytes from clients."""
    bytes_sent: int
    tunnels: int
    refused_connections: int
    """Over max_connections."""
    retries_refused: int
    hedges: int
    hedges_won: int
    fallbacks: int
    batches: int
    """Wake-ups of the event loop."""
    busy_ns: int
    """How long they took, together."""

class WorkerTotals(Totals):
    """One worker's counters."""

    heartbeat_ms: int
    """CLOCK_MONOTONIC, once a second."""
    generation: int
    """The last one applied."""
    started_ms: int

class PoolTotals(TypedDict):
    """A pool's limits and its queue, over all workers."""

    requests: int
    """Attempts in flight under `limits.max_requests`; 0 where there is no such limit."""
    waiting: int
    """Requests in the queue."""
    fresh: int
    """Those of them that any backend would suit; counted only where there are several workers."""
    queued: int
    """Requests that had to wait."""
    queued_ns: int
    """How long, together; those that still wait left out."""
    queue_timeouts: int
    overloaded: int
    """Met a full queue."""
    left: int
    """The client left while it waited."""
    limit: float
    """Attempts in flight that adaptive concurrency allows, all workers together; 0 = not in use."""
    status: list[int]
    """Requests by class of their status; [0] = ended without one."""
    retried: list[int]
    """Retries by how the attempt before ended, indexed by headgate.errors.Kind."""
    not_retried: list[int]
    """Failed requests that were not sent again, by why not: indexed by NOT_RETRIED."""
    replayed: int
    """Once more on a fresh connection, since a kept one was just closed."""
    hedges: int
    hedges_won: int
    hedges_refused: int
    """Not paid for by the retry budget."""
    fallbacks: int
    """Requests that another pool, or the static answer, had to serve."""

class RouteTotals(TypedDict):
    """A route's requests, over all workers."""

    status: list[int]
    """By class of their status; [0] = ended without one."""
    latency: Latency
    """How long they took in all, tunnels left out; coarse."""

class ListenerTotals(TypedDict):
    """What came in by a listener, over all workers."""

    accepted: int
    """Connections."""
    refused: int
    """Connections over a limit."""
    open: int
    """Connections that came in by it and are open now."""
    status: list[int]
    """Requests by class of their status; [0] = ended without one."""

class BackendMarkTotals(TypedDict):
    """What the supervisor has seen of a backend."""

    ejections: int
    went_up: int
    went_down: int
    checks_passed: int
    checks_failed: int

class PoolMarkTotals(TypedDict):
    """What the supervisor has seen of a pool's backends, those included that were removed since."""

    ejections: list[int]
    """By EJECTION_CAUSES."""
    penalties: list[int]
    """How often one began to get less, by PENALTY_STATUSES."""

class SupervisorTotals(TypedDict):
    """What the supervisor has counted since the process tree began, upgrades included."""

    reloads: int
    reloads_refused: int
    rollbacks: int
    upgrades: int
    worker_starts: int
    worker_deaths: int
    """Those nobody wanted."""
    requests_lost: int
    """That were under way in a worker as it died."""
    reloaded_ms: int
    """Milliseconds since 1970 at which the configuration came into force; 0 = not yet."""
    reload_ok: int
    """1 when the last attempt to load a configuration went well."""

class Segment:
    """The shared memory of one process tree: `create` in the supervisor, `open` in a worker.

    Every method raises ValueError once the segment is closed and IndexError for a worker, slot or pool it was not laid
    out for.
    """

    fd: Final[int]
    """The memfd, closed with the segment; -1 afterwards."""
    workers: Final[int]
    backend_capacity: Final[int]
    pool_capacity: Final[int]
    route_capacity: Final[int]
    """Route 0 stands for all that found no place."""
    listener_capacity: Final[int]

    @staticmethod
    def create(
        workers: int, backends: int = 8192, pools: int = 1024, *, room: int = 0, routes: int = 1024, listeners: int = 64
    ) -> Segment:
        """A new, zeroed segment for so many workers (1 to 1024), backends, pools, routes and listeners. OSError when
        memory is refused.

        room: parts for so many workers in all, of which `workers` are in use; see `use_workers`.
        """

    @staticmethod
    def open(fd: int, wakes: Sequence[int] = ()) -> Segment:
        """The segment behind an inherited descriptor, which it takes over (the caller keeps it when this raises).

        wakes: the inherited eventfds, one for each worker; taken over too. ValueError says why it is not one: too
        short, another magic, another layout or size.
        """

    def close(self) -> None:
        """Unmaps it and closes the descriptor. Only after every engine that uses it: they hold pointers into it."""

    def __enter__(self) -> Segment: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    @property
    def wakes(self) -> tuple[int, ...]:
        """An eventfd for each worker, by which others make it look at its queues; empty where there is one worker."""

    # Written by the supervisor.
    def set_backend(
        self,
        slot: int,
        *,
        flags: int | None = None,
        weight: int | None = None,
        reason: str | None = None,
        since_ms: int | None = None,
        ramp: tuple[int, int] | None = None,
        penalty: int | None = None,
    ) -> None:
        """Writes what is given of a backend's state and leaves the rest; bump_generation() makes workers look.

        weight: 0 to 256, else ValueError. reason: cut at 215 bytes of UTF-8. since_ms: milliseconds since 1970.
        ramp: see `backend_ramp`. penalty: see `backend_penalty`.
        """

    def clear_backend(self, slot: int) -> None:
        """Frees a slot for another backend: state and counters become zero, gauges stay to their owners.

        Only when all workers acknowledged that the backend is gone.
        """

    def clear_pool(self, pool: int) -> None:
        """Frees a pool's slot for another pool: histograms and counters become zero in every worker's part."""

    def clear_route(self, route: int) -> None:
        """Frees a route's slot for another route."""

    def clear_listener(self, listener: int) -> None:
        """Frees a listener's slot for another listener."""

    def add_mark(self, slot: int, name: str, amount: int = 1) -> None:
        """Adds to what the supervisor counts of a backend. KeyError for an unknown name."""

    def add_pool_mark(self, pool: int, name: str, index: int, amount: int = 1) -> None:
        """Adds to what the supervisor counts of a pool's backends: "ejections" by EJECTION_CAUSES, "penalties" by
        PENALTY_STATUSES. KeyError for an unknown name or index."""

    def add_supervisor(self, name: str, amount: int = 1) -> None:
        """Adds to one of the supervisor's own counters. KeyError for an unknown name."""

    def set_supervisor(self, name: str, value: int) -> None:
        """Sets one of the supervisor's own words. KeyError for an unknown name."""

    def use_workers(self, count: int) -> None:
        """Workers 0 to count - 1 count from now on: their parts are in every sum, for good."""

    @property
    def used(self) -> int:
        """How many workers' parts have been in use."""

    def heartbeat_s(self, worker: int) -> float:
        """When this worker last looked after its house, in seconds of CLOCK_MONOTONIC; 0 = never."""

    def bump_generation(self) -> int:
        """Tells every worker that some state changed; returns the new generation."""

    def zero_worker_gauges(self, worker: int) -> None:
        """After a worker's death: what it had open counts as gone; its probes and its places under limits are freed."""

    def release_probe(self, slot: int) -> None:
        """Frees a backend's half-open probe, whoever holds it."""

    # Read by anyone.
    @property
    def generation(self) -> int:
        """How often some backend's state changed."""

    def backend_flags(self, slot: int) -> int: ...
    def backend_weight(self, slot: int) -> int: ...
    def backend_penalty(self, slot: int) -> int:
        """The status (429, 503) by which it asked for its ramp; 0: it did not, it starts slowly."""

    def backend_reason(self, slot: int) -> str: ...
    def backend_since_ms(self, slot: int) -> int: ...
    def backend_ramp(self, slot: int) -> tuple[int, int]:
        """(from_ms, ms): CLOCK_MONOTONIC at which its share begins to grow, and for how long it does; (0, 0) = none."""

    def backend_state(self, slot: int) -> tuple[int, int, str, int]:
        """(flags, weight, reason, since_ms), all of one moment."""

    def claim_probe(self, slot: int, worker: int) -> bool:
        """Takes the backend's half-open probe for `worker`; False when it is taken (by this worker, too)."""

    def probe_holder(self, slot: int) -> int | None:
        """The worker that holds the half-open probe, or None."""

    def backend_totals(self, slot: int) -> BackendTotals:
        """The backend's counters, summed over workers."""

    def backend_first_byte_latency(self, slot: int) -> Latency:
        """How long it took to its first byte, over all workers and attempts that had one; coarse."""

    def backend_marks(self, slot: int) -> BackendMarkTotals:
        """What the supervisor has seen of it."""

    def pool_mark_totals(self, pool: int) -> PoolMarkTotals:
        """What the supervisor has seen of its backends."""

    def route_totals(self, route: int) -> RouteTotals:
        """A route's requests, over all workers."""

    def listener_totals(self, listener: int) -> ListenerTotals:
        """What came in by a listener, over all workers."""

    def slow_batches(self, worker: int) -> Latency:
        """How long this worker's event loop was busy at a time, where it was for a millisecond and more; coarse. What
        the next event had to wait for."""

    def supervisor_totals(self) -> SupervisorTotals:
        """What the supervisor has counted."""

    def backend_active(self, slot: int) -> int:
        """Attempts in flight at this backend, over all workers."""

    def places(self, slot: int) -> tuple[int, int]:
        """(attempts in flight under max_requests, connections under max_connections) of a backend, over all workers; 0
        for what has no limit."""

    def pool_totals(self, pool: int) -> PoolTotals:
        """A pool's limits and queue, over all workers."""

    def worker_totals(self, worker: int) -> WorkerTotals:
        """One worker's counters by the names of WorkerCounters in stats.pxd; `status` and `kind` are lists."""

    def totals(self) -> Totals:
        """The same summed over workers, without heartbeat_ms, generation and started_ms."""

    def kind_counts(self) -> list[int]:
        """Exchanges by how they ended, over all workers, indexed by headgate.errors.Kind."""

    def latency(self, pool: int, *, first_byte: bool = False) -> Latency:
        """Latency of a pool's exchanges over all workers: their total time, or the time to their first byte."""

    # Written by a worker, from Python (the engine writes through pointers).
    def add_worker(self, worker: int, name: str, amount: int = 1, *, index: int = 0) -> None:
        """Adds to one of the worker's own counters; `index` for "status" and "kind". KeyError for an unknown name."""

    def set_worker(self, worker: int, name: str, value: int) -> None:
        """Sets one of the worker's own words, such as started_ms or generation. KeyError for an unknown name."""

    def add_backend(self, worker: int, slot: int, name: str, amount: int = 1, *, index: int = 0) -> None:
        """Adds to one of the worker's own counters of a backend; `index` for "status". KeyError for an unknown name."""

    def take_place(self, worker: int, slot: int, limit: int) -> bool:
        """Takes one of `limit` places for attempts at a backend, for `worker`; False when all are taken."""

    def give_place(self, worker: int, slot: int) -> None:
        """Gives one back; does nothing when `worker` holds none."""

    def add_latency(self, worker: int, pool: int, ns: int, *, first_byte: bool = False) -> None:
        """Counts one duration in the worker's own histogram of a pool."""

    def add_pool(self, worker: int, pool: int, name: str, amount: int = 1, *, index: int = 0) -> None:
        """Adds to one of the worker's own counters of a pool; `index` for "status", "retried" and "not_retried".
        KeyError for an unknown name."""

    def add_route(self, worker: int, route: int, status_class: int, ns: int) -> None:
        """Counts one request in the worker's own counters of a route."""

    def add_listener(self, worker: int, listener: int, status_class: int) -> None:
        """Counts one request in the worker's own counters of a listener."""

    def add_first_byte(self, worker: int, slot: int, ns: int) -> None:
        """Counts one attempt's time to the first byte in the worker's own histogram of a backend."""
