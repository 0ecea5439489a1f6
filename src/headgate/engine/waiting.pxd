"""Limits of a pool and its backends, and the queue of those for whom there is no place. See waiting.pyx."""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from headgate.engine.context cimport Context
from headgate.engine.model cimport Backend, Pool
from headgate.engine.reactor cimport Handler, Timer, TimerQueue
from headgate.engine.stats cimport PoolCounters, PoolPlaces

cdef enum:                      # beside the kinds: no attempt was begun
    NO_PLACE = 100              # the backend is full
    POOL_FULL                   # the whole pool is

cdef struct Line:               # FIFO
    WaitNode *first
    WaitNode *last
    bint blocked                # its first one could not be placed in this round

cdef struct WaitNode:           # one in each exchange
    bint counted                # holds a place in the queue
    WaitNode *previous          # in its line
    WaitNode *next
    WaitNode *before            # among all that wait here, by age
    WaitNode *after
    Line *line                  # NULL while it does not wait
    int64_t since
    PyObject *owner             # ExchangeBase, borrowed: it leaves before it dies

cdef class BoundLine:           # those who wait for one backend
    cdef Line line
    cdef Backend backend

cdef class WaitingRoom(Handler):
    cdef Context ctx
    cdef Pool pool
    cdef uint32_t version       # of the pool's settings
    cdef bint several           # there are other workers
    cdef bint dropping          # an idle connection is being closed to make room
    cdef PoolPlaces *places
    cdef PoolCounters *counters
    cdef Line fresh             # any backend will do
    cdef Line again             # tried some already, waits for the rest
    cdef dict bound             # Backend -> BoundLine
    cdef WaitNode *oldest
    cdef WaitNode *newest
    cdef uint32_t waiting
    cdef TimerQueue *patience
    cdef TimerQueue *tick
    cdef Timer timer
    cdef uint64_t freed_seen    # PoolPlaces.freed at the last look at the full backends
    cdef uint64_t freed_at_tick
    cdef int64_t changed_at     # when a tick last found it changed
    cdef int64_t looked_at
    cdef uint32_t max_requests
    # adaptive concurrency
    cdef int64_t in_flight      # attempts of this worker
    cdef int64_t limit          # -1 = none
    cdef int64_t most_in_flight # in the current window
    cdef int64_t window_started
    cdef int64_t sampled_ns
    cdef uint32_t samples

    # places
    cdef int take(self, Backend backend) noexcept                   # KIND_OK, NO_PLACE or POOL_FULL
    cdef void return_untouched(self, Backend backend) noexcept      # take() is undone: no connection was left
    cdef void give(self, Backend backend, int64_t first_byte_ns) noexcept   # an attempt is over; its time to the first byte, -1 = says nothing
    cdef bint pool_full(self) noexcept
    cdef void look(self, bint now) noexcept                         # which of the full backends have a place again?
    cdef void freed(self, Backend backend) noexcept
    # the queue
    cdef bint must_queue(self) noexcept                             # others came before
    cdef bint some_full(self, set tried) noexcept                   # could one of the full backends serve?
    cdef bint enter(self, WaitNode *node, Backend bound, bint again) noexcept   # False: the queue is full
    cdef void leave(self, WaitNode *node) noexcept
    cdef void woken(self) noexcept                                  # another worker says that there is something to do
    cdef void close(self) noexcept
    cdef void _configure(self) noexcept
    cdef void _mark_full(self, Backend backend) noexcept
    cdef bint _has_place(self, Backend backend) noexcept
    cdef void _unlink(self, WaitNode *node) noexcept
    cdef void _link(self, WaitNode *node, Line *line, bint returns) noexcept
    cdef void _publish(self) noexcept
    cdef int _longest_elsewhere(self, int64_t before) noexcept
    cdef WaitNode *_next(self) noexcept
    cdef bint _possible(self, WaitNode *node) noexcept
    cdef void _serve(self, bint regardless) noexcept
    cdef void _yield_connections(self) noexcept
    cdef void _drop_idle(self, Backend backend) noexcept
    cdef void _window_over(self) noexcept

cdef void open_room(Pool pool, Context ctx) noexcept                # the pool's settings are new to this engine
cdef bint take_connection(Backend backend) noexcept                 # False: none is left
cdef void give_connection(Backend backend) noexcept
