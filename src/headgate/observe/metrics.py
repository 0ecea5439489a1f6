"""The one table of what `/metrics` shows: name, kind, labels, meaning, and where the values come from.

The page of Prometheus (`exposition`), the documentation (docs/metrics.md, `metrics_page`) and the checks of dashboards
and alerts are made of it. Names follow Prometheus: base units, `_total` for what only grows. Every label has a bound:
listeners, routes, pools and backends are those of the configuration, all other labels have a fixed set of words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headgate.engine import stats
from headgate.errors import Kind, Retry
from headgate.observe.metric import CLASSES, LAG_BOUNDS_NS, Histogram, Metric, Reading, Rows, Value, histogram, labels
from headgate.observe.processes import Process
from headgate.observe.status import routable
from headgate.observe.sums import BackendSums, PoolSums, WorkerSums
from headgate.resilience import slow_start

BackendValue = Callable[[BackendSums], int | float]

# ---- where rows come from


def _one(value: Callable[[Reading], int | float]) -> Callable[[Reading], Rows]:
    return lambda now: (("", value(now)),)


def _of_backends(value: BackendValue) -> Callable[[Reading], Rows]:
    return lambda now: (
        (label, value(backend)) for label, backend in zip(now.backend_labels, now.sums.backends, strict=True)
    )


def _of_pools(value: Callable[[PoolSums], Value]) -> Callable[[Reading], Rows]:
    return lambda now: ((labels(pool=name), value(pool)) for name, pool in now.sums.pools.items())


def _of_workers(value: Callable[[WorkerSums], Value]) -> Callable[[Reading], Rows]:
    return lambda now: ((labels(worker=str(one.worker)), value(one)) for one in now.sums.workers)


def _of_processes(value: Callable[[Process], int | float | None]) -> Callable[[Reading], Rows]:
    return lambda now: ((labels(process=one.name), known) for one in now.processes if (known := value(one)) is not None)


def _by_class(statuses: Sequence[int], **where: str) -> Rows:
    return ((labels(**where, **{"class": name}), count) for name, count in zip(CLASSES, statuses, strict=True))


def _backend_answers(now: Reading) -> Rows:
    for label, backend in zip(now.backend_labels, now.sums.backends, strict=True):
        status = backend.totals.status
        for digit in range(1, 6):  # an attempt without an answer is none of the backend's
            yield f'{label},class="{digit}xx"', status[digit]


def _listeners(now: Reading) -> Rows:
    return (row for bind, one in now.sums.listeners.items() for row in _by_class(one["status"], listener=bind))


def _routes(now: Reading) -> Rows:
    return (row for name, one in now.sums.routes.items() for row in _by_class(one["status"], route=name))


def _pools(now: Reading) -> Rows:
    return (row for name, one in now.sums.pools.items() for row in _by_class(one.totals["status"], pool=name))


# What may be tried again at all.
_RETRIED = tuple(kind for kind in Kind if kind.retryable is not Retry.NEVER and kind is not Kind.STALE)


def _retries(now: Reading) -> Rows:
    for name, pool in now.sums.pools.items():
        retried = pool.totals["retried"]
        for kind in _RETRIED:
            yield labels(pool=name, reason=kind.word), retried[kind]
        # A pause for a full backend, and whatever else there may be one day.
        yield labels(pool=name, reason="other"), sum(retried) - sum(retried[kind] for kind in _RETRIED)


def _not_retried(now: Reading) -> Rows:
    for name, pool in now.sums.pools.items():
        for reason, count in zip(stats.NOT_RETRIED, pool.totals["not_retried"], strict=True):
            yield labels(pool=name, reason=reason), count


def _outcomes(now: Reading) -> Rows:
    counts = now.sums.totals["kind"]
    return ((labels(outcome=kind.word, source=kind.source.value), counts[kind]) for kind in Kind)


def _backend_first_bytes(now: Reading) -> Rows:
    for label, backend in zip(now.backend_labels, now.sums.backends, strict=True):
        if backend.first_byte is not None:
            yield label, histogram(backend.first_byte)


def _lag(worker: WorkerSums) -> Histogram:
    """Batches that were too short to be sorted in are below every bound."""
    totals = worker.totals
    slow = histogram(worker.slow, LAG_BOUNDS_NS)
    short = max(0, totals["batches"] - slow.count)
    return Histogram(
        slow.bounds_ns, [short + below for below in slow.below], short + slow.count, totals["busy_ns"] / 1e9
    )


def _breaker(backend: BackendSums) -> int:
    return 2 if backend.flags & stats.EJECTED else 1 if backend.flags & stats.HALF_OPEN else 0


def _part(backend: BackendSums, now_s: float) -> float:
    from_ms, for_ms = backend.ramp
    return slow_start.factor(now_s, from_ms / 1e3, for_ms / 1e3)


def _parts(now: Reading) -> Rows:
    for label, backend in zip(now.backend_labels, now.sums.backends, strict=True):
        yield label, _part(backend, now.now_s)


def _ejections(now: Reading) -> Rows:
    for name, pool in now.sums.pools.items():
        for cause, count in zip(stats.EJECTION_CAUSES, pool.marks["ejections"], strict=True):
            yield labels(pool=name, cause=cause), count


def _penalties(now: Reading) -> Rows:
    for name, pool in now.sums.pools.items():
        for status, count in zip(stats.PENALTY_STATUSES, pool.marks["penalties"], strict=True):
            yield labels(pool=name, status=str(status)), count


def _asking_for_less(now: Reading) -> Rows:
    counts = dict.fromkeys(now.pools, 0)
    for backend in now.sums.backends:
        counts[backend.pool] += backend.penalty != 0 and _part(backend, now.now_s) < 1
    return ((labels(pool=name), count) for name, count in counts.items())


def _draining(now: Reading) -> Rows:
    counts = dict.fromkeys(now.pools, 0)
    for backend in now.sums.backends:
        counts[backend.pool] += bool(backend.flags & stats.DRAINING)
    return ((labels(pool=name), count) for name, count in counts.items())


def _waiting(pool: PoolSums) -> int:
    return pool.totals["waiting"]


_LOOP = "How long the event loop was busy at a time: what the next event waited for at most."

METRICS: tuple[Metric, ...] = (
    Metric("build", "info", ("version",), "The version that runs.", lambda now: ((labels(version=now.version), 1),)),
    # clients
    Metric(
        "client_connections",
        "gauge",
        ("listener",),
        "Open connections of clients.",
        lambda now: ((labels(listener=bind), one["open"]) for bind, one in now.sums.listeners.items()),
    ),
    Metric(
        "client_connections_accepted",
        "counter",
        ("listener",),
        "Connections of clients, those over a limit included.",
        lambda now: ((labels(listener=bind), one["accepted"]) for bind, one in now.sums.listeners.items()),
    ),
    Metric(
        "client_connections_refused",
        "counter",
        ("listener",),
        "Connections of clients that were closed at once, over a limit.",
        lambda now: ((labels(listener=bind), one["refused"]) for bind, one in now.sums.listeners.items()),
    ),
    Metric(
        "client_received_bytes",
        "counter",
        (),
        "Body bytes from clients, of requests that have ended.",
        _one(lambda now: now.sums.totals["bytes_received"]),
    ),
    Metric(
        "client_sent_bytes",
        "counter",
        (),
        "Body bytes to clients, of requests that have ended.",
        _one(lambda now: now.sums.totals["bytes_sent"]),
    ),
    Metric(
        "tunnels", "gauge", (), "Requests that have switched protocols.", _one(lambda now: now.sums.totals["tunnels"])
    ),
    # requests
    Metric(
        "requests_begun", "counter", (), "Requests whose head was read.", _one(lambda now: now.sums.totals["requests"])
    ),
    Metric("requests_in_flight", "gauge", (), "Requests under way.", _one(lambda now: now.sums.totals["in_flight"])),
    Metric(
        "requests_lost",
        "counter",
        (),
        "Requests that were under way in a worker as it died. Begun = ended + in flight + lost.",
        _one(lambda now: now.sums.supervisor["requests_lost"]),
    ),
    Metric(
        "requests",
        "counter",
        ("outcome", "source"),
        "Requests that have ended, by how (docs/errors.md) and by who caused it: client, upstream, internal, none. "
        "Those that the balancer refused have the source client or internal.",
        _outcomes,
    ),
    Metric(
        "responses",
        "counter",
        ("class",),
        "Requests that have ended, by class of their status; none where there was no status to send.",
        lambda now: _by_class(now.sums.totals["status"]),
    ),
    Metric("listener_requests", "counter", ("listener", "class"), "Requests that have ended, by listener.", _listeners),
    Metric("route_requests", "counter", ("route", "class"), "Requests that have ended, by route.", _routes),
    Metric(
        "route_request_duration_seconds",
        "histogram",
        ("route",),
        "From the whole head of a request to its end, tunnels left out.",
        lambda now: ((labels(route=name), histogram(one["latency"])) for name, one in now.sums.routes.items()),
    ),
    # pools
    Metric("pool_requests", "counter", ("pool", "class"), "Requests that have ended, by pool.", _pools),
    Metric(
        "pool_request_duration_seconds",
        "histogram",
        ("pool",),
        "From the whole head of a request to its end, tunnels left out.",
        _of_pools(lambda pool: histogram(pool.latency)),
    ),
    Metric(
        "pool_first_byte_seconds",
        "histogram",
        ("pool",),
        "From the whole head of a request to the first byte of its answer.",
        _of_pools(lambda pool: histogram(pool.first_byte)),
    ),
    Metric(
        "pool_backends",
        "gauge",
        ("pool",),
        "Backends in the pool.",
        lambda now: ((labels(pool=name), count) for name, (count, _) in now.pools.items()),
    ),
    Metric(
        "pool_backends_up",
        "gauge",
        ("pool",),
        "Backends that get requests.",
        lambda now: ((labels(pool=name), up) for name, (_, up) in now.pools.items()),
    ),
    Metric(
        "pool_panic",
        "gauge",
        ("pool",),
        "1 while ejected backends are used, since too few others are left.",
        lambda now: ((labels(pool=name), int(name in now.panic)) for name in now.pools),
    ),
    Metric(
        "pool_backends_penalized",
        "gauge",
        ("pool",),
        "Backends that get less than their weight, since they answered 429 or 503 with Retry-After.",
        _asking_for_less,
    ),
    Metric("pool_backends_draining", "gauge", ("pool",), "Backends that drain, or are drained.", _draining),
    Metric(
        "pool_ejections",
        "counter",
        ("pool", "cause"),
        "How often a backend's breaker opened, by what opened it: consecutive_failures (breaker.failure_threshold), "
        "failure_rate (breaker.failure_rate), connect_failure (a request, where nothing checks), probe_failed (it was "
        "half-open). Removed backends included.",
        _ejections,
    ),
    Metric(
        "pool_penalties",
        "counter",
        ("pool", "status"),
        "How often a backend began to get less, since it answered so with Retry-After.",
        _penalties,
    ),
    Metric(
        "pool_fallback_active",
        "gauge",
        ("pool",),
        "1 while nothing in the pool is routable and its fallback (another pool, or a static answer) serves.",
        lambda now: ((labels(pool=name), int(name in now.stand_ins)) for name in now.pools),
    ),
    Metric("pool_retries", "counter", ("pool", "reason"), "Retries, by what became of the attempt before.", _retries),
    Metric(
        "pool_retries_not_made",
        "counter",
        ("pool", "reason"),
        "Failed attempts that were not followed by another: budget (retry.budget is used up), deadline (no time left), "
        "replay_cap (the body was not kept), method (not idempotent, and it was sent), retries (retry.retries are used "
        "up), no_backend (all were tried).",
        _not_retried,
    ),
    Metric(
        "pool_replays",
        "counter",
        ("pool",),
        "Requests sent again on a fresh connection, since a kept one was just closed. Not among the retries.",
        _of_pools(lambda pool: pool.totals["replayed"]),
    ),
    Metric(
        "pool_hedges",
        "counter",
        ("pool",),
        "Second attempts beside a slow first one.",
        _of_pools(lambda pool: pool.totals["hedges"]),
    ),
    Metric(
        "pool_hedges_won",
        "counter",
        ("pool",),
        "Hedges whose answer was the one that was used.",
        _of_pools(lambda pool: pool.totals["hedges_won"]),
    ),
    Metric(
        "pool_hedges_not_made",
        "counter",
        ("pool",),
        "Hedges that the retry budget did not allow.",
        _of_pools(lambda pool: pool.totals["hedges_refused"]),
    ),
    Metric(
        "pool_fallbacks",
        "counter",
        ("pool",),
        "Requests that another pool, or the static answer, served in its place.",
        _of_pools(lambda pool: pool.totals["fallbacks"]),
    ),
    Metric("pool_queue_length", "gauge", ("pool",), "Requests that wait for a place.", _of_pools(_waiting)),
    Metric(
        "pool_queued",
        "counter",
        ("pool",),
        "Requests that had to wait for a place.",
        _of_pools(lambda pool: pool.totals["queued"]),
    ),
    Metric(
        "pool_queue_wait_seconds",
        "counter",
        ("pool",),
        "How long requests waited for a place, together; those that still wait left out.",
        _of_pools(lambda pool: pool.totals["queued_ns"] / 1e9),
    ),
    Metric(
        "pool_queue_timeouts",
        "counter",
        ("pool",),
        "Requests that waited for timeouts.queue in vain.",
        _of_pools(lambda pool: pool.totals["queue_timeouts"]),
    ),
    Metric(
        "pool_queue_rejected",
        "counter",
        ("pool",),
        "Requests that met a full queue.",
        _of_pools(lambda pool: pool.totals["overloaded"]),
    ),
    Metric(
        "pool_queue_abandoned",
        "counter",
        ("pool",),
        "Requests whose client left while they waited.",
        _of_pools(lambda pool: pool.totals["left"]),
    ),
    Metric(
        "pool_adaptive_limit",
        "gauge",
        ("pool",),
        "Requests in flight that limits.adaptive allows; 0 where it is off.",
        _of_pools(lambda pool: pool.totals["limit"]),
    ),
    # backends
    Metric(
        "backend_up",
        "gauge",
        ("pool", "backend"),
        "1 while it gets requests.",
        _of_backends(lambda backend: int(routable(backend.flags))),
    ),
    Metric(
        "backend_breaker_state",
        "gauge",
        ("pool", "backend"),
        "0 closed, 1 half-open, 2 open (ejected).",
        _of_backends(_breaker),
    ),
    Metric("backend_weight", "gauge", ("pool", "backend"), "Its weight.", _of_backends(lambda backend: backend.weight)),
    Metric(
        "backend_weight_part",
        "gauge",
        ("pool", "backend"),
        "The part of its weight that it gets now: below 1 while it starts slowly, or since it asked for less.",
        _parts,
    ),
    Metric(
        "backend_requests_in_flight",
        "gauge",
        ("pool", "backend"),
        "Attempts under way.",
        _of_backends(lambda backend: backend.totals.active),
    ),
    Metric(
        "backend_connections",
        "gauge",
        ("pool", "backend"),
        "Open connections, idle ones included.",
        _of_backends(lambda backend: backend.totals.connections),
    ),
    Metric(
        "backend_idle_connections",
        "gauge",
        ("pool", "backend"),
        "Kept connections that wait for a request.",
        _of_backends(lambda backend: backend.totals.idle),
    ),
    Metric(
        "backend_connections_opened",
        "counter",
        ("pool", "backend"),
        "Connections opened.",
        _of_backends(lambda backend: backend.totals.connects),
    ),
    Metric(
        "backend_connections_reused",
        "counter",
        ("pool", "backend"),
        "Attempts on a kept connection.",
        _of_backends(lambda backend: backend.totals.reused),
    ),
    Metric(
        "backend_attempts",
        "counter",
        ("pool", "backend"),
        "Attempts begun.",
        _of_backends(lambda backend: backend.totals.attempts),
    ),
    Metric(
        "backend_attempts_succeeded",
        "counter",
        ("pool", "backend"),
        "Attempts that speak for the backend.",
        _of_backends(lambda backend: backend.totals.succeeded),
    ),
    Metric(
        "backend_attempts_failed",
        "counter",
        ("pool", "backend"),
        "Attempts that count against the backend.",
        _of_backends(lambda backend: backend.totals.failed),
    ),
    Metric(
        "backend_retries",
        "counter",
        ("pool", "backend"),
        "Attempts that were the retry of a request which had failed elsewhere.",
        _of_backends(lambda backend: backend.totals.retried),
    ),
    Metric(
        "backend_responses",
        "counter",
        ("pool", "backend", "class"),
        "Its answers that were relayed, by class of their status.",
        _backend_answers,
    ),
    Metric(
        "backend_received_bytes",
        "counter",
        ("pool", "backend"),
        "Body bytes from the backend.",
        _of_backends(lambda backend: backend.totals.bytes_received),
    ),
    Metric(
        "backend_sent_bytes",
        "counter",
        ("pool", "backend"),
        "Body bytes to the backend.",
        _of_backends(lambda backend: backend.totals.bytes_sent),
    ),
    Metric(
        "backend_ejections",
        "counter",
        ("pool", "backend"),
        "How often its breaker opened. By what opened it: pool_ejections.",
        _of_backends(lambda backend: backend.marks["ejections"]),
    ),
    Metric(
        "backend_health_changes",
        "counter",
        ("pool", "backend", "to"),
        "How often its checks said that it is up, or down, and had not said so before.",
        lambda now: (
            (f'{label},to="{word}"', count)
            for label, backend in zip(now.backend_labels, now.sums.backends, strict=True)
            for word, count in (("up", backend.marks["went_up"]), ("down", backend.marks["went_down"]))
        ),
    ),
    Metric(
        "backend_health_checks",
        "counter",
        ("pool", "backend", "result"),
        "Health checks that had a result.",
        lambda now: (
            (f'{label},result="{word}"', count)
            for label, backend in zip(now.backend_labels, now.sums.backends, strict=True)
            for word, count in (("passed", backend.marks["checks_passed"]), ("failed", backend.marks["checks_failed"]))
        ),
    ),
    Metric(
        "backend_first_byte_seconds",
        "histogram",
        ("pool", "backend"),
        "From an attempt's begin to the first byte of its answer. Only with metrics.backend_latency.",
        _backend_first_bytes,
    ),
    # the balancer itself
    Metric("workers", "gauge", (), "Workers that are attached.", _one(lambda now: len(now.sums.workers))),
    Metric("worker_starts", "counter", (), "Workers started.", _one(lambda now: now.sums.supervisor["worker_starts"])),
    Metric(
        "worker_deaths",
        "counter",
        (),
        "Workers that ended though nobody wanted it; each is replaced.",
        _one(lambda now: now.sums.supervisor["worker_deaths"]),
    ),
    Metric(
        "worker_connections",
        "gauge",
        ("worker",),
        "Open connections of clients, by worker.",
        _of_workers(lambda one: one.totals["connections"]),
    ),
    Metric(
        "worker_requests_in_flight",
        "gauge",
        ("worker",),
        "Requests under way, by worker.",
        _of_workers(lambda one: one.totals["in_flight"]),
    ),
    Metric(
        "worker_requests_begun",
        "counter",
        ("worker",),
        "Requests whose head was read, by worker.",
        _of_workers(lambda one: one.totals["requests"]),
    ),
    Metric(
        "worker_heartbeat_age_seconds",
        "gauge",
        ("worker",),
        "Since the worker last gave a sign of life, which it does once a second.",
        lambda now: (
            (labels(worker=str(one.worker)), max(0.0, now.now_s - now.heartbeats.get(one.worker, now.now_s)))
            for one in now.sums.workers
        ),
    ),
    Metric("worker_event_loop_lag_seconds", "histogram", ("worker",), _LOOP, _of_workers(_lag)),
    Metric(
        "strategy_errors",
        "counter",
        (),
        "Times that a strategy raised or named no usable backend; round robin serves then.",
        _one(lambda now: now.sums.totals["strategy_errors"]),
    ),
    Metric(
        "access_log_lines_dropped",
        "counter",
        (),
        "Lines of the access log that could not be written.",
        _one(lambda now: now.sums.totals["log_dropped"]),
    ),
    Metric(
        "config_reloads",
        "counter",
        ("result",),
        "Reloads that came into force, and those that were refused.",
        lambda now: (
            (labels(result="ok"), now.sums.supervisor["reloads"]),
            (labels(result="refused"), now.sums.supervisor["reloads_refused"]),
        ),
    ),
    Metric(
        "config_rollbacks",
        "counter",
        (),
        "Reloads that were taken back, since requests began to fail.",
        _one(lambda now: now.sums.supervisor["rollbacks"]),
    ),
    Metric(
        "config_last_reload_successful",
        "gauge",
        (),
        "0 when the last reload was refused, or taken back: what runs is not what the file says.",
        _one(lambda now: now.sums.supervisor["reload_ok"]),
    ),
    Metric(
        "config_last_reload_success_timestamp_seconds",
        "gauge",
        (),
        "When the configuration came into force, in seconds since 1970.",
        _one(lambda now: now.sums.supervisor["reloaded_ms"] / 1000),
    ),
    Metric(
        "certificate_expiry_seconds",
        "gauge",
        ("where", "file"),
        "Until the certificate in this file ends; below 0 once it has. A renewed one goes on in the same series.",
        lambda now: ((labels(where=one.where, file=one.file), one.expires_seconds) for one in now.certificates),
    ),
    Metric("upgrades", "counter", (), "Upgrades in place.", _one(lambda now: now.sums.supervisor["upgrades"])),
    Metric(
        "process_cpu_seconds",
        "counter",
        ("process",),
        "Processor time of the supervisor and of each worker, those that held its number before included.",
        _of_processes(lambda one: one.cpu_s),
    ),
    Metric(
        "process_resident_memory_bytes",
        "gauge",
        ("process",),
        "Memory in use, that shared with other processes included.",
        _of_processes(lambda one: one.resident_bytes),
    ),
    Metric("process_open_fds", "gauge", ("process",), "Open descriptors.", _of_processes(lambda one: one.open_fds)),
    Metric("process_max_fds", "gauge", ("process",), "How many may be open.", _of_processes(lambda one: one.max_fds)),
    Metric(
        "process_start_time_seconds",
        "gauge",
        ("process",),
        "When the process was started, in seconds since 1970.",
        _of_processes(lambda one: one.started_s),
    ),
)
