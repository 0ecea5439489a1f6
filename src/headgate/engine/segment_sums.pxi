# Included by stats.pyx.

cdef class SegmentSums(SegmentMemory):
    """What was counted, summed over workers."""

    def backend_totals(self, int slot):
        """The backend's counters, summed over workers: BackendTotals."""
        cdef BackendTotals total = BackendTotals.__new__(BackendTotals)
        cdef BackendCounters *c
        cdef int64_t active = 0, idle = 0, connections = 0
        cdef uint64_t attempts = 0, succeeded = 0, failed = 0, received = 0, sent = 0
        cdef uint64_t connects = 0, reused = 0, retried = 0
        cdef uint64_t[6] status
        cdef int worker, index
        self._check_slot(slot)
        memset(status, 0, sizeof(status))
        for worker in range(self.used_workers()):
            c = self.backend_counters(worker, slot)
            active += load_signed(&c.active)
            idle += load_signed(&c.idle)
            connections += load_signed(&c.connections)
            attempts += load64(&c.attempts)
            succeeded += load64(&c.succeeded)
            failed += load64(&c.failed)
            received += load64(&c.bytes_received)
            sent += load64(&c.bytes_sent)
            connects += load64(&c.connects)
            reused += load64(&c.reused)
            retried += load64(&c.retried)
            for index in range(6):
                status[index] += load64(&c.status[index])
        total.active = active
        total.idle = idle
        total.connections = connections
        total.attempts = attempts
        total.succeeded = succeeded
        total.failed = failed
        total.bytes_received = received
        total.bytes_sent = sent
        total.connects = connects
        total.reused = reused
        total.retried = retried
        total.status = tuple([status[index] for index in range(6)])
        return total

    def backend_active(self, int slot):
        """Attempts in flight at this backend, over all workers."""
        cdef int64_t active = 0
        cdef int worker
        self._check_slot(slot)
        for worker in range(self.used_workers()):
            active += load_signed(&self.backend_counters(worker, slot).active)
        return active

    def places(self, int slot):
        """(attempts in flight under max_requests, connections under max_connections) of a backend, over all workers; 0
        for what has no limit."""
        cdef BackendPlaces *places
        self._check_slot(slot)
        places = self.backend_places(slot)
        return places_taken(&places.requests), places_taken(&places.connections)

    def backend_first_byte_latency(self, int slot):
        """How long the backend took to its first byte, over all workers and attempts that had one: a coarse Latency."""
        cdef uint64_t[COARSE_BUCKETS] sums
        cdef uint64_t count = 0, sum_ns = 0
        cdef CoarseHistogram *h
        cdef int worker
        self._check_slot(slot)
        memset(sums, 0, sizeof(sums))
        for worker in range(self.used_workers()):
            h = self.backend_first_byte(worker, slot)
            sum_ns += load64(&h.sum_ns)
            count += add_coarse(sums, h)
        return latency_of(sums, COARSE_BUCKETS, COARSE_STEPS, count, sum_ns)

    def backend_marks(self, int slot):
        """What the supervisor has seen of a backend: BackendMarkTotals in stats.pyi."""
        cdef BackendMarks *m
        self._check_slot(slot)
        m = self.marks(slot)
        return {
            "ejections": load64(&m.ejections), "went_up": load64(&m.went_up), "went_down": load64(&m.went_down),
            "checks_passed": load64(&m.checks_passed), "checks_failed": load64(&m.checks_failed),
        }

    def pool_mark_totals(self, int pool):
        """What the supervisor has seen of a pool's backends: PoolMarkTotals in stats.pyi."""
        cdef PoolMarks *m
        cdef int index
        self._check_pool(pool)
        m = self.pool_marks(pool)
        return {
            "ejections": [load64(&m.ejections[index]) for index in range(4)],
            "penalties": [load64(&m.penalties[index]) for index in range(2)],
        }

    def pool_totals(self, int pool):
        """A pool's requests, limits and queue over all workers: PoolTotals in stats.pyi."""
        cdef PoolPlaces *places
        cdef PoolCounters *c
        cdef int worker, index
        cdef uint64_t queued = 0, queued_ns = 0, timeouts = 0, overloaded = 0, left = 0, limit = 0
        cdef uint64_t replayed = 0, hedges = 0, hedges_won = 0, hedges_refused = 0, fallbacks = 0
        cdef uint64_t[6] status
        cdef uint64_t[MAX_KINDS] retried
        cdef uint64_t[8] not_retried
        self._check_pool(pool)
        memset(status, 0, sizeof(status))
        memset(retried, 0, sizeof(retried))
        memset(not_retried, 0, sizeof(not_retried))
        places = self.pool_places(pool)
        for worker in range(self.used_workers()):
            c = self.pool_counters(worker, pool)
            queued += load64(&c.queued)
            queued_ns += load64(&c.queued_ns)
            timeouts += load64(&c.queue_timeouts)
            overloaded += load64(&c.overloaded)
            left += load64(&c.left)
            limit += load64(&c.limit)
            replayed += load64(&c.replayed)
            hedges += load64(&c.hedges)
            hedges_won += load64(&c.hedges_won)
            hedges_refused += load64(&c.hedges_refused)
            fallbacks += load64(&c.fallbacks)
            for index in range(6):
                status[index] += load64(&c.status[index])
            for index in range(MAX_KINDS):
                retried[index] += load64(&c.retried[index])
            for index in range(<int>NOT_RETRIED_COUNT):
                not_retried[index] += load64(&c.not_retried[index])
        return {
            "requests": places_taken(&places.requests), "waiting": places_taken(&places.waiting), "fresh": places_taken(&places.fresh),
            "queued": queued, "queued_ns": queued_ns, "queue_timeouts": timeouts, "overloaded": overloaded, "left": left,
            "limit": limit / 1000.0, "status": [status[index] for index in range(6)],
            "retried": [retried[index] for index in range(MAX_KINDS)],
            "not_retried": [not_retried[index] for index in range(<int>NOT_RETRIED_COUNT)],
            "replayed": replayed, "hedges": hedges, "hedges_won": hedges_won, "hedges_refused": hedges_refused,
            "fallbacks": fallbacks,
        }

    def route_totals(self, int route):
        """A route's requests over all workers: RouteTotals in stats.pyi."""
        cdef uint64_t[COARSE_BUCKETS] sums
        cdef uint64_t[6] status
        cdef uint64_t count = 0, sum_ns = 0
        cdef RouteCounters *c
        cdef int worker, index
        self._check_route(route)
        memset(sums, 0, sizeof(sums))
        memset(status, 0, sizeof(status))
        for worker in range(self.used_workers()):
            c = self.route_counters(worker, route)
            for index in range(6):
                status[index] += load64(&c.status[index])
            sum_ns += load64(&c.latency.sum_ns)
            count += add_coarse(sums, &c.latency)
        return {
            "status": [status[index] for index in range(6)],
            "latency": latency_of(sums, COARSE_BUCKETS, COARSE_STEPS, count, sum_ns),
        }

    def listener_totals(self, int listener):
        """A listener's connections and requests over all workers: ListenerTotals in stats.pyi."""
        cdef uint64_t[6] status
        cdef uint64_t accepted = 0, refused = 0
        cdef int64_t open = 0
        cdef ListenerCounters *c
        cdef int worker, index
        self._check_listener(listener)
        memset(status, 0, sizeof(status))
        for worker in range(self.used_workers()):
            c = self.listener_counters(worker, listener)
            accepted += load64(&c.accepted)
            refused += load64(&c.refused)
            open += <int64_t>load64(<uint64_t *>&c.open)
            for index in range(6):
                status[index] += load64(&c.status[index])
        return {"accepted": accepted, "refused": refused, "open": open, "status": [status[index] for index in range(6)]}

    def slow_batches(self, int worker):
        """How long this worker's event loop was busy at a time, where it was for a millisecond and more: a coarse Latency.
        Such times are what the next event had to wait for."""
        cdef uint64_t[COARSE_BUCKETS] sums
        cdef CoarseHistogram *h
        self._check_worker(worker)
        memset(sums, 0, sizeof(sums))
        h = &self.worker_counters(worker).slow
        count = add_coarse(sums, h)
        return latency_of(sums, COARSE_BUCKETS, COARSE_STEPS, count, load64(&h.sum_ns))

    def supervisor_totals(self):
        """What the supervisor has counted: SupervisorTotals in stats.pyi."""
        cdef SupervisorCounters *c
        self._open()
        c = self.supervisor()
        return {
            "reloads": load64(&c.reloads), "reloads_refused": load64(&c.reloads_refused), "rollbacks": load64(&c.rollbacks),
            "upgrades": load64(&c.upgrades), "worker_starts": load64(&c.worker_starts),
            "worker_deaths": load64(&c.worker_deaths), "requests_lost": load64(&c.requests_lost),
            "reloaded_ms": load64(&c.reloaded_ms), "reload_ok": load64(&c.reload_ok),
        }

    def worker_totals(self, int worker):
        """One worker's counters by the names of WorkerCounters in stats.pxd; `status` and `kind` are lists."""
        self._check_worker(worker)
        return worker_values(self.worker_counters(worker))

    def totals(self):
        """The same summed over workers, without heartbeat_ms, generation and started_ms."""
        cdef int worker
        self._open()
        total = worker_values(self.worker_counters(0))
        for name in NOT_SUMMED:
            del total[name]
        for worker in range(1, self.used_workers()):
            values = worker_values(self.worker_counters(worker))
            for name, sum_so_far in total.items():
                if isinstance(sum_so_far, list):
                    total[name] = [a + b for a, b in zip(sum_so_far, values[name])]
                else:
                    total[name] = sum_so_far + values[name]
        return total

    def kind_counts(self):
        """Exchanges by how they ended, over all workers, indexed by headgate.errors.Kind."""
        return self.totals()["kind"]

    def latency(self, int pool, *, bint first_byte=False):
        """Latency of a pool's exchanges over all workers: their total time, or the time to their first byte."""
        cdef Histogram *h
        cdef uint64_t[HISTOGRAM_BUCKETS] sums
        cdef uint64_t count = 0, sum_ns = 0
        cdef int worker, index
        self._check_pool(pool)
        memset(sums, 0, sizeof(sums))
        for worker in range(self.used_workers()):
            h = self.pool_first_byte(worker, pool) if first_byte else self.pool_latency(worker, pool)
            count += load64(&h.count)
            sum_ns += load64(&h.sum_ns)
            for index in range(HISTOGRAM_BUCKETS):
                sums[index] += load64(&h.bucket[index])
        return latency_of(sums, HISTOGRAM_BUCKETS, 1, count, sum_ns)
