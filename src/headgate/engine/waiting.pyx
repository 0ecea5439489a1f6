"""Limits of a pool and its backends, and the queue of those for whom there is no place.

A pool has a waiting room once something in it has a limit; without one, the request path looks at one pointer. Before an attempt
a place is taken: of the worker's adaptive limit, of the pool, of the backend, and where a connection is opened one of those (places.pxd).
Who finds none waits. Backends found full stand in Pool.full, which a strategy gets with those tried already, so a full backend
is not picked and finding that out again costs nothing.

Who waits stands in one of these lines, each first come, first served:

    fresh       any backend will do
    again       some backends were tried already, and it waits for one of the rest
    bound       one per backend: the session is kept there by its cookie

A place that is given back goes to the longest waiting among the first of these lines who can use it. What waits in
several workers is one queue: each publishes since when its longest waiting waits, and who gives a place back wakes the worker where
that is longest, by its eventfd. Nobody depends on that: while somebody waits, each worker looks again every TICK_S, and takes
what has lain free for LAIN_NS whoever came first, so that a stopped worker holds nobody up. One that says nothing for SILENT_MS
is not counted at all.

No word is read before it is published (a place is given back, then `freed` grows, then `waiting` is read; who waits
publishes that, then reads `freed` again), so a place is never given back unseen.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from headgate.engine.context cimport KIND_OK, Context
from headgate.engine.model cimport Backend, Pool
from headgate.engine.places cimport places_add, places_take, places_taken, word_add, word_load, word_store
from headgate.engine.reactor cimport Handler
from headgate.engine.stats cimport BackendPlaces, PoolCounters
from headgate.engine.stream cimport ExchangeBase

cdef enum:
    TIMER_TICK = 1
    # Others should have their turn between: connections wait behind a queue that moves all at once.
    SERVED_PER_TURN = 64
    # Of other workers' places that came free this worker may know so much later, unless somebody waits for them.
    LOOK_EVERY_NS = 1000000
    # A worker that has not moved for so long is stopped or dead: nobody waits for those who wait there. It says that it lives once a second.
    SILENT_MS = 3000
    # A window of adaptive concurrency (algorithms.md 16): at least this long, and so many samples.
    WINDOW_NS = 1000000000
    WINDOW_SAMPLES = 10
    # Much longer than a worker on a busy machine needs to wake up.
    LAIN_NS = 1000000000

cdef double TICK_S = 0.05


cdef int64_t clock_ns() noexcept:
    """Not the batch's: who came first is decided between workers, and one's batch may have begun long before another's."""
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <int64_t>moment.tv_sec * 1000000000 + moment.tv_nsec


cdef void open_room(Pool pool, Context ctx) noexcept:
    cdef WaitingRoom room = <WaitingRoom>pool.room
    if room is not None:
        room._configure()
        if not pool.limited and room.waiting == 0:
            room.close()
    elif pool.limited:
        try:
            room = WaitingRoom.__new__(WaitingRoom, ctx, pool)
            ctx.rooms.append(room)
        except MemoryError as error:
            ctx.error("the limits of a pool", error)
            return
        pool.room = room
        room._configure()


cdef bint take_connection(Backend backend) noexcept:
    """A place for one more connection; a kept one that nobody may use now makes way for it."""
    cdef WaitingRoom room = <WaitingRoom>backend.pool.room
    cdef BackendPlaces *places = backend.places
    cdef int worker
    if room is None:
        return True
    if places_take(&places.connections, backend.max_connections, &backend.counters.connections_held, &backend.counters.connections_pending):
        return True
    if backend.idle != NULL:
        room._drop_idle(backend)
        return places_take(&places.connections, backend.max_connections, &backend.counters.connections_held,
                           &backend.counters.connections_pending)
    if room.several:
        # Those that are kept may all be another worker's.
        word_store(&places.wanted, 1)
        for worker in range(backend.segment.used_workers()):
            if worker != backend.worker and backend.segment.backend_counters(worker, backend.slot).idle > 0:
                backend.segment.wake(worker)
    return False


cdef void give_connection(Backend backend) noexcept:
    cdef WaitingRoom room = <WaitingRoom>backend.pool.room
    places_add(&backend.places.connections, -1, &backend.counters.connections_held, &backend.counters.connections_pending)
    if room is not None:
        room.freed(backend)


cdef class BoundLine:
    pass


cdef class WaitingRoom(Handler):
    def __cinit__(self, Context ctx, Pool pool):
        cdef Backend backend
        self.ctx = ctx
        self.reactor = ctx
        self.pool = pool
        self.several = ctx.segment.workers > 1
        self.places = ctx.segment.pool_places(pool.slot)
        self.counters = ctx.segment.pool_counters(ctx.worker, pool.slot)
        self.bound = {}
        self.timer.owner = <PyObject *>self
        self.limit = -1
        for backend in pool.members:
            self.in_flight += backend.counters.active

    def __dealloc__(self):
        if self.ctx is not None:
            self.ctx.disarm(&self.timer)

    cdef void close(self) noexcept:
        """The pool has no limits any more, or the engine ends. Nobody waits."""
        self.ctx.disarm(&self.timer)
        places_add(&self.places.requests, -self.counters.requests_held, &self.counters.requests_held, &self.counters.requests_pending)
        word_store(&self.counters.limit, 0)
        for item in self.pool.members:
            (<Backend>item).full = False
        self.pool.full = None
        self.pool.room = None
        if self in self.ctx.rooms:
            self.ctx.rooms.remove(self)

    cdef void _configure(self) noexcept:
        cdef Pool pool = self.pool
        cdef PoolCounters *c = self.counters
        if self.version == pool.version:
            return
        self.version = pool.version
        self.patience = self.ctx.queue(pool.queue_s)
        self.tick = self.ctx.queue(TICK_S)
        if (pool.max_requests != 0) != (self.max_requests != 0):
            places_add(&self.places.requests, self.in_flight - c.requests_held if pool.max_requests else -c.requests_held,
                       &c.requests_held, &c.requests_pending)
        self.max_requests = pool.max_requests
        if pool.limiter is None:
            self.limit = -1
            word_store(&c.limit, 0)
        elif self.limit < 0:
            self.samples = 0
            self.sampled_ns = 0
            self.most_in_flight = self.in_flight
            self.window_started = self.ctx.now
            try:
                self.limit = max(1, <int64_t>pool.limiter.limit)
                word_store(&c.limit, <uint64_t>(self.limit * 1000))
            except BaseException as exception:
                self.ctx.error("the concurrency limiter", exception)

    # -- places -------------------------------------------------------------------------------------------------

    cdef bint pool_full(self) noexcept:
        if self.limit >= 0 and self.in_flight >= self.limit:
            return True
        return self.max_requests != 0 and places_taken(&self.places.requests) >= self.max_requests

    cdef int take(self, Backend backend) noexcept:
        cdef PoolCounters *c = self.counters
        if self.limit >= 0 and self.in_flight >= self.limit:
            return POOL_FULL
        if self.max_requests and not places_take(&self.places.requests, self.max_requests, &c.requests_held, &c.requests_pending):
            return POOL_FULL
        if backend.max_requests and not places_take(&backend.places.requests, backend.max_requests, &backend.counters.requests_held,
                                                    &backend.counters.requests_pending):
            if self.max_requests:
                places_add(&self.places.requests, -1, &c.requests_held, &c.requests_pending)
            self._mark_full(backend)
            return NO_PLACE
        self.in_flight += 1
        if self.in_flight > self.most_in_flight:
            self.most_in_flight = self.in_flight
        return KIND_OK

    cdef void return_untouched(self, Backend backend) noexcept:
        self.in_flight -= 1
        if self.max_requests:
            places_add(&self.places.requests, -1, &self.counters.requests_held, &self.counters.requests_pending)
        if backend.max_requests:
            places_add(&backend.places.requests, -1, &backend.counters.requests_held, &backend.counters.requests_pending)
        self._mark_full(backend)

    cdef void give(self, Backend backend, int64_t first_byte_ns) noexcept:
        if self.in_flight > 0:
            self.in_flight -= 1
        if self.max_requests:
            places_add(&self.places.requests, -1, &self.counters.requests_held, &self.counters.requests_pending)
        if backend.max_requests:
            places_add(&backend.places.requests, -1, &backend.counters.requests_held, &backend.counters.requests_pending)
        if self.limit >= 0 and first_byte_ns >= 0:
            self.sampled_ns += first_byte_ns
            self.samples += 1
            if self.samples >= WINDOW_SAMPLES and self.ctx.now - self.window_started >= WINDOW_NS:
                self._window_over()
        self.freed(backend)

    cdef void _window_over(self) noexcept:
        cdef double mean_s = self.sampled_ns / 1e9 / self.samples
        cdef int64_t most = self.most_in_flight
        self.samples = 0
        self.sampled_ns = 0
        self.most_in_flight = self.in_flight
        self.window_started = self.ctx.now
        try:
            if self.pool.limiter is not None:
                self.limit = max(1, <int64_t>self.pool.limiter.update(mean_s, most))
                word_store(&self.counters.limit, <uint64_t>(self.limit * 1000))
        except BaseException as exception:
            self.ctx.error("the concurrency limiter", exception)

    cdef bint _has_place(self, Backend backend) noexcept:
        if backend.max_requests and places_taken(&backend.places.requests) >= backend.max_requests:
            return False
        return (backend.max_connections == 0 or backend.idle != NULL
                or places_taken(&backend.places.connections) < backend.max_connections)

    cdef void _mark_full(self, Backend backend) noexcept:
        if backend.full or not backend.eligible:
            return
        if self.several and self.pool.full is None:
            self.freed_seen = word_load(&self.places.freed)
            self.looked_at = self.ctx.now
        try:
            if self.pool.full is None:
                self.pool.full = set()
            self.pool.full.add(backend)
            backend.full = True
        except MemoryError as error:
            self.ctx.error("the limits of a pool", error)

    cdef void look(self, bint now) noexcept:
        """Of the full backends forget those that have a place, or are not to be picked anyway."""
        cdef Backend backend
        cdef uint64_t freed
        if self.pool.full is None:
            return
        if not now:
            if not self.several or self.ctx.now - self.looked_at < LOOK_EVERY_NS:
                return
            freed = word_load(&self.places.freed)
            if freed == self.freed_seen:
                return
        self.looked_at = self.ctx.now
        self.freed_seen = word_load(&self.places.freed)
        for item in list(self.pool.full):
            backend = <Backend>item
            if not backend.eligible or self._has_place(backend):
                backend.full = False
                self.pool.full.discard(backend)
        if not self.pool.full:
            self.pool.full = None

    cdef void freed(self, Backend backend) noexcept:
        """A place at this backend was given back."""
        cdef int worker
        if self.pool.room is not self:
            return
        if backend.full and self._has_place(backend):
            backend.full = False
            self.pool.full.discard(backend)
            if not self.pool.full:
                self.pool.full = None
        if self.several and not self.dropping:
            word_add(&self.places.freed, 1)
            if <int64_t>places_taken(&self.places.waiting) > self.counters.waiting_held:
                worker = self._longest_elsewhere(self.oldest.since if self.oldest != NULL else 0)
                if worker >= 0:
                    if backend.max_connections and word_load(&backend.places.wanted):
                        word_store(&backend.places.wanted, 0)
                        if backend.idle != NULL:
                            self._drop_idle(backend)
                    self.ctx.segment.wake(worker)
        if self.waiting:
            self.ctx.make_ready(self)

    cdef void _drop_idle(self, Backend backend) noexcept:
        self.dropping = True
        try:
            (<object>backend.idle).drop()
        except BaseException as exception:
            self.ctx.error("closing an idle connection", exception)
        self.dropping = False
        if self.several:
            word_add(&self.places.freed, 1)

    cdef void _yield_connections(self) noexcept:
        """Another worker found no connection left: give up one that is only kept."""
        cdef Backend backend
        cdef int worker
        cdef bint dropped = False
        for item in self.pool.members:
            backend = <Backend>item
            if backend.max_connections and word_load(&backend.places.wanted) and backend.idle != NULL:
                word_store(&backend.places.wanted, 0)
                self._drop_idle(backend)
                dropped = True
        if dropped:
            worker = self._longest_elsewhere(0)
            if worker >= 0:
                self.ctx.segment.wake(worker)

    # -- the queue ----------------------------------------------------------------------------------------------

    cdef bint must_queue(self) noexcept:
        return self.fresh.first != NULL or (self.several and <int64_t>places_taken(&self.places.fresh) > self.counters.fresh_held)

    cdef bint some_full(self, set tried) noexcept:
        if self.pool.full is None:
            return False
        return tried is None or not self.pool.full <= tried

    cdef bint enter(self, WaitNode *node, Backend bound, bint again) noexcept:
        cdef PoolCounters *c = self.counters
        cdef BoundLine line
        cdef bint returns = node.counted
        if not returns:
            if self.pool.queue_size == 0 or not places_take(&self.places.waiting, self.pool.queue_size, &c.waiting_held, &c.waiting_pending):
                c.overloaded += 1
                return False
            node.counted = True
            node.since = clock_ns() if self.several else self.ctx.now
            c.queued += 1
        if bound is not None:
            line = <BoundLine>self.bound.get(bound)
            if line is None:
                line = BoundLine.__new__(BoundLine)
                line.backend = bound
                self.bound[bound] = line
            self._link(node, &line.line, returns)
        else:
            self._link(node, &self.again if again else &self.fresh, returns)
        if self.several:
            self._publish()
            if self.timer.queue == NULL:
                self.freed_at_tick = word_load(&self.places.freed)
                self.changed_at = self.ctx.now
                self.ctx.arm(&self.timer, self.tick, TIMER_TICK)
            # A place that came free before this one could be seen to wait.
            self.ctx.make_ready(self)
        return True

    cdef void leave(self, WaitNode *node) noexcept:
        """It does not wait any more, for whatever reason."""
        if node.line != NULL:
            self._unlink(node)
        if node.counted:
            node.counted = False
            self.counters.queued_ns += <uint64_t>max(0, self.ctx.now - node.since)
            places_add(&self.places.waiting, -1, &self.counters.waiting_held, &self.counters.waiting_pending)
        if self.several:
            self._publish()

    cdef void _link(self, WaitNode *node, Line *line, bint returns) noexcept:
        """Into its line and among all, by age: a new one at the end; one that was offered a place and returns, where it was."""
        cdef WaitNode *behind = line.last
        cdef WaitNode *ahead
        if returns:
            # Nearly always it was the very first.
            behind = NULL
            ahead = line.first
            while ahead != NULL and ahead.since < node.since:
                behind = ahead
                ahead = ahead.next
        node.line = line
        node.previous = behind
        node.next = line.first if behind == NULL else behind.next
        if node.previous == NULL:
            line.first = node
        else:
            node.previous.next = node
        if node.next == NULL:
            line.last = node
        else:
            node.next.previous = node
        behind = self.newest
        if returns:
            behind = NULL
            ahead = self.oldest
            while ahead != NULL and ahead.since < node.since:
                behind = ahead
                ahead = ahead.after
        node.before = behind
        node.after = self.oldest if behind == NULL else behind.after
        if node.before == NULL:
            self.oldest = node
        else:
            node.before.after = node
        if node.after == NULL:
            self.newest = node
        else:
            node.after.before = node
        self.waiting += 1
        if self.several and line == &self.fresh:
            places_add(&self.places.fresh, 1, &self.counters.fresh_held, &self.counters.fresh_pending)

    cdef void _unlink(self, WaitNode *node) noexcept:
        cdef Line *line = node.line
        node.line = NULL
        if node.previous == NULL:
            line.first = node.next
        else:
            node.previous.next = node.next
        if node.next == NULL:
            line.last = node.previous
        else:
            node.next.previous = node.previous
        if node.before == NULL:
            self.oldest = node.after
        else:
            node.before.after = node.after
        if node.after == NULL:
            self.newest = node.before
        else:
            node.after.before = node.before
        self.waiting -= 1
        if self.several and line == &self.fresh:
            places_add(&self.places.fresh, -1, &self.counters.fresh_held, &self.counters.fresh_pending)

    cdef void _publish(self) noexcept:
        word_store(&self.counters.oldest, <uint64_t>self.oldest.since if self.oldest != NULL else 0)

    cdef int _longest_elsewhere(self, int64_t before) noexcept:
        """The other worker where somebody waits longest, and since before `before` (0: since whenever); -1 = none."""
        cdef int worker, found = -1
        cdef int64_t since, longest = before
        cdef int64_t alive = self.ctx.now // 1000000 - SILENT_MS
        for worker in range(self.ctx.segment.used_workers()):
            if worker == self.ctx.worker:
                continue
            since = <int64_t>word_load(&self.ctx.segment.pool_counters(worker, self.pool.slot).oldest)
            if since and (longest == 0 or since < longest) and <int64_t>self.ctx.segment.worker_counters(worker).heartbeat_ms > alive:
                longest = since
                found = worker
        return found

    # -- serving ------------------------------------------------------------------------------------------------

    cdef void on_ready(self) noexcept:
        if self.pool.room is not self:
            return
        self._configure()
        self.look(True)
        self._serve(False)

    cdef void woken(self) noexcept:
        if self.several:
            self._yield_connections()
        self.on_ready()

    cdef void on_timer(self, int kind) noexcept:
        cdef uint64_t freed = word_load(&self.places.freed)
        if self.waiting == 0 or self.pool.room is not self:
            return
        self.look(True)
        if freed != self.freed_at_tick:
            self.freed_at_tick = freed
            self.changed_at = self.ctx.now
        # A place that nobody took for so long is not left for others any longer.
        self._serve(self.ctx.now - self.changed_at >= LAIN_NS)
        if self.waiting:
            self.ctx.arm(&self.timer, self.tick, TIMER_TICK)

    cdef bint _possible(self, WaitNode *node) noexcept:
        """Is there any use in offering the first of this line a place?"""
        cdef Backend backend
        if self.pool_full():
            return False
        if node.line == &self.fresh or node.line == &self.again:
            # With nothing to wait for it hears that now.
            return self.pool.full is None or self.pool.eligible_count > <int>len(self.pool.full)
        for item in self.bound.values():
            if node.line == &(<BoundLine>item).line:
                backend = (<BoundLine>item).backend
                return not backend.bound_ok or self._has_place(backend)
        return True

    cdef WaitNode *_next(self) noexcept:
        """The longest waiting among the first of the lines that are not blocked."""
        cdef WaitNode *found = NULL
        cdef BoundLine line
        if self.fresh.first != NULL and not self.fresh.blocked:
            found = self.fresh.first
        if self.again.first != NULL and not self.again.blocked and (found == NULL or self.again.first.since < found.since):
            found = self.again.first
        if self.bound:
            for item in self.bound.values():
                line = <BoundLine>item
                if line.line.first != NULL and not line.line.blocked and (found == NULL or line.line.first.since < found.since):
                    found = line.line.first
        return found

    cdef void _serve(self, bint regardless) noexcept:
        """Give the places there are to those who wait longest. regardless: even if somebody elsewhere waits longer."""
        cdef WaitNode *node
        cdef Line *line
        cdef ExchangeBase owner
        cdef int worker, served = 0
        self.fresh.blocked = self.again.blocked = False
        for item in list(self.bound.values()):
            (<BoundLine>item).line.blocked = False
            if (<BoundLine>item).line.first == NULL:
                del self.bound[(<BoundLine>item).backend]
        while True:
            node = self._next()
            if node == NULL:
                break
            line = node.line
            if not self._possible(node):
                line.blocked = True
                continue
            if self.several and not regardless:
                worker = self._longest_elsewhere(node.since)
                if worker >= 0:
                    self.ctx.segment.wake(worker)
                    return
            if served == SERVED_PER_TURN:
                self.ctx.make_ready(self)
                return
            served += 1
            owner = <ExchangeBase><object>node.owner
            self._unlink(node)
            owner.place_offered()
            if node.line == line:
                line.blocked = True
        if self.several and not self.pool_full() and (self.pool.full is None or self.pool.eligible_count > <int>len(self.pool.full)):
            # There are places left that nobody here can use.
            worker = self._longest_elsewhere(0)
            if worker >= 0 and (self.oldest == NULL or self.oldest.since < <int64_t>word_load(&self.ctx.segment.pool_counters(worker, self.pool.slot).oldest)):
                self.ctx.segment.wake(worker)
