"""The shared segment: backend states, counters, histograms. One memfd, mapped by the supervisor and every worker.

Each word has one writer: backend states are written by the supervisor, counters by the worker that owns them. Readers
take no lock; a generation word tells workers that some state changed.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from headgate.engine.histogram cimport HISTOGRAM_BUCKETS, CoarseHistogram, Histogram, histogram_add, histogram_index

cdef enum:
    MAX_KINDS = 48              # headgate.errors.Kind

cdef enum BackendFlag:          # written by the supervisor
    BACKEND_PRESENT = 1
    BACKEND_ENABLED = 2         # by the administrator
    BACKEND_UP = 4              # passes its active checks (or has none)
    BACKEND_CHECKED = 8         # checked at least once (or has no check)
    BACKEND_EJECTED = 16        # breaker open
    BACKEND_HALF_OPEN = 32      # breaker half-open: one idempotent probe at a time
    BACKEND_DRAINING = 64
    BACKEND_DRAINED = 128       # the drain's deadline has passed: no bound sessions either, connections closed

cdef struct BackendState:       # 256 bytes
    uint32_t flags
    uint32_t weight             # 0..256
    uint64_t since_ms           # CLOCK_REALTIME of the last change
    uint32_t probe              # half-open probe: 0 = free, else worker + 1; claimed by compare-and-swap
    uint32_t sequence           # odd while the supervisor writes this record (a seqlock for readers of the whole)
    uint64_t ramp_from_ms       # CLOCK_MONOTONIC: its share grows from here on (least until then); 0 = it has all of it
    uint32_t ramp_ms            # for how long
    uint32_t penalty            # the status (429, 503) by which it asked for the ramp; 0 = it starts slowly
    char reason[216]            # why, UTF-8, NUL-terminated

cdef struct BackendCounters:    # 256 bytes, one per worker and backend
    int64_t active              # attempts in flight (a gauge; zeroed by the supervisor when its worker dies)
    uint64_t attempts           # started
    uint64_t succeeded
    uint64_t failed             # attempts whose kind counts against the backend
    uint64_t bytes_received     # body bytes from the backend
    uint64_t bytes_sent
    uint64_t connects           # connections opened
    uint64_t reused             # attempts on a kept connection
    uint64_t retried            # attempts that were a retry of a request which failed elsewhere
    int64_t idle                # idle kept connections (gauge)
    uint64_t status[6]          # answers by class; [0] = none
    int64_t connections         # open connections, idle ones included (gauge)
    int64_t requests_held       # this worker's share of BackendPlaces.requests; see places.pxd
    uint64_t requests_pending
    int64_t connections_held    # ... of BackendPlaces.connections
    uint64_t connections_pending
    uint64_t reserved[11]

cdef struct BackendPlaces:      # 64 bytes, one per backend: by compare-and-swap from all workers
    uint64_t requests           # attempts in flight under max_requests
    uint64_t connections        # open connections under max_connections
    uint64_t wanted             # 1: a worker found no connection left; who has an idle one gives it up
    uint64_t reserved[5]

cdef struct PoolPlaces:         # 64 bytes, one per pool: by compare-and-swap from all workers
    uint64_t requests           # attempts in flight under limits.max_requests
    uint64_t waiting            # requests in the queue
    uint64_t fresh              # those of them that any backend would suit
    uint64_t freed              # grows with every place that is given back
    uint64_t reserved[4]

cdef struct BackendMarks:       # 64 bytes, one per backend: what the supervisor has seen of it
    uint64_t ejections          # its breaker opened
    uint64_t went_up            # by its checks
    uint64_t went_down
    uint64_t checks_passed
    uint64_t checks_failed
    uint64_t reserved[3]

cdef struct PoolMarks:          # 64 bytes, one per pool: what the supervisor has seen of its backends, removed ones included
    uint64_t ejections[4]       # a breaker opened, by EJECTION_CAUSES
    uint64_t penalties[2]       # one began to get less, by PENALTY_STATUSES
    uint64_t reserved[2]

cdef struct SupervisorCounters: # 128 bytes, in the header's page: the supervisor's, over upgrades
    uint64_t reloads            # came into force
    uint64_t reloads_refused
    uint64_t rollbacks          # reloads that took themselves back
    uint64_t upgrades
    uint64_t worker_starts
    uint64_t worker_deaths      # those nobody wanted
    uint64_t requests_lost      # that were under way in a worker as it died
    uint64_t reloaded_ms        # CLOCK_REALTIME of the last reload that came into force; of the start, before there was one
    uint64_t reload_ok          # did the last one?
    uint64_t reserved[7]

cdef enum NotRetried:           # why a failed request was not sent again
    NOT_RETRIED_BUDGET          # retry.budget is used up
    NOT_RETRIED_DEADLINE        # no time is left for another attempt
    NOT_RETRIED_REPLAY_CAP      # its body was not kept
    NOT_RETRIED_METHOD          # not idempotent, and some of it was sent
    NOT_RETRIED_RETRIES         # retry.retries are used up
    NOT_RETRIED_NOBODY          # every backend there is was tried
    NOT_RETRIED_COUNT

cdef struct PoolCounters:       # 1024 bytes, one per worker and pool
    int64_t requests_held       # this worker's share of PoolPlaces.requests; see places.pxd
    uint64_t requests_pending
    int64_t waiting_held        # ... of PoolPlaces.waiting (a gauge: requests that wait in this worker)
    uint64_t waiting_pending
    int64_t fresh_held          # ... of PoolPlaces.fresh
    uint64_t fresh_pending
    uint64_t oldest             # CLOCK_MONOTONIC ns at which the one that waits longest came; 0 = nobody waits
    uint64_t queued             # requests that had to wait
    uint64_t queued_ns          # how long, together
    uint64_t queue_timeouts     # gave up waiting
    uint64_t overloaded         # met a full queue
    uint64_t left               # the client left while it waited
    uint64_t limit              # what adaptive concurrency allows, in thousandths of a request; 0 = not in use
    uint64_t status[6]          # requests by class of their status; [0] = ended without one
    uint64_t retried[MAX_KINDS] # retries by how the attempt before ended
    uint64_t not_retried[8]     # by NotRetried
    uint64_t replayed           # once more on a fresh connection (Kind.STALE)
    uint64_t hedges             # second attempts sent while the first was under way
    uint64_t hedges_won
    uint64_t hedges_refused     # not paid for by the budget
    uint64_t fallbacks          # requests that something else had to serve
    uint64_t reserved[48]

cdef struct RouteCounters:      # one per worker and route
    uint64_t status[6]
    CoarseHistogram latency

cdef struct ListenerCounters:   # 128 bytes, one per worker and listener
    uint64_t status[6]
    uint64_t accepted           # connections
    uint64_t refused            # ... over a limit
    int64_t open                # client connections that came in by it and are open (gauge)
    uint64_t reserved[7]

cdef struct WorkerCounters:
    uint64_t accepted
    int64_t connections         # open client connections (gauge)
    uint64_t requests           # exchanges begun
    int64_t in_flight           # exchanges (gauge)
    uint64_t answered           # exchanges that got a complete answer
    uint64_t status[6]
    uint64_t kind[MAX_KINDS]    # exchanges by how they ended
    uint64_t retries
    uint64_t strategy_errors
    uint64_t log_dropped        # access-log lines
    uint64_t bytes_received     # body bytes from clients
    uint64_t bytes_sent
    uint64_t heartbeat_ms       # CLOCK_MONOTONIC, once a second
    uint64_t generation         # the last one applied
    uint64_t started_ms
    int64_t tunnels             # gauge
    uint64_t refused_connections # over max_connections
    uint64_t retries_refused    # retries and hedges that the budget did not allow
    uint64_t hedges             # second attempts sent while the first was under way
    uint64_t hedges_won         # of those, the ones whose answer was relayed
    uint64_t fallbacks          # exchanges that a fallback served
    uint64_t batches            # wake-ups of the event loop
    uint64_t busy_ns            # how long they took, together
    uint64_t reserved[26]
    CoarseHistogram slow        # of them those of a millisecond and more, which are what the next event waits for

cdef struct Offsets:            # of sections from the segment's start; then of those in a worker's part, from its start
    size_t states
    size_t backend_places
    size_t pool_places
    size_t marks
    size_t pool_marks
    size_t workers
    size_t backends
    size_t pool_latency
    size_t pool_first_byte
    size_t pools
    size_t backend_first_byte
    size_t routes
    size_t listeners
    size_t worker               # the size of such a part, and of all
    size_t size
    size_t histogram            # sizes of records, padded
    size_t coarse
    size_t route

cdef class SegmentMemory:
    cdef readonly int fd
    cdef readonly int workers
    cdef readonly int backend_capacity
    cdef readonly int pool_capacity
    cdef readonly int route_capacity
    cdef readonly int listener_capacity
    cdef Offsets at
    cdef int *_wakes                    # an eventfd per worker, where there are several
    cdef int _wake_count
    cdef char *_base
    cdef size_t _size
    cdef char *_worker(self, int worker) noexcept
    cdef int _open(self) except -1
    cdef int _check_slot(self, int slot) except -1
    cdef int _check_worker(self, int worker) except -1
    cdef int _check_pool(self, int pool) except -1
    cdef int _check_route(self, int route) except -1
    cdef int _check_listener(self, int listener) except -1
    cdef uint64_t *generation_word(self) noexcept
    cdef SupervisorCounters *supervisor(self) noexcept
    cdef BackendMarks *marks(self, int slot) noexcept
    cdef PoolMarks *pool_marks(self, int pool) noexcept
    cdef CoarseHistogram *backend_first_byte(self, int worker, int slot) noexcept   # of attempts
    cdef RouteCounters *route_counters(self, int worker, int route) noexcept
    cdef ListenerCounters *listener_counters(self, int worker, int listener) noexcept
    cdef int used_workers(self) noexcept
    cdef BackendState *state(self, int slot) noexcept
    cdef BackendCounters *backend_counters(self, int worker, int slot) noexcept
    cdef WorkerCounters *worker_counters(self, int worker) noexcept
    cdef BackendPlaces *backend_places(self, int slot) noexcept
    cdef PoolPlaces *pool_places(self, int pool) noexcept
    cdef PoolCounters *pool_counters(self, int worker, int pool) noexcept
    cdef void wake(self, int worker) noexcept
    cdef void _close_wakes(self) noexcept
    cdef Histogram *pool_latency(self, int worker, int pool) noexcept       # total time of an exchange
    cdef Histogram *pool_first_byte(self, int worker, int pool) noexcept

cdef class SegmentSums(SegmentMemory):
    pass

cdef class SegmentStates(SegmentSums):
    pass

cdef class SegmentCounts(SegmentStates):
    pass

cdef class Segment(SegmentCounts):
    cdef void _return_backend(self, int worker, int slot) noexcept
    cdef void _return_pool(self, int worker, int pool) noexcept
