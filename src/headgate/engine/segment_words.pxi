# Counters by their names, for Python. Included by stats.pyx.

cdef class BackendTotals:
    """One backend's counters, summed over workers. Names and meaning are those of BackendCounters in stats.pxd."""
    cdef readonly object active
    cdef readonly object attempts
    cdef readonly object succeeded
    cdef readonly object failed
    cdef readonly object bytes_received
    cdef readonly object bytes_sent
    cdef readonly object connects
    cdef readonly object reused
    cdef readonly object retried
    cdef readonly object idle
    cdef readonly object connections
    cdef readonly tuple status

    def as_dict(self) -> dict[str, object]:
        """The same as a dict, `status` (answers by class, [0] = none) as a list."""
        return {
            "active": self.active, "attempts": self.attempts, "succeeded": self.succeeded, "failed": self.failed,
            "bytes_received": self.bytes_received, "bytes_sent": self.bytes_sent, "connects": self.connects,
            "reused": self.reused, "retried": self.retried, "idle": self.idle, "connections": self.connections,
            "status": list(self.status),
        }

    def __repr__(self):
        return f"BackendTotals({', '.join(f'{name}={value}' for name, value in self.as_dict().items())})"


cdef dict worker_values(WorkerCounters *c):
    return {
        "accepted": load64(&c.accepted), "connections": load_signed(&c.connections), "requests": load64(&c.requests),
        "in_flight": load_signed(&c.in_flight), "answered": load64(&c.answered),
        "status": [load64(&c.status[i]) for i in range(6)],
        "kind": [load64(&c.kind[i]) for i in range(MAX_KINDS)],
        "retries": load64(&c.retries), "strategy_errors": load64(&c.strategy_errors),
        "log_dropped": load64(&c.log_dropped), "bytes_received": load64(&c.bytes_received),
        "bytes_sent": load64(&c.bytes_sent), "heartbeat_ms": load64(&c.heartbeat_ms),
        "generation": load64(&c.generation), "started_ms": load64(&c.started_ms),
        "tunnels": load_signed(&c.tunnels), "refused_connections": load64(&c.refused_connections),
        "retries_refused": load64(&c.retries_refused), "hedges": load64(&c.hedges), "hedges_won": load64(&c.hedges_won),
        "fallbacks": load64(&c.fallbacks), "batches": load64(&c.batches), "busy_ns": load64(&c.busy_ns),
    }

# Named in stats.pyi, where they are TypedDicts.
Totals = dict
WorkerTotals = dict
PoolTotals = dict
RouteTotals = dict
ListenerTotals = dict
BackendMarkTotals = dict
PoolMarkTotals = dict
SupervisorTotals = dict

# Of these a sum over workers says nothing.
cdef tuple NOT_SUMMED = ("heartbeat_ms", "generation", "started_ms")


cdef uint64_t *worker_word(WorkerCounters *c, str name, int index) except NULL:
    """The word called `name`; for "status" and "kind" the one at `index`."""
    if name == "accepted": return &c.accepted
    if name == "connections": return <uint64_t *>&c.connections
    if name == "requests": return &c.requests
    if name == "in_flight": return <uint64_t *>&c.in_flight
    if name == "answered": return &c.answered
    if name == "retries": return &c.retries
    if name == "strategy_errors": return &c.strategy_errors
    if name == "log_dropped": return &c.log_dropped
    if name == "bytes_received": return &c.bytes_received
    if name == "bytes_sent": return &c.bytes_sent
    if name == "heartbeat_ms": return &c.heartbeat_ms
    if name == "generation": return &c.generation
    if name == "started_ms": return &c.started_ms
    if name == "tunnels": return <uint64_t *>&c.tunnels
    if name == "refused_connections": return &c.refused_connections
    if name == "retries_refused": return &c.retries_refused
    if name == "hedges": return &c.hedges
    if name == "hedges_won": return &c.hedges_won
    if name == "fallbacks": return &c.fallbacks
    if name == "batches": return &c.batches
    if name == "busy_ns": return &c.busy_ns
    if name == "status" and 0 <= index < 6: return &c.status[index]
    if name == "kind" and 0 <= index < MAX_KINDS: return &c.kind[index]
    raise KeyError(f"no worker counter {name!r} at {index}")


cdef uint64_t *backend_word(BackendCounters *c, str name, int index) except NULL:
    if name == "active": return <uint64_t *>&c.active
    if name == "attempts": return &c.attempts
    if name == "succeeded": return &c.succeeded
    if name == "failed": return &c.failed
    if name == "bytes_received": return &c.bytes_received
    if name == "bytes_sent": return &c.bytes_sent
    if name == "connects": return &c.connects
    if name == "reused": return &c.reused
    if name == "retried": return &c.retried
    if name == "idle": return <uint64_t *>&c.idle
    if name == "connections": return <uint64_t *>&c.connections
    if name == "requests_held": return <uint64_t *>&c.requests_held
    if name == "requests_pending": return &c.requests_pending
    if name == "status" and 0 <= index < 6: return &c.status[index]
    raise KeyError(f"no backend counter {name!r} at {index}")


cdef uint64_t *pool_word(PoolCounters *c, str name, int index) except NULL:
    if name == "queued": return &c.queued
    if name == "queued_ns": return &c.queued_ns
    if name == "queue_timeouts": return &c.queue_timeouts
    if name == "overloaded": return &c.overloaded
    if name == "left": return &c.left
    if name == "replayed": return &c.replayed
    if name == "hedges": return &c.hedges
    if name == "hedges_won": return &c.hedges_won
    if name == "hedges_refused": return &c.hedges_refused
    if name == "fallbacks": return &c.fallbacks
    if name == "status" and 0 <= index < 6: return &c.status[index]
    if name == "retried" and 0 <= index < MAX_KINDS: return &c.retried[index]
    if name == "not_retried" and 0 <= index < <int>NOT_RETRIED_COUNT: return &c.not_retried[index]
    raise KeyError(f"no pool counter {name!r} at {index}")


cdef uint64_t *mark_word(BackendMarks *m, str name) except NULL:
    if name == "ejections": return &m.ejections
    if name == "went_up": return &m.went_up
    if name == "went_down": return &m.went_down
    if name == "checks_passed": return &m.checks_passed
    if name == "checks_failed": return &m.checks_failed
    raise KeyError(f"the supervisor counts no {name!r} of a backend")


cdef uint64_t *pool_mark_word(PoolMarks *m, str name, int index) except NULL:
    if name == "ejections" and 0 <= index < 4: return &m.ejections[index]
    if name == "penalties" and 0 <= index < 2: return &m.penalties[index]
    raise KeyError(f"the supervisor counts no {name!r} of a pool at {index}")


cdef uint64_t *supervisor_word(SupervisorCounters *s, str name) except NULL:
    if name == "reloads": return &s.reloads
    if name == "reloads_refused": return &s.reloads_refused
    if name == "rollbacks": return &s.rollbacks
    if name == "upgrades": return &s.upgrades
    if name == "worker_starts": return &s.worker_starts
    if name == "worker_deaths": return &s.worker_deaths
    if name == "requests_lost": return &s.requests_lost
    if name == "reloaded_ms": return &s.reloaded_ms
    if name == "reload_ok": return &s.reload_ok
    raise KeyError(f"the supervisor counts no {name!r}")


cdef object latency_of(const uint64_t *sums, int count, int steps, uint64_t counted, uint64_t sum_ns):
    cdef int index
    buckets = [(bucket_start(steps * (index + 1)), sums[index]) for index in range(count) if sums[index]]
    return Latency(counted, sum_ns, buckets, steps)


cdef uint64_t add_coarse(uint64_t *sums, CoarseHistogram *h) noexcept nogil:
    """Adds its buckets to `sums`; returns how many values they hold."""
    cdef int index
    cdef uint64_t here, count = 0
    for index in range(COARSE_BUCKETS):
        here = load64(&h.bucket[index])
        sums[index] += here
        count += here
    return count
