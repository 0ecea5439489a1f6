"""The shared segment: what every process may know about backends, and what every worker has counted.

One memfd, created by the supervisor and mapped by it and by every worker. It is sealed against growing and shrinking, so
that nobody can pull the ground from under a mapping, and sparse: a page that nobody touched costs nothing, which is why
it can be laid out for thousands of backends.

    header | generation | backend states | places per backend | places per pool
           | worker 0: counters, per backend, per pool | worker 1: ... | ...

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

from headgate.engine.histogram cimport bucket_start
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

cdef enum:
    PAGE = 4096                 # sections start on a page, so that one worker never dirties another's
    LINE = 64                   # cache line
    LAYOUT = 2                  # to be raised whenever a struct in stats.pxd or the order of sections changes
    GENERATION_OFFSET = 1024    # in the header's page, on a cache line of its own
    USED_OFFSET = 1088          # how many workers' parts have been in use so far; written by the supervisor
    # Reading a record that is being written: writing takes 0.1 us, so spin; then the supervisor was preempted in the
    # middle, so sleep; after some 0.1 s it is dead, and what is there has to do.
    SPINS = 100
    SLEEPS = 700
    SLEEP_US = 100
    # Looks for a moment in which nobody changes a word of places: with a pause between them, some 20 ms.
    MEND_LOOKS = 200

cdef const char *MAGIC = b"headgate"

cdef struct Header:
    char magic[8]
    uint32_t layout
    uint32_t workers
    uint32_t backends
    uint32_t pools
    uint32_t state_size
    uint32_t backend_size
    uint32_t worker_size
    uint32_t histogram_size
    uint64_t size


# ---- totals

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
        "fallbacks": load64(&c.fallbacks),
    }

# Named in stats.pyi, where they are TypedDicts.
Totals = dict
WorkerTotals = dict
PoolTotals = dict

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


# ---- segment

cdef size_t rounded(size_t size, size_t unit) noexcept nogil:
    return (size + unit - 1) // unit * unit


cdef void fill_header(Header *header, int workers, int backends, int pools) noexcept nogil:
    memset(header, 0, sizeof(Header))
    memcpy(header.magic, MAGIC, 8)
    header.layout = LAYOUT
    header.workers = workers
    header.backends = backends
    header.pools = pools
    header.state_size = sizeof(BackendState)
    header.backend_size = sizeof(BackendCounters)
    header.worker_size = sizeof(WorkerCounters)
    header.histogram_size = sizeof(Histogram)
    header.size = PAGE + states_size(backends) + places_size(backends, pools) + workers * worker_size(backends, pools)


cdef size_t states_size(int backends) noexcept nogil:
    return rounded(backends * sizeof(BackendState), PAGE)


cdef size_t places_size(int backends, int pools) noexcept nogil:
    return rounded(backends * sizeof(BackendPlaces), PAGE) + rounded(pools * sizeof(PoolPlaces), PAGE)


cdef size_t histogram_stride() noexcept nogil:
    return rounded(sizeof(Histogram), LINE)


cdef size_t worker_size(int backends, int pools) noexcept nogil:
    return (rounded(sizeof(WorkerCounters), PAGE) + rounded(backends * sizeof(BackendCounters), PAGE)
            + 2 * rounded(pools * histogram_stride(), PAGE) + rounded(pools * sizeof(PoolCounters), PAGE))


cdef bytes as_reason(str text):
    """UTF-8 of at most 215 bytes, cut between characters, without NUL."""
    cdef bytes encoded = text.replace("\0", " ").encode("utf-8", "replace")
    if len(encoded) > 215:
        encoded = encoded[:215].decode("utf-8", "ignore").encode("utf-8")
    return encoded


cdef class Segment:
    """The shared memory of one process tree; see the module's docstring.

    `create` in the supervisor, `open` in a worker that inherited the descriptor. `fd` belongs to the segment and is
    closed with it; `workers`, `backend_capacity` and `pool_capacity` are what it was laid out for; `used` says how many
    of the workers' parts have been in use, which is as far as sums go.

    Every method raises ValueError once the segment is closed and IndexError for a worker, slot or pool it was not laid
    out for.
    """

    def __cinit__(self):
        self.fd = -1

    def __init__(self):
        if self._base == NULL:
            raise TypeError("use Segment.create() or Segment.open()")

    @staticmethod
    def create(int workers, int backends=8192, int pools=1024, *, int room=0):
        """A new, zeroed segment for so many workers (1 to 1024), backends and pools. OSError when memory is refused.

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
        if room and not workers <= room <= 1024:
            raise ValueError(f"room must be {workers} to 1024, not {room}")
        fill_header(&header, room or workers, backends, pools)
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
        if not (1 <= found.workers <= 1024 and 1 <= found.backends <= 1 << 20 and 1 <= found.pools <= 1 << 16):
            raise ValueError(f"the segment's header is damaged: {found.workers} workers, {found.backends} backends, "
                             f"{found.pools} pools")
        fill_header(&wanted, found.workers, found.backends, found.pools)
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

    cdef BackendState *state(self, int slot) noexcept:
        return <BackendState *>(self._base + PAGE) + slot

    cdef char *_worker(self, int worker) noexcept:
        return (self._base + PAGE + states_size(self.backend_capacity) + places_size(self.backend_capacity, self.pool_capacity)
                + worker * worker_size(self.backend_capacity, self.pool_capacity))

    cdef BackendCounters *backend_counters(self, int worker, int slot) noexcept:
        return <BackendCounters *>(self._worker(worker) + rounded(sizeof(WorkerCounters), PAGE)) + slot

    cdef WorkerCounters *worker_counters(self, int worker) noexcept:
        return <WorkerCounters *>self._worker(worker)

    cdef Histogram *pool_latency(self, int worker, int pool) noexcept:
        return <Histogram *>(<char *>self.backend_counters(worker, 0)
                             + rounded(self.backend_capacity * sizeof(BackendCounters), PAGE)
                             + pool * histogram_stride())

    cdef Histogram *pool_first_byte(self, int worker, int pool) noexcept:
        return <Histogram *>(<char *>self.pool_latency(worker, pool)
                             + rounded(self.pool_capacity * histogram_stride(), PAGE))

    cdef BackendPlaces *backend_places(self, int slot) noexcept:
        return <BackendPlaces *>(self._base + PAGE + states_size(self.backend_capacity)) + slot

    cdef PoolPlaces *pool_places(self, int pool) noexcept:
        return <PoolPlaces *>(<char *>self.backend_places(0) + rounded(self.backend_capacity * sizeof(BackendPlaces), PAGE)) + pool

    cdef PoolCounters *pool_counters(self, int worker, int pool) noexcept:
        return <PoolCounters *>(<char *>self.pool_first_byte(worker, 0)
                                + rounded(self.pool_capacity * histogram_stride(), PAGE)) + pool

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

    # -- written by the supervisor

    def set_backend(self, int slot, *, flags=None, weight=None, str reason=None, since_ms=None, ramp=None):
        """Writes what is given of a backend's state and leaves the rest; bump_generation() makes workers look.

        flags: PRESENT, ENABLED... of this module. weight: 0 to 256, else ValueError. reason: why, cut at 215 bytes of
        UTF-8. since_ms: milliseconds since 1970 at which the state last changed. ramp: (from_ms, ms), CLOCK_MONOTONIC
        and how long; (0, 0) for none.
        """
        cdef BackendState *state
        cdef uint32_t sequence
        cdef uint32_t new_flags = 0 if flags is None else flags
        cdef uint64_t new_since = 0 if since_ms is None else since_ms
        cdef bytes text = b"" if reason is None else as_reason(reason)
        cdef uint64_t ramp_from = 0 if ramp is None else ramp[0]
        cdef uint32_t ramp_for = 0 if ramp is None else ramp[1]
        self._check_slot(slot)
        if weight is not None and not 0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"a weight is 0 to {MAX_WEIGHT}, not {weight}")
        state = self.state(slot)
        sequence = begin_write(state)
        if flags is not None:
            store32(&state.flags, new_flags)
        if weight is not None:
            store32(&state.weight, weight)
        if since_ms is not None:
            store64(&state.since_ms, new_since)
        if ramp is not None:
            store64(&state.ramp_from_ms, ramp_from)
            store32(&state.ramp_ms, ramp_for)
        if reason is not None:
            memset(state.reason, 0, sizeof(state.reason))
            memcpy(state.reason, <const char *>text, len(text))
        end_write(state, sequence)

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
        memset(state.reason, 0, sizeof(state.reason))
        end_write(state, sequence)
        for worker in range(self.used_workers()):
            c = self.backend_counters(worker, slot)
            # What follows `active`, without `idle` and what comes behind `status`.
            memset(&c.attempts, 0, <char *>&c.idle - <char *>&c.attempts)
            memset(c.status, 0, sizeof(c.status))
        self.backend_places(slot).wanted = 0

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

    def heartbeat_s(self, int worker):
        """When this worker last looked after its house, in seconds of CLOCK_MONOTONIC; 0 = never."""
        self._check_worker(worker)
        return load64(&self.worker_counters(worker).heartbeat_ms) / 1000

    def bump_generation(self):
        """Tells every worker that some state changed; returns the new generation."""
        self._open()
        return add_release(self.generation_word(), 1)

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
        for slot in self._touched(PAGE, sizeof(BackendState)):
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

    def release_probe(self, int slot):
        """Frees a backend's half-open probe, whoever holds it."""
        self._check_slot(slot)
        store32_release(&self.state(slot).probe, 0)

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

    # -- read by anyone

    @property
    def generation(self):
        """How often some backend's state changed."""
        self._open()
        return load64(self.generation_word())

    def backend_flags(self, int slot):
        """BackendFlag bits."""
        self._check_slot(slot)
        return load32(&self.state(slot).flags)

    def backend_weight(self, int slot):
        """0 to 256."""
        self._check_slot(slot)
        return load32(&self.state(slot).weight)

    def backend_since_ms(self, int slot):
        """Milliseconds since 1970 at which the state last changed; 0 = never."""
        self._check_slot(slot)
        return load64(&self.state(slot).since_ms)

    def backend_ramp(self, int slot):
        """(from_ms, ms): CLOCK_MONOTONIC at which its share begins to grow, and for how long it does; (0, 0) = none."""
        self._check_slot(slot)
        return load64(&self.state(slot).ramp_from_ms), load32(&self.state(slot).ramp_ms)

    def backend_reason(self, int slot):
        """Why the backend is in its state."""
        return self.backend_state(slot)[2]

    def backend_state(self, int slot):
        """(flags, weight, reason, since_ms), all of one moment: never half of one change and half of the next."""
        cdef BackendState *state
        cdef BackendState copy
        cdef uint32_t before
        cdef int tries
        self._check_slot(slot)
        state = self.state(slot)
        for tries in range(SPINS + SLEEPS):
            if tries > SPINS:
                with nogil:
                    usleep(SLEEP_US)
            before = load32_acquire(&state.sequence)
            memcpy(&copy, state, sizeof(BackendState))
            fence_acquire()
            if not before & 1 and load32(&state.sequence) == before:
                break
        copy.reason[sizeof(copy.reason) - 1] = 0
        return copy.flags, copy.weight, (<char *>copy.reason).decode("utf-8", "replace"), copy.since_ms

    def claim_probe(self, int slot, int worker):
        """Takes the backend's half-open probe for `worker`; False when it is taken (by this worker, too)."""
        self._check_slot(slot)
        self._check_worker(worker)
        return swap32(&self.state(slot).probe, 0, worker + 1)

    def probe_holder(self, int slot):
        """The worker that holds the half-open probe, or None."""
        self._check_slot(slot)
        held = load32(&self.state(slot).probe)
        return held - 1 if held else None

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

    def pool_totals(self, int pool):
        """A pool's limits and queue over all workers: PoolTotals in stats.pyi."""
        cdef PoolPlaces *places
        cdef PoolCounters *c
        cdef int worker
        cdef uint64_t queued = 0, queued_ns = 0, timeouts = 0, overloaded = 0, left = 0, limit = 0
        self._check_pool(pool)
        places = self.pool_places(pool)
        for worker in range(self.used_workers()):
            c = self.pool_counters(worker, pool)
            queued += load64(&c.queued)
            queued_ns += load64(&c.queued_ns)
            timeouts += load64(&c.queue_timeouts)
            overloaded += load64(&c.overloaded)
            left += load64(&c.left)
            limit += load64(&c.limit)
        return {
            "requests": places_taken(&places.requests), "waiting": places_taken(&places.waiting), "fresh": places_taken(&places.fresh),
            "queued": queued, "queued_ns": queued_ns, "queue_timeouts": timeouts, "overloaded": overloaded, "left": left,
            "limit": limit / 1000,
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
        buckets = [(bucket_start(index + 1), sums[index]) for index in range(HISTOGRAM_BUCKETS) if sums[index]]
        return Latency(count, sum_ns, buckets)

    # -- written by a worker, from Python (the engine writes through pointers)

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
    return segment


cdef uint32_t begin_write(BackendState *state) noexcept nogil:
    # The one writer: `| 1` also mends a sequence that a killed supervisor left odd.
    cdef uint32_t sequence = load32(&state.sequence) | 1
    store32(&state.sequence, sequence)
    fence_release()
    return sequence


cdef void end_write(BackendState *state, uint32_t sequence) noexcept nogil:
    store32_release(&state.sequence, sequence + 1)
