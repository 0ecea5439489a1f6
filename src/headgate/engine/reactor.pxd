"""One epoll, its timers, and who is called back. Nothing here knows HTTP."""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from headgate.engine.libc_net cimport epoll_event

cdef enum:
    NO_SLOT = 0xffffffff

cdef struct Timer:
    Timer *previous
    Timer *next
    TimerQueue *queue           # NULL while not armed
    int64_t deadline
    PyObject *owner             # Handler, borrowed: its owner disarms before it dies
    int kind
    bint suspended              # stands in its queue, but is not to be called

# Durations are constant per class of timeout, so each distinct duration is a FIFO: arming appends, expiring pops.
cdef struct TimerQueue:
    Timer *first
    Timer *last
    TimerQueue *after           # the reactor's list of queues
    int64_t duration
    int64_t slack               # re-arming within this time is free; deadlines are that much late instead of early

cdef class Handler:
    """Anything the reactor calls back; `fd` is -1 for one that only has timers."""
    cdef Reactor reactor
    cdef int fd
    cdef uint32_t slot
    cdef bint queued            # stands in the ready queue
    cdef Handler next_ready
    cdef void on_events(self, uint32_t events) noexcept
    cdef void on_timer(self, int kind) noexcept
    cdef void on_ready(self) noexcept

cdef class Reactor:
    cdef int epoll_fd
    cdef int timer_fd
    cdef int wake_fd
    cdef int64_t now            # CLOCK_MONOTONIC ns, read once per batch
    cdef epoll_event *_events
    cdef PyObject **_handlers   # owned references, by slot
    cdef uint32_t *_generations
    cdef uint32_t *_free_slots
    cdef uint32_t _slot_capacity
    cdef uint32_t _free_count
    cdef TimerQueue *_queues
    cdef int64_t _timer_armed   # what timer_fd is set to; 0 = not set
    cdef Handler _ready_first
    cdef Handler _ready_last
    cdef list _closed           # handlers whose descriptors are closed after the batch
    cdef int *_closing
    cdef int _closing_count
    cdef int _closing_capacity
    cdef bint running
    cdef readonly bint in_batch     # events are being handled: whoever asks was called by the engine
    cdef Handler descriptor_waiter  # told when descriptors were closed (a listener that met EMFILE)

    cdef int add(self, Handler handler, int fd, uint32_t events) noexcept     # 0 or -errno
    cdef void forget(self, Handler handler) noexcept      # no more events; closes its descriptor after the batch
    cdef void release(self, Handler handler) noexcept     # no more events; the descriptor stays open
    cdef void make_ready(self, Handler handler) noexcept
    cdef TimerQueue *queue(self, double seconds) noexcept
    cdef void arm(self, Timer *timer, TimerQueue *queue, int kind) noexcept
    cdef void disarm(self, Timer *timer) noexcept
    cdef void move_timer(self, Timer *target, Timer *source) noexcept      # target takes source's place and deadline
    cdef void suspend(self, Timer *timer) noexcept     # disarm() without the work: for what is armed again soon
    cdef void read_clock(self) noexcept
    cdef int turn(self, int timeout_ms) except -1
    cdef void before_events(self) noexcept     # a batch begins
    cdef void after_events(self, int count) noexcept    # a batch of so many events ended
    cdef void _expire(self) noexcept
    cdef void _set_timer_fd(self) noexcept
    cdef void _run_ready(self) noexcept
    cdef void _reap(self) noexcept
    cdef int _grow(self) noexcept
    cdef void _dispose(self) noexcept
