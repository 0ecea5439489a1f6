"""The shared segment: what every process may know about backends, and what every worker has counted.

One memfd, created by the supervisor and mapped by it and by every worker. It is sealed against growing and shrinking, so
that nobody can pull the ground from under a mapping, and sparse: a page that nobody touched costs nothing, which is why
it can be laid out for thousands of backends.

    header | generation | the supervisor's counters | backend states | places per backend | places per pool
           | what the supervisor counts of backends | of pools
           | worker 0: counters, per backend, per pool, per route, per listener | worker 1: ... | ...

The first route and the first listener stand for all that found no place in the segment.

The rule is one writer per word, so no lock is needed: states belong to the supervisor, a worker's part to that worker
(to the supervisor once the worker is dead). Words are read and written with relaxed atomics, which on common machines
are plain loads and stores. Three things need more. A backend's record is read whole (the reason is text), so the
supervisor makes its sequence word odd while it writes. The half-open probe has many takers, so it is claimed by
compare-and-swap. So are places under a limit (places.pxd), of which every worker notes how many it holds: what a killed
worker held is given back.
"""
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, UINT32_MAX
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from headgate.engine.histogram cimport COARSE_BUCKETS, COARSE_STEPS, bucket_start, coarse_add
from headgate.engine.places cimport places_add, places_take, places_taken, word_load, word_store

import fcntl
import os

from headgate.engine.histogram import Latency, bucket_of, histogram_bounds

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ
    int PROT_WRITE
    int MAP_SHARED
    void *MAP_FAILED

cdef extern from "<unistd.h>" nogil:
    int close_descriptor "close"(int fd)
    int usleep(unsigned int us)
    ssize_t write_descriptor "write"(int fd, const void *data, size_t size)

cdef extern from *:
    """
    #define hg_load32(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define hg_load64(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define hg_load_signed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define hg_load32_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define hg_store32(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define hg_store64(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define hg_store32_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define hg_add_release(p, v) __atomic_add_fetch((p), (v), __ATOMIC_RELEASE)
    #define hg_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
    #define hg_fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)
    static inline int hg_swap32(uint32_t *word, uint32_t expected, uint32_t wanted) {
        return __atomic_compare_exchange_n(word, &expected, wanted, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    static inline int hg_swap64(uint64_t *word, uint64_t expected, uint64_t wanted) {
        return __atomic_compare_exchange_n(word, &expected, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    uint32_t load32 "hg_load32"(const uint32_t *word) noexcept nogil
    uint64_t load64 "hg_load64"(const uint64_t *word) noexcept nogil
    int64_t load_signed "hg_load_signed"(const int64_t *word) noexcept nogil
    uint32_t load32_acquire "hg_load32_acquire"(const uint32_t *word) noexcept nogil
    void store32 "hg_store32"(uint32_t *word, uint32_t value) noexcept nogil
    void store64 "hg_store64"(void *word, uint64_t value) noexcept nogil
    void store32_release "hg_store32_release"(uint32_t *word, uint32_t value) noexcept nogil
    uint64_t add_release "hg_add_release"(uint64_t *word, uint64_t amount) noexcept nogil
    void fence_acquire "hg_fence_acquire"() noexcept nogil
    void fence_release "hg_fence_release"() noexcept nogil
    bint swap32 "hg_swap32"(uint32_t *word, uint32_t expected, uint32_t wanted) noexcept nogil
    bint swap64 "hg_swap64"(uint64_t *word, uint64_t expected, uint64_t wanted) noexcept nogil

# BackendFlag, for Python.
PRESENT = BACKEND_PRESENT
ENABLED = BACKEND_ENABLED
UP = BACKEND_UP
CHECKED = BACKEND_CHECKED
EJECTED = BACKEND_EJECTED
HALF_OPEN = BACKEND_HALF_OPEN
DRAINING = BACKEND_DRAINING
DRAINED = BACKEND_DRAINED

# A weight above this is a configuration error everywhere; the word holds no such value.
MAX_WEIGHT = 256

# PoolMarks.ejections, by their numbers: the values of resilience.cause.Cause.
EJECTION_CAUSES = ("consecutive_failures", "failure_rate", "connect_failure", "probe_failed")

# PoolMarks.penalties, by their numbers.
PENALTY_STATUSES = (429, 503)

# NotRetried, by their numbers.
NOT_RETRIED = ("budget", "deadline", "replay_cap", "method", "retries", "no_backend")

cdef enum:
    PAGE = 4096                 # sections start on a page, so that one worker never dirties another's
    LINE = 64                   # cache line
    LAYOUT = 5                  # to be raised whenever a struct in stats.pxd or the order of sections changes
    GENERATION_OFFSET = 1024    # in the header's page, on a cache line of its own
    SUPERVISOR_OFFSET = 2048
    USED_OFFSET = 1088          # how many workers' parts have been in use so far; written by the supervisor
    # Reading a record that is being written: writing takes 0.1 us, so spin; then the supervisor was preempted in the
    # middle, so sleep; after some 0.1 s it is dead, and what is there has to do.
    SPINS = 100
    SLEEPS = 700
    SLEEP_US = 100
    # Looks for a moment in which nobody changes a word of places: with a pause between them, some 20 ms.
    MEND_LOOKS = 200

include "segment_layout.pxi"
include "segment_words.pxi"


cdef bytes as_reason(str text):
    """UTF-8 of at most 215 bytes, cut between characters, without NUL."""
    cdef bytes encoded = text.replace("\0", " ").encode("utf-8", "replace")
    if len(encoded) > 215:
        encoded = encoded[:215].decode("utf-8", "ignore").encode("utf-8")
    return encoded


cdef class SegmentMemory:
    """The mapping, where everything in it lies, and checks of numbers from outside."""

    def __cinit__(self):
        self.fd = -1

    def __init__(self):
        if self._base == NULL:
            raise TypeError("use Segment.create() or Segment.open()")

    @staticmethod
    def create(int workers, int backends=8192, int pools=1024, *, int room=0, int routes=1024, int listeners=64):
        """A new, zeroed segment for so many workers (1 to 1024), backends, pools, routes and listeners. OSError when
        memory is refused.

        The defaults are far above what one balancer serves; what is not used is never allocated. room: parts for so many
        workers in all, of which `workers` are in use; see use_workers().
        """
        cdef Header header
        if not 1 <= workers <= 1024:
            raise ValueError(f"workers must be 1 to 1024, not {workers}")
        if not 1 <= backends <= 1 << 20:
            raise ValueError(f"backends must be 1 to {1 << 20}, not {backends}")
        if not 1 <= pools <= 1 << 16:
            raise ValueError(f"pools must be 1 to {1 << 16}, not {pools}")
        if not 1 <= routes <= 1 << 20 or not 1 <= listeners <= 1 << 16:
            raise ValueError(f"there must be room for a route and a listener at least, not {routes} and {listeners}")
        if room and not workers <= room <= 1024:
            raise ValueError(f"room must be {workers} to 1024, not {room}")
        fill_header(&header, room or workers, backends, pools, routes, listeners)
        opened = [os.memfd_create("headgate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)]
        fd = opened[0]
        try:
            os.ftruncate(fd, header.size)
            os.pwrite(fd, (<char *>&header)[:sizeof(Header)], 0)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            if header.workers > 1:
                for _ in range(header.workers):
                    opened.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            segment = mapped(fd, &header, tuple(opened[1:]))
            segment.use_workers(workers)
            return segment
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise

    @staticmethod
    def open(int fd, object wakes=()):
        """The segment behind an inherited descriptor, which it takes over (the caller keeps it when this raises).

        wakes: the inherited eventfds, one for each worker, which it takes over too; without them workers do not wake
        each other. ValueError says why it is not one: too short, another magic, another layout or size.
        """
        cdef Header found, wanted
        cdef bytes text = os.pread(fd, sizeof(Header), 0)
        if len(text) != sizeof(Header):
            raise ValueError(f"descriptor {fd} is no headgate segment: only {len(text)} bytes of header")
        memcpy(&found, <const char *>text, sizeof(Header))
        if memcmp(found.magic, MAGIC, 8) != 0:
            raise ValueError(f"descriptor {fd} is no headgate segment: its magic is {text[:8]!r}")
        if found.layout != LAYOUT:
            raise ValueError(f"the segment has layout {found.layout}, this engine knows layout {LAYOUT}")
        if not (1 <= found.workers <= 1024 and 1 <= found.backends <= 1 << 20 and 1 <= found.pools <= 1 << 16
                and 1 <= found.routes <= 1 << 20 and 1 <= found.listeners <= 1 << 16):
            raise ValueError(f"the segment's header is damaged: {found.workers} workers, {found.backends} backends, "
                             f"{found.pools} pools, {found.routes} routes, {found.listeners} listeners")
        fill_header(&wanted, found.workers, found.backends, found.pools, found.routes, found.listeners)
        if memcmp(&found, &wanted, sizeof(Header)) != 0:
            raise ValueError("the segment was laid out by another build of the engine: its record sizes differ")
        size = os.fstat(fd).st_size
        if size != wanted.size:
            raise ValueError(f"the segment is {size} bytes long, its header says {wanted.size}")
        if wakes and len(wakes) != found.workers:
            raise ValueError(f"{len(wakes)} eventfds for {found.workers} workers")
        return mapped(fd, &found, tuple(wakes))

    def close(self):
        """Unmaps it and closes the descriptor. Only after every engine that uses it: they hold pointers into it."""
        if self._base != NULL:
            munmap(self._base, self._size)
            self._base = NULL
            fd, self.fd = self.fd, -1
            os.close(fd)
            self._close_wakes()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __dealloc__(self):
        if self._base != NULL:
            munmap(self._base, self._size)
            close_descriptor(self.fd)
        self._close_wakes()

    cdef void _close_wakes(self) noexcept:
        cdef int index
        for index in range(self._wake_count):
            close_descriptor(self._wakes[index])
        self._wake_count = 0
        free(self._wakes)
        self._wakes = NULL

    @property
    def wakes(self):
        """An eventfd for each worker, by which the others make it look at its queues; empty where there is one worker."""
        return tuple([self._wakes[index] for index in range(self._wake_count)])

    # -- for the engine: no checks

    cdef uint64_t *generation_word(self) noexcept:
        return <uint64_t *>(self._base + GENERATION_OFFSET)

    cdef int used_workers(self) noexcept:
        return <int>load32(<uint32_t *>(self._base + USED_OFFSET))

    cdef SupervisorCounters *supervisor(self) noexcept:
        return <SupervisorCounters *>(self._base + SUPERVISOR_OFFSET)

    cdef BackendState *state(self, int slot) noexcept:
        return <BackendState *>(self._base + self.at.states) + slot

    cdef BackendPlaces *backend_places(self, int slot) noexcept:
        return <BackendPlaces *>(self._base + self.at.backend_places) + slot

    cdef PoolPlaces *pool_places(self, int pool) noexcept:
        return <PoolPlaces *>(self._base + self.at.pool_places) + pool

    cdef BackendMarks *marks(self, int slot) noexcept:
        return <BackendMarks *>(self._base + self.at.marks) + slot

    cdef PoolMarks *pool_marks(self, int pool) noexcept:
        return <PoolMarks *>(self._base + self.at.pool_marks) + pool

    cdef char *_worker(self, int worker) noexcept:
        return self._base + self.at.workers + worker * self.at.worker

    cdef WorkerCounters *worker_counters(self, int worker) noexcept:
        return <WorkerCounters *>self._worker(worker)

    cdef BackendCounters *backend_counters(self, int worker, int slot) noexcept:
        return <BackendCounters *>(self._worker(worker) + self.at.backends) + slot

    cdef Histogram *pool_latency(self, int worker, int pool) noexcept:
        return <Histogram *>(self._worker(worker) + self.at.pool_latency + pool * self.at.histogram)

    cdef Histogram *pool_first_byte(self, int worker, int pool) noexcept:
        return <Histogram *>(self._worker(worker) + self.at.pool_first_byte + pool * self.at.histogram)

    cdef PoolCounters *pool_counters(self, int worker, int pool) noexcept:
        return <PoolCounters *>(self._worker(worker) + self.at.pools) + pool

    cdef CoarseHistogram *backend_first_byte(self, int worker, int slot) noexcept:
        return <CoarseHistogram *>(self._worker(worker) + self.at.backend_first_byte + slot * self.at.coarse)

    cdef RouteCounters *route_counters(self, int worker, int route) noexcept:
        return <RouteCounters *>(self._worker(worker) + self.at.routes + (route if route < self.route_capacity else 0) * self.at.route)

    cdef ListenerCounters *listener_counters(self, int worker, int listener) noexcept:
        return <ListenerCounters *>(self._worker(worker) + self.at.listeners) + (listener if listener < self.listener_capacity else 0)

    cdef void wake(self, int worker) noexcept:
        """Make another worker look at its queues. Does nothing where there are no eventfds."""
        cdef uint64_t one = 1
        if worker < self._wake_count:
            write_descriptor(self._wakes[worker], &one, sizeof(one))

    # -- checks

    cdef int _open(self) except -1:
        if self._base == NULL:
            raise ValueError("the segment is closed")
        return 0

    cdef int _check_slot(self, int slot) except -1:
        self._open()
        if not 0 <= slot < self.backend_capacity:
            raise IndexError(f"backend slot {slot}: the segment has {self.backend_capacity}")
        return 0

    cdef int _check_worker(self, int worker) except -1:
        self._open()
        if not 0 <= worker < self.workers:
            raise IndexError(f"worker {worker}: the segment has {self.workers}")
        return 0

    cdef int _check_pool(self, int pool) except -1:
        self._open()
        if not 0 <= pool < self.pool_capacity:
            raise IndexError(f"pool slot {pool}: the segment has {self.pool_capacity}")
        return 0

    cdef int _check_route(self, int route) except -1:
        self._open()
        if not 0 <= route < self.route_capacity:
            raise IndexError(f"route slot {route}: the segment has {self.route_capacity}")
        return 0

    cdef int _check_listener(self, int listener) except -1:
        self._open()
        if not 0 <= listener < self.listener_capacity:
            raise IndexError(f"listener slot {listener}: the segment has {self.listener_capacity}")
        return 0


include "segment_sums.pxi"
include "segment_states.pxi"
include "segment_counts.pxi"


cdef class Segment(SegmentCounts):
    """The shared memory of one process tree; see the module's docstring.

    `create` in the supervisor, `open` in a worker that inherited the descriptor. `fd` belongs to the segment and is
    closed with it; `workers`, `backend_capacity` and `pool_capacity` are what it was laid out for; `used` says how many
    of the workers' parts have been in use, which is as far as sums go.

    Every method raises ValueError once the segment is closed and IndexError for a worker, slot or pool it was not laid
    out for.
    """

    # -- written by the supervisor

    def clear_backend(self, int slot):
        """Frees a slot for another backend: its state and, in every worker's part, its counters become zero.

        Only when all workers acknowledged that the backend is gone. Gauges (active, idle) stay: what is still in
        flight brings them to zero by itself, and a dead worker's are zeroed by zero_worker_gauges().
        """
        cdef BackendState *state
        cdef BackendCounters *c
        cdef uint32_t sequence
        cdef int worker
        cdef int64_t active, idle
        self._check_slot(slot)
        state = self.state(slot)
        sequence = begin_write(state)
        store32(&state.flags, 0)
        store32(&state.weight, 0)
        store64(&state.since_ms, 0)
        store32(&state.probe, 0)
        store64(&state.ramp_from_ms, 0)
        store32(&state.ramp_ms, 0)
        store32(&state.penalty, 0)
        memset(state.reason, 0, sizeof(state.reason))
        end_write(state, sequence)
        for worker in range(self.used_workers()):
            c = self.backend_counters(worker, slot)
            # What follows `active`, without `idle` and what comes behind `status`.
            memset(&c.attempts, 0, <char *>&c.idle - <char *>&c.attempts)
            memset(c.status, 0, sizeof(c.status))
            clear_coarse(self.backend_first_byte(worker, slot))
        self.backend_places(slot).wanted = 0
        memset(self.marks(slot), 0, sizeof(BackendMarks))

    def clear_pool(self, int pool):
        """Frees a pool's slot for another pool: histograms and counters become zero in every worker's part; gauges stay."""
        cdef PoolCounters *c
        cdef int worker
        self._check_pool(pool)
        for worker in range(self.used_workers()):
            memset(self.pool_latency(worker, pool), 0, sizeof(Histogram))
            memset(self.pool_first_byte(worker, pool), 0, sizeof(Histogram))
            c = self.pool_counters(worker, pool)
            memset(&c.queued, 0, <char *>&c.reserved - <char *>&c.queued)
        memset(self.pool_marks(pool), 0, sizeof(PoolMarks))

    def clear_route(self, int route):
        """Frees a route's slot for another route: its counters become zero in every worker's part."""
        cdef int worker
        self._check_route(route)
        for worker in range(self.used_workers()):
            memset(self.route_counters(worker, route), 0, sizeof(RouteCounters))

    def clear_listener(self, int listener):
        """The same for a listener's slot; its gauge stays to its owners."""
        cdef ListenerCounters *c
        cdef int worker
        self._check_listener(listener)
        for worker in range(self.used_workers()):
            c = self.listener_counters(worker, listener)
            memset(c, 0, <char *>&c.open - <char *>c)

    def use_workers(self, int count):
        """Workers 0 to count - 1 count from now on: their parts are in every sum, for good. Fewer than before: no change."""
        if count > 0:
            self._check_worker(count - 1)
        if count > self.used_workers():
            store32_release(<uint32_t *>(self._base + USED_OFFSET), count)

    @property
    def used(self):
        """How many workers' parts have been in use."""
        self._open()
        return self.used_workers()

    def zero_worker_gauges(self, int worker):
        """After a worker's death: what it had open counts as gone (active, idle, connections, in_flight, tunnels, waiting).

        The half-open probes it held are freed too, and its places under limits are given back; who waits for one is
        woken. Counters stay.
        """
        cdef WorkerCounters *c
        cdef BackendCounters *b
        cdef BackendState *state
        cdef int slot, other
        self._check_worker(worker)
        c = self.worker_counters(worker)
        store64(&c.connections, 0)
        store64(&c.in_flight, 0)
        store64(&c.tunnels, 0)
        start = <char *>self.backend_counters(worker, 0) - self._base
        for slot in self._touched(start, sizeof(BackendCounters)):
            b = self.backend_counters(worker, slot)
            store64(&b.active, 0)
            store64(&b.idle, 0)
            store64(&b.connections, 0)
            self._return_backend(worker, slot)
        start = <char *>self.pool_counters(worker, 0) - self._base
        for slot in self._touched(start, sizeof(PoolCounters), self.pool_capacity):
            self._return_pool(worker, slot)
        start = <char *>self.listener_counters(worker, 0) - self._base
        for slot in self._touched(start, sizeof(ListenerCounters), self.listener_capacity):
            store64(&self.listener_counters(worker, slot).open, 0)
        for slot in self._touched(self.at.states, sizeof(BackendState)):
            state = self.state(slot)
            swap32(&state.probe, worker + 1, 0)
        for other in range(self.used_workers()):
            if other != worker:
                self.wake(other)

    cdef void _return_backend(self, int worker, int slot) noexcept:
        cdef BackendCounters *b = self.backend_counters(worker, slot)
        cdef BackendPlaces *places = self.backend_places(slot)
        cdef size_t first = <char *>b - self._worker(worker)
        return_share(self, worker, &places.requests, first + (<char *>&b.requests_held - <char *>b))
        return_share(self, worker, &places.connections, first + (<char *>&b.connections_held - <char *>b))

    cdef void _return_pool(self, int worker, int pool) noexcept:
        cdef PoolCounters *c = self.pool_counters(worker, pool)
        cdef PoolPlaces *places = self.pool_places(pool)
        cdef size_t first = <char *>c - self._worker(worker)
        return_share(self, worker, &places.requests, first + (<char *>&c.requests_held - <char *>c))
        return_share(self, worker, &places.waiting, first + (<char *>&c.waiting_held - <char *>c))
        return_share(self, worker, &places.fresh, first + (<char *>&c.fresh_held - <char *>c))
        store64(&c.oldest, 0)
        store64(&c.limit, 0)

    def _touched(self, size_t start, size_t record, count=None):
        """The slots whose record in the array at `start` has memory behind it: looking allocates nothing."""
        cdef size_t stop = start + (self.backend_capacity if count is None else <int>count) * record
        cdef size_t here = start
        while here < stop:
            try:
                here = os.lseek(self.fd, here, os.SEEK_DATA)
            except OSError:         # ENXIO: nothing but holes up to the end
                return
            if here >= stop:
                return
            end = min(<size_t>os.lseek(self.fd, here, os.SEEK_HOLE), stop)
            yield from range((here - start) // record, (end - start + record - 1) // record)
            here = end


cdef void clear_coarse(CoarseHistogram *h) noexcept nogil:
    if h.sum_ns:        # only looked at where nothing was counted
        memset(h, 0, sizeof(CoarseHistogram))


cdef void return_share(Segment segment, int worker, uint64_t *word, size_t where) noexcept:
    """Give back what a dead worker held of `word`; `where` is its share (held, pending) within each worker's part."""
    cdef int64_t *held = <int64_t *>(segment._worker(worker) + where)
    cdef uint64_t *pending = <uint64_t *>(held + 1)
    cdef bint doubtful = word_load(pending) != 0
    if not doubtful and held[0] == 0:
        return      # the word itself is not looked at: that would allocate its page
    places_add(word, -held[0], held, pending)
    held[0] = 0
    if doubtful:
        # It was killed between the change of the word and that of its share, in one order or the other.
        mend_places(segment, word, where, worker)
    word_store(pending, 0)


cdef void mend_places(Segment segment, uint64_t *word, size_t where, int dead) noexcept:
    """Set the word to the sum of the shares: at a moment when no worker is about to change it, which the word's version shows."""
    cdef uint64_t seen, sum_held
    cdef int look, worker
    cdef int64_t *held
    cdef bint busy
    for look in range(MEND_LOOKS):
        if look:
            with nogil:
                usleep(SLEEP_US)
        seen = word_load(word)
        sum_held = 0
        busy = False
        for worker in range(segment.used_workers()):
            held = <int64_t *>(segment._worker(worker) + where)
            if worker != dead and word_load(<uint64_t *>(held + 1)):
                busy = True
            sum_held += <uint64_t>load_signed(held)
        if not busy and swap64(word, seen, ((seen >> 32) + 1) << 32 | sum_held):
            return


cdef Segment mapped(int fd, Header *header, tuple wakes):
    cdef Segment segment = Segment.__new__(Segment)
    cdef void *base = mmap(NULL, header.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if base == MAP_FAILED:
        raise OSError(errno, f"cannot map the shared segment: {os.strerror(errno)}")
    if wakes:
        segment._wakes = <int *>malloc(len(wakes) * sizeof(int))
        if segment._wakes == NULL:
            munmap(base, header.size)
            raise MemoryError
        for descriptor in wakes:
            segment._wakes[segment._wake_count] = descriptor
            segment._wake_count += 1
    segment.fd = fd
    segment._base = <char *>base
    segment._size = header.size
    segment.workers = header.workers
    segment.backend_capacity = header.backends
    segment.pool_capacity = header.pools
    segment.route_capacity = header.routes
    segment.listener_capacity = header.listeners
    segment.at = lay_out(header.workers, header.backends, header.pools, header.routes, header.listeners)
    return segment


cdef uint32_t begin_write(BackendState *state) noexcept nogil:
    # The one writer: `| 1` also mends a sequence that a killed supervisor left odd.
    cdef uint32_t sequence = load32(&state.sequence) | 1
    store32(&state.sequence, sequence)
    fence_release()
    return sequence


cdef void end_write(BackendState *state, uint32_t sequence) noexcept nogil:
    store32_release(&state.sequence, sequence + 1)
