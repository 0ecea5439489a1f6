"""The reactor: edge-triggered epoll, FIFO timers on a timerfd, a ready queue for fairness.

Rules that keep it safe:
- epoll carries (slot, generation), never a pointer, so an event for something already gone is recognised and dropped.
- Descriptors are closed after the batch in which they were given up: no number is reused while old events are still in hand.
- Timers wake through a timerfd in the same epoll, so that a reactor nested in another loop behaves like one that owns its thread.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc

from headgate.engine.libc_net cimport (
    CLOCK_MONOTONIC, EFD_CLOEXEC, EFD_NONBLOCK, EINTR, ENOMEM, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, TFD_CLOEXEC,
    TFD_NONBLOCK, clock_gettime, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait, errno, eventfd,
    itimerspec, read, timerfd_create, timerfd_settime, timespec, write,
)
from headgate.engine.prefetch cimport CONNECTION_BYTES, prefetch

cdef enum:
    # More events at once would only make the first of them wait for the last.
    EVENTS_PER_BATCH = 256
    TIMER_SLOT = 0xfffffffe
    WAKE_SLOT = 0xfffffffd

cdef class Handler:
    def __cinit__(self):
        self.fd = -1
        self.slot = NO_SLOT

    cdef void on_events(self, uint32_t events) noexcept:
        pass

    cdef void on_timer(self, int kind) noexcept:
        pass

    cdef void on_ready(self) noexcept:
        pass


cdef class Reactor:
    def __cinit__(self):
        cdef epoll_event event
        self.epoll_fd = -1
        self.timer_fd = -1
        self.wake_fd = -1
        self._closed = []
        self._events = <epoll_event *>malloc(EVENTS_PER_BATCH * sizeof(epoll_event))
        if self._events == NULL:
            raise MemoryError
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll_fd < 0:
            raise OSError(errno, "epoll_create1")
        self.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.timer_fd < 0:
            raise OSError(errno, "timerfd_create")
        self.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self.wake_fd < 0:
            raise OSError(errno, "eventfd")
        event.events = EPOLLIN
        event.data.u64 = TIMER_SLOT
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, self.timer_fd, &event) < 0:
            raise OSError(errno, "epoll_ctl")
        event.data.u64 = WAKE_SLOT
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, self.wake_fd, &event) < 0:
            raise OSError(errno, "epoll_ctl")
        self.read_clock()

    def __dealloc__(self):
        self._dispose()

    cdef void _dispose(self) noexcept:
        cdef TimerQueue *queue = self._queues
        cdef TimerQueue *after
        cdef uint32_t slot
        if self._handlers != NULL:
            for slot in range(self._slot_capacity):
                if self._handlers[slot] != NULL:
                    Py_DECREF(<object>self._handlers[slot])
                    self._handlers[slot] = NULL
        while queue != NULL:
            after = queue.after
            free(queue)
            queue = after
        self._queues = NULL
        self._reap()
        for fd in (self.epoll_fd, self.timer_fd, self.wake_fd):
            if fd >= 0:
                close(fd)
        self.epoll_fd = self.timer_fd = self.wake_fd = -1
        free(self._events)
        free(self._handlers)
        free(self._generations)
        free(self._free_slots)
        free(self._closing)
        self._events = NULL
        self._handlers = NULL
        self._generations = NULL
        self._free_slots = NULL
        self._closing = NULL
        self._slot_capacity = self._free_count = 0

    # -- registration -------------------------------------------------------------------------------------------

    cdef int _grow(self) noexcept:
        cdef uint32_t capacity = self._slot_capacity * 2 if self._slot_capacity else 256
        cdef void *handlers = realloc(self._handlers, capacity * sizeof(PyObject *))
        if handlers == NULL:
            return -1
        self._handlers = <PyObject **>handlers
        cdef void *generations = realloc(self._generations, capacity * sizeof(uint32_t))
        if generations == NULL:
            return -1
        self._generations = <uint32_t *>generations
        cdef void *slots = realloc(self._free_slots, capacity * sizeof(uint32_t))
        if slots == NULL:
            return -1
        self._free_slots = <uint32_t *>slots
        cdef uint32_t slot = capacity
        while slot > self._slot_capacity:
            slot -= 1
            self._handlers[slot] = NULL
            self._generations[slot] = 0
            self._free_slots[self._free_count] = slot
            self._free_count += 1
        self._slot_capacity = capacity
        return 0

    cdef int add(self, Handler handler, int fd, uint32_t events) noexcept:
        """Watch `fd` for `events` on behalf of `handler`. Returns 0, or -errno with nothing changed."""
        cdef epoll_event event
        cdef uint32_t slot
        if self._free_count == 0 and self._grow() < 0:
            return -ENOMEM
        slot = self._free_slots[self._free_count - 1]
        event.events = events
        event.data.u64 = (<uint64_t>self._generations[slot] << 32) | slot
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
            return -errno
        self._free_count -= 1
        Py_INCREF(handler)
        self._handlers[slot] = <PyObject *>handler
        handler.slot = slot
        handler.fd = fd
        handler.reactor = self
        return 0

    cdef void release(self, Handler handler) noexcept:
        cdef uint32_t slot = handler.slot
        cdef epoll_event event
        if slot == NO_SLOT:
            return
        epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, handler.fd, &event)
        handler.slot = NO_SLOT
        self._generations[slot] += 1
        self._handlers[slot] = NULL
        self._free_slots[self._free_count] = slot
        self._free_count += 1
        # The reference that the slot held lives to the end of the batch: the caller may be a method of the handler.
        self._closed.append(handler)
        Py_DECREF(handler)

    cdef void forget(self, Handler handler) noexcept:
        cdef int fd = handler.fd
        cdef uint32_t slot = handler.slot
        cdef int capacity
        cdef void *grown
        if fd < 0:
            return
        handler.fd = -1
        if slot != NO_SLOT:
            # No EPOLL_CTL_DEL: close() takes the descriptor out of the epoll set (it is never duplicated).
            handler.slot = NO_SLOT
            self._generations[slot] += 1
            self._handlers[slot] = NULL
            self._free_slots[self._free_count] = slot
            self._free_count += 1
            self._closed.append(handler)
            Py_DECREF(handler)
        if self._closing_count == self._closing_capacity:
            capacity = self._closing_capacity * 2 if self._closing_capacity else 64
            grown = realloc(self._closing, capacity * sizeof(int))
            if grown == NULL:
                close(fd)       # out of memory: closing early is the lesser evil, generations still protect
                return
            self._closing = <int *>grown
            self._closing_capacity = capacity
        self._closing[self._closing_count] = fd
        self._closing_count += 1

    cdef void _reap(self) noexcept:
        cdef int i
        cdef Handler waiter
        if self._closing_count:
            for i in range(self._closing_count):
                close(self._closing[i])
            self._closing_count = 0
            waiter = self.descriptor_waiter
            if waiter is not None:
                waiter.on_ready()
        if self._closed:
            self._closed.clear()

    # -- ready queue --------------------------------------------------------------------------------------------

    cdef void make_ready(self, Handler handler) noexcept:
        """Call handler.on_ready() after the events of this batch (fairness, and an end to deep recursion)."""
        if handler.queued:
            return
        handler.queued = True
        handler.next_ready = None
        if self._ready_last is None:
            self._ready_first = handler
        else:
            self._ready_last.next_ready = handler
        self._ready_last = handler

    cdef void _run_ready(self) noexcept:
        cdef Handler handler = self._ready_first
        cdef Handler after
        # What becomes ready while this runs waits for the next turn, so that sockets are looked at in between.
        self._ready_first = None
        self._ready_last = None
        while handler is not None:
            after = handler.next_ready
            handler.next_ready = None
            handler.queued = False
            handler.on_ready()
            handler = after

    # -- timers -------------------------------------------------------------------------------------------------

    cdef void read_clock(self) noexcept:
        cdef timespec moment
        clock_gettime(CLOCK_MONOTONIC, &moment)
        self.now = <int64_t>moment.tv_sec * 1000000000 + moment.tv_nsec

    cdef TimerQueue *queue(self, double seconds) noexcept:
        """The FIFO for this duration; NULL for 0 or less ("off"). Queues live as long as the reactor."""
        cdef int64_t duration = <int64_t>(seconds * 1e9)
        cdef TimerQueue *queue = self._queues
        if duration <= 0:
            return NULL
        while queue != NULL:
            if queue.duration == duration:
                return queue
            queue = queue.after
        queue = <TimerQueue *>calloc(1, sizeof(TimerQueue))
        if queue == NULL:
            return NULL
        queue.duration = duration
        queue.slack = duration // 64 if duration < 3200000000 else 50000000
        queue.after = self._queues
        self._queues = queue
        return queue

    cdef void arm(self, Timer *timer, TimerQueue *queue, int kind) noexcept:
        """Start, or restart, `timer`. A NULL queue means this timeout is off."""
        cdef int64_t deadline
        if queue == NULL:
            self.disarm(timer)
            return
        deadline = self.now + queue.duration + queue.slack
        timer.kind = kind
        timer.suspended = False
        if timer.queue == queue and deadline - timer.deadline < queue.slack:
            return
        self.disarm(timer)
        timer.queue = queue
        timer.deadline = deadline
        timer.next = NULL
        timer.previous = queue.last
        if queue.last == NULL:
            queue.first = timer
        else:
            queue.last.next = timer
        queue.last = timer
        if self._timer_armed == 0 or deadline < self._timer_armed:
            self._timer_armed = deadline
            self._set_timer_fd()

    cdef void suspend(self, Timer *timer) noexcept:
        timer.suspended = True

    cdef void disarm(self, Timer *timer) noexcept:
        cdef TimerQueue *queue = timer.queue
        if queue == NULL:
            return
        if timer.previous == NULL:
            queue.first = timer.next
        else:
            timer.previous.next = timer.next
        if timer.next == NULL:
            queue.last = timer.previous
        else:
            timer.next.previous = timer.previous
        timer.queue = NULL

    cdef void move_timer(self, Timer *target, Timer *source) noexcept:
        cdef TimerQueue *queue = source.queue
        self.disarm(target)
        target.kind = source.kind
        target.suspended = source.suspended
        if queue == NULL:
            return
        target.queue = queue
        target.deadline = source.deadline
        target.previous = source.previous
        target.next = source.next
        if target.previous == NULL:
            queue.first = target
        else:
            target.previous.next = target
        if target.next == NULL:
            queue.last = target
        else:
            target.next.previous = target
        source.queue = NULL

    cdef void _set_timer_fd(self) noexcept:
        # From now on, not at a moment: where the wall clock is faked (libfaketime) moments of every clock are shifted with it.
        # `now` is this batch's, so it wakes late by what the batch takes, and never early. 0 would disarm.
        cdef int64_t left = max(self._timer_armed - self.now, 1) if self._timer_armed else 0
        cdef itimerspec value
        value.it_interval.tv_sec = 0
        value.it_interval.tv_nsec = 0
        value.it_value.tv_sec = left // 1000000000
        value.it_value.tv_nsec = left % 1000000000
        timerfd_settime(self.timer_fd, 0, &value, NULL)

    cdef void _expire(self) noexcept:
        cdef uint64_t expirations
        cdef TimerQueue *queue = self._queues
        cdef Timer *timer
        cdef int64_t earliest = 0
        cdef Handler owner
        read(self.timer_fd, &expirations, sizeof(expirations))
        self._timer_armed = 0
        while queue != NULL:
            while queue.first != NULL and queue.first.deadline <= self.now:
                timer = queue.first
                self.disarm(timer)
                if timer.suspended:
                    continue
                owner = <Handler><object>timer.owner
                owner.on_timer(timer.kind)
            queue = queue.after
        queue = self._queues
        while queue != NULL:
            if queue.first != NULL and (earliest == 0 or queue.first.deadline < earliest):
                earliest = queue.first.deadline
            queue = queue.after
        if earliest != 0:
            self._timer_armed = earliest
            self._set_timer_fd()

    # -- the loop -----------------------------------------------------------------------------------------------

    cdef void before_events(self) noexcept:
        pass

    cdef void after_events(self, int count) noexcept:
        pass

    cdef int turn(self, int timeout_ms) except -1:
        """Wait for events, handle one batch. Returns how many there were; a signal handler's exception passes through."""
        cdef int count, i
        cdef uint32_t slot, generation
        cdef uint64_t data, drained
        cdef bint expired = False
        cdef Handler handler
        if self._ready_first is not None:
            timeout_ms = 0
        if timeout_ms == 0:
            count = epoll_wait(self.epoll_fd, self._events, EVENTS_PER_BATCH, 0)
        else:
            with nogil:
                count = epoll_wait(self.epoll_fd, self._events, EVENTS_PER_BATCH, timeout_ms)
        if count < 0:
            if errno != EINTR:
                raise OSError(errno, "epoll_wait")
            PyErr_CheckSignals()
            count = 0
        self.read_clock()
        self.in_batch = True
        self.before_events()
        for i in range(count):
            if i + 1 < count:
                slot = <uint32_t>self._events[i + 1].data.u64
                if slot < self._slot_capacity:
                    prefetch(self._handlers[slot], CONNECTION_BYTES)
            data = self._events[i].data.u64
            slot = <uint32_t>data
            if slot >= self._slot_capacity:
                if slot == TIMER_SLOT:
                    expired = True
                else:
                    read(self.wake_fd, &drained, sizeof(drained))
                continue
            generation = <uint32_t>(data >> 32)
            if self._generations[slot] != generation or self._handlers[slot] == NULL:
                continue
            handler = <Handler><object>self._handlers[slot]
            handler.on_events(self._events[i].events)
        if expired:
            # After the events: bytes that arrived in time are looked at before their timeout is.
            self._expire()
        if self._ready_first is not None:
            self._run_ready()
        self.after_events(count)
        self._reap()
        self.in_batch = False
        return count

    def fileno(self) -> int:
        """The epoll descriptor: readable when run_once() has something to do."""
        return self.epoll_fd

    def run_once(self) -> None:
        """Handle what is ready and return; never blocks. For a reactor nested in another loop."""
        cdef int rounds = 0
        cdef uint64_t one = 1
        while rounds < 4:
            rounds += 1
            if self.turn(0) == 0 and self._ready_first is None:
                return
        # More to do: come back, but let the host loop have its turn.
        write(self.wake_fd, &one, sizeof(one))

    def run_forever(self) -> None:
        """Own this thread until stop() is called."""
        self.running = True
        while self.running:
            self.turn(-1)

    def stop(self) -> None:
        """Make run_forever() return after the current batch. Callable from within a callback."""
        cdef uint64_t one = 1
        self.running = False
        write(self.wake_fd, &one, sizeof(one))
