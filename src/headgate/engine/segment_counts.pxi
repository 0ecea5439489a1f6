# Included by stats.pyx.

cdef class SegmentCounts(SegmentStates):
    """What a worker counts, from Python. (The engine writes through pointers.)"""

    def add_worker(self, int worker, str name, int64_t amount=1, *, int index=0):
        """Adds to one of the worker's own counters; `index` for "status" and "kind". KeyError for an unknown name."""
        cdef uint64_t *word
        self._check_worker(worker)
        word = worker_word(self.worker_counters(worker), name, index)
        store64(word, load64(word) + <uint64_t>amount)

    def set_worker(self, int worker, str name, uint64_t value):
        """Sets one of the worker's own words, such as started_ms or generation. KeyError for an unknown name."""
        self._check_worker(worker)
        store64(worker_word(self.worker_counters(worker), name, 0), value)

    def add_backend(self, int worker, int slot, str name, int64_t amount=1, *, int index=0):
        """Adds to one of the worker's own counters of a backend; `index` for "status". KeyError for an unknown name."""
        cdef uint64_t *word
        self._check_worker(worker)
        self._check_slot(slot)
        word = backend_word(self.backend_counters(worker, slot), name, index)
        store64(word, load64(word) + <uint64_t>amount)

    def take_place(self, int worker, int slot, uint32_t limit):
        """Takes one of `limit` places for attempts at a backend, for `worker`; False when all are taken."""
        cdef BackendCounters *c
        self._check_worker(worker)
        self._check_slot(slot)
        c = self.backend_counters(worker, slot)
        return places_take(&self.backend_places(slot).requests, limit, &c.requests_held, &c.requests_pending)

    def give_place(self, int worker, int slot):
        """Gives one back; does nothing when `worker` holds none."""
        cdef BackendCounters *c
        self._check_worker(worker)
        self._check_slot(slot)
        c = self.backend_counters(worker, slot)
        places_add(&self.backend_places(slot).requests, -1, &c.requests_held, &c.requests_pending)

    def add_latency(self, int worker, int pool, uint64_t ns, *, bint first_byte=False):
        """Counts one duration in the worker's own histogram of a pool."""
        self._check_worker(worker)
        self._check_pool(pool)
        histogram_add(self.pool_first_byte(worker, pool) if first_byte else self.pool_latency(worker, pool), ns)

    def add_pool(self, int worker, int pool, str name, int64_t amount=1, *, int index=0):
        """Adds to one of the worker's own counters of a pool; `index` for "status", "retried" and "not_retried". KeyError
        for an unknown name."""
        cdef uint64_t *word
        self._check_worker(worker)
        self._check_pool(pool)
        word = pool_word(self.pool_counters(worker, pool), name, index)
        store64(word, load64(word) + <uint64_t>amount)

    def add_route(self, int worker, int route, int status_class, uint64_t ns):
        """Counts one request in the worker's own counters of a route."""
        cdef RouteCounters *c
        self._check_worker(worker)
        self._check_route(route)
        if not 0 <= status_class < 6:
            raise KeyError(f"no status class {status_class}")
        c = self.route_counters(worker, route)
        store64(&c.status[status_class], load64(&c.status[status_class]) + 1)
        coarse_add(&c.latency, ns)

    def add_listener(self, int worker, int listener, int status_class):
        """Counts one request in the worker's own counters of a listener."""
        cdef ListenerCounters *c
        self._check_worker(worker)
        self._check_listener(listener)
        if not 0 <= status_class < 6:
            raise KeyError(f"no status class {status_class}")
        c = self.listener_counters(worker, listener)
        store64(&c.status[status_class], load64(&c.status[status_class]) + 1)

    def add_first_byte(self, int worker, int slot, uint64_t ns):
        """Counts one attempt's time to the first byte in the worker's own histogram of a backend."""
        self._check_worker(worker)
        self._check_slot(slot)
        coarse_add(self.backend_first_byte(worker, slot), ns)
