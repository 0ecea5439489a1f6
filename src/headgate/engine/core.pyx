"""The engine as Python sees it: a reactor with listeners, callbacks for descriptors and intervals, and an orderly end.

ARCHITECTURE.md, "The engine as Python sees it", is the contract.
"""
import socket as _socket

from cpython.ref cimport Py_DECREF, PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from headgate.engine.context cimport KIND_DRAIN_DEADLINE, Context
from headgate.engine.downstream cimport Acceptor, ClientConnection
from headgate.engine.histogram cimport coarse_add
from headgate.engine.libc_net cimport CLOCK_MONOTONIC, EPOLLIN, clock_gettime, read, timespec
from headgate.engine.model cimport Backend, Listener
from headgate.engine.pipes cimport pipes_idle
from headgate.engine.reactor cimport Handler
from headgate.engine.record cimport next_sample
from headgate.engine.upstream cimport BackendConnection
from headgate.engine.waiting cimport WaitingRoom

cdef enum:
    TIMER_PERIODIC = 1

# Access-log lines reach the file within this time, in one write for all of them.
cdef double LOG_FLUSH_S = 0.05


# What is shorter delays nobody by more than a timer's own slack, and is only summed up: most batches take some 20 us.
cdef int64_t SLOW_BATCH_NS = 1024000


cdef class Watcher(Handler):
    """A level-triggered descriptor of Python's (the control socket)."""

    cdef void on_events(self, uint32_t events) noexcept:
        try:
            self.callback()
        except BaseException as exception:
            self.engine.error("a watched descriptor's callback", exception)


cdef class Periodic(Handler):
    """Calls back every `interval_s`, or once."""

    def __cinit__(self, Engine engine, double interval_s, object callback, bint once=False):
        self.engine = engine
        self.reactor = engine
        self.interval_s = interval_s
        self.callback = callback
        self.once = once
        self.timer.owner = <PyObject *>self

    cdef void start(self) noexcept:
        self.engine.arm(&self.timer, self.engine.queue(self.interval_s), TIMER_PERIODIC)

    cdef void on_timer(self, int kind) noexcept:
        if not self.once:
            self.start()
        try:
            self.callback()
        except BaseException as exception:
            self.engine.error("a periodic callback", exception)


cdef class DescriptorWaiter(Handler):
    """Descriptors were closed: listeners that met EMFILE may go on."""

    cdef void on_ready(self) noexcept:
        cdef Acceptor acceptor
        for acceptor in self.engine._acceptors:
            acceptor.on_ready()


cdef class Waker(Handler):
    """Another worker gave a place back, or wants a connection (waiting.pyx)."""

    cdef void on_events(self, uint32_t events) noexcept:
        cdef uint64_t count
        cdef WaitingRoom room
        read(self.fd, &count, sizeof(count))
        for room in list(self.engine.rooms):
            room.woken()


cdef class Engine(Context):
    """The data plane of one worker: one epoll, its listeners and connections.

    `segment` is the shared segment (`Segment`), `worker` this engine's place in it. Not thread-safe: every method is called from the thread that
    runs the engine, callbacks included. Raises OSError when the kernel refuses an epoll, timer or event descriptor.
    """

    def __init__(self, segment, worker) -> None:
        self._watchers = {}
        self._acceptors = []
        self._periodic = []
        self._generation = 0
        self._log_flush = Periodic(self, LOG_FLUSH_S, self._flush_log, True)
        self._descriptors = DescriptorWaiter()
        (<DescriptorWaiter>self._descriptors).engine = self
        self.descriptor_waiter = self._descriptors
        self.every(1.0, self._heartbeat)
        self._heartbeat()
        if worker < self.segment._wake_count:
            self._wake = Waker()
            (<Waker>self._wake).engine = self
            if self.add(self._wake, self.segment._wakes[worker], EPOLLIN) < 0:
                raise OSError("cannot watch the worker's eventfd")

    cdef void before_events(self) noexcept:
        cdef uint64_t generation = self.segment.generation_word()[0]
        self.shaken_ns = 0
        if generation != self._generation:
            self._generation = generation
            if self.on_generation is not None:
                try:
                    self.on_generation()
                except BaseException as exception:
                    self.error("on_generation", exception)

    cdef void after_events(self, int count) noexcept:
        cdef timespec moment
        cdef int64_t took
        if count:
            # How long the next event has waited if it came just behind this batch. A look at the clock is no system call.
            clock_gettime(CLOCK_MONOTONIC, &moment)
            took = <int64_t>moment.tv_sec * 1000000000 + moment.tv_nsec - (<Context>self).now
            self.counters.batches += 1
            self.counters.busy_ns += <uint64_t>took
            if took >= SLOW_BATCH_NS:
                coarse_add(&self.counters.slow, <uint64_t>took)
        if self.access_log is not None and self.counters.requests != self._logged:
            self._logged = self.counters.requests
            if (<Periodic>self._log_flush).timer.queue == NULL:
                (<Periodic>self._log_flush).start()

    def _flush_log(self) -> None:
        if self.access_log is not None:
            if self.access_log is not self._counting_log:
                self._counting_log = self.access_log
                self.access_log.count_drops_in(&self.counters.log_dropped)
            self.access_log.flush()
            # Lines may stay behind while the thread is still busy with the last ones: they must not wait for another request.
            if self.in_flight or self.access_log.waiting():
                (<Periodic>self._log_flush).start()

    def _heartbeat(self) -> None:
        """Once a second: say that this worker lives, and look for clients that nobody was woken for."""
        cdef Acceptor acceptor
        self.counters.heartbeat_ms = <uint64_t>(self.now // 1000000)
        for acceptor in self._acceptors:
            # EPOLLEXCLUSIVE wakes one worker for a new connection. If that one was stopped or killed just then, the
            # connection would wait in the queue until the next one comes.
            acceptor.look()

    @property
    def now(self) -> float:
        """CLOCK_MONOTONIC in seconds, as of the current batch of events."""
        return self.now / 1e9

    @property
    def connections(self) -> int:
        """Open client connections."""
        return (<Context>self).connections

    @property
    def in_flight(self) -> int:
        """Exchanges under way."""
        return (<Context>self).in_flight

    @property
    def buffer_limit(self) -> int:
        """Bytes of buffers that connections may hold together; requests above it are answered 503."""
        return self.buffers.limit

    @buffer_limit.setter
    def buffer_limit(self, value: int) -> None:
        if value < 1 << 20:
            raise ValueError(f"buffers need at least 1 MiB, not {value} bytes")
        self.buffers.limit = value

    @property
    def buffers_in_use(self) -> int:
        """Bytes of buffers that connections hold now."""
        return self.buffers.in_use

    @property
    def pipes_in_use(self) -> int:
        """Pipes that hold body bytes now, or wait for some."""
        return self.pipes.count - pipes_idle(&self.pipes)

    def sample(self, int64_t every, int query) -> None:
        """Keep one request in `every`, on average, among the decisions; 0 = only those that went wrong. See the stub."""
        if every != self.sample_every:
            self.sample_every = every
            next_sample(self)
        self.query_kept = query

    def trace(self, int mode, double share) -> None:
        """W3C Trace Context: 0 = off, 1 = forward, 2 = create, of which this share is sampled."""
        self.tracing = mode
        self.trace_share = <uint64_t>-1 if share >= 1.0 else <uint64_t>(share * 18446744073709551616.0)

    def seed_random(self, uint64_t seed) -> None:
        """From here on pauses before retries (and request ids) are the same for the same `seed`. For tests."""
        self.random[0] = seed
        self.random[1] = 1          # both zero is the one state the generator never leaves

    def watch(self, int fd, object callback) -> None:
        """Call `callback()` whenever `fd` is readable (level-triggered). Raises OSError."""
        cdef Watcher watcher = Watcher()
        watcher.callback = callback
        watcher.engine = self
        cdef int result = self.add(watcher, fd, EPOLLIN)
        if result < 0:
            raise OSError(-result, f"cannot watch descriptor {fd}")
        self._watchers[fd] = watcher

    def unwatch(self, int fd) -> None:
        """Stop watching `fd`; the descriptor stays open."""
        cdef Watcher watcher = self._watchers.pop(fd, None)
        if watcher is not None:
            self.release(watcher)

    def every(self, double interval_s, object callback) -> None:
        """Call `callback()` every `interval_s` seconds, for housekeeping; may be a little late, never early."""
        cdef Periodic periodic = Periodic(self, interval_s, callback)
        self._periodic.append(periodic)
        periodic.start()

    def add_listener(self, Listener listener) -> None:
        """Start accepting. The engine owns the listener's descriptor from here on. Raises OSError."""
        cdef Acceptor acceptor
        listener.bind_timers(self)
        listener.counters = self.segment.listener_counters(self.worker, listener.slot)
        acceptor = Acceptor(self, listener)
        acceptor._resume()
        if acceptor.paused:
            raise OSError(f"cannot listen on {listener.bind}: the descriptor {listener.fd} cannot be watched")
        self._acceptors.append(acceptor)

    def remove_listener(self, Listener listener) -> None:
        """Stop accepting and close the descriptor. Connections that came in by it live on; their next answer is the last."""
        cdef Acceptor acceptor
        for acceptor in list(self._acceptors):
            if acceptor.listener is listener:
                listener.closing = True
                acceptor.stop()
                self._acceptors.remove(acceptor)

    def drain(self, double deadline_s, object done, double idle_s=0.0) -> None:
        """Stop accepting, close idle connections, let requests in flight finish; at the deadline cut off what is left.

        idle_s: for so long a connection without a request stays, so that its client can be told: the next answer says
        `Connection: close`. Then, or at once by default, idle ones are closed. `done()` is called once when no client
        connection is open any more. Calling drain() again moves the deadline.
        """
        cdef Acceptor acceptor
        self.draining = True
        self._drained = done
        for acceptor in self._acceptors:
            acceptor.listener.closing = True
            acceptor.stop()
        if self._idle_end is not None:
            self.disarm(&(<Periodic>self._idle_end).timer)
            self._idle_end = None
        if idle_s <= 0:
            self._close_idle()
        elif not self.closing_idle:
            self._idle_end = Periodic(self, idle_s, self._close_idle, True)
            (<Periodic>self._idle_end).start()
        if self._deadline is not None:
            self.disarm(&(<Periodic>self._deadline).timer)
        if deadline_s <= 0:
            self._cut_off()
        else:
            self._deadline = Periodic(self, deadline_s, self._cut_off, True)
            (<Periodic>self._deadline).start()
        self.progress()

    def cut_off_backend(self, Backend backend) -> None:
        """Close every connection to `backend`, kept or in use (the deadline of its drain has passed).

        A request in flight is sent elsewhere where that is safe, and never counted against the backend. Looks at every
        connection of the engine once: for rare events.
        """
        cdef uint32_t slot
        cdef BackendConnection connection
        backend.close_idle()
        for slot in range(self._slot_capacity):
            if self._handlers[slot] == NULL or not isinstance(<object>self._handlers[slot], BackendConnection):
                continue
            connection = <BackendConnection><object>self._handlers[slot]
            if connection.backend is not backend:
                continue
            connection.never_sent = connection.out_total == 0
            connection._fail(KIND_DRAIN_DEADLINE)

    def _close_idle(self) -> None:
        cdef uint32_t slot
        self.closing_idle = True
        for slot in range(self._slot_capacity):
            if self._handlers[slot] != NULL and isinstance(<object>self._handlers[slot], ClientConnection):
                (<ClientConnection><object>self._handlers[slot]).close_if_idle()

    def _cut_off(self) -> None:
        cdef uint32_t slot
        self.cut_off += (<Context>self).in_flight
        for slot in range(self._slot_capacity):
            if self._handlers[slot] != NULL and isinstance(<object>self._handlers[slot], ClientConnection):
                (<ClientConnection><object>self._handlers[slot]).cut_off()
        self.progress()

    cdef void progress(self) noexcept:
        if self.draining and (<Context>self).connections == 0 and not self._reported_drained:
            self._reported_drained = True
            if self.access_log is not None:
                self.access_log.flush()
            if self._drained is not None:
                try:
                    self._drained()
                except BaseException as exception:
                    self.error("the drain's callback", exception)

    def close(self) -> None:
        """Close every connection and descriptor. The engine cannot be used afterwards."""
        cdef Acceptor acceptor
        cdef uint32_t slot
        cdef Handler handler
        self._reported_drained = True
        for acceptor in self._acceptors:
            acceptor.stop()
        for slot in range(self._slot_capacity):
            if self._handlers[slot] == NULL:
                continue
            handler = <Handler><object>self._handlers[slot]
            if isinstance(handler, ClientConnection):
                (<ClientConnection>handler).cut_off()
            elif isinstance(handler, BackendConnection):
                (<BackendConnection>handler)._close()
        for fd in list(self._watchers):
            self.unwatch(fd)
        for room in list(self.rooms):
            (<WaitingRoom>room).close()
        if self._wake is not None:
            self.release(self._wake)
            self._wake = None
        self._reap()
        self.descriptor_waiter = None
        self._acceptors.clear()
        for periodic in self._periodic:
            self.disarm(&(<Periodic>periodic).timer)
        self._periodic.clear()
        self.disarm(&(<Periodic>self._log_flush).timer)
        for periodic in (self._deadline, self._idle_end):
            if periodic is not None:
                self.disarm(&(<Periodic>periodic).timer)
        self._log_flush = self._deadline = self._idle_end = self._descriptors = None
        self.on_generation = None
        self._drained = None
        while self.spare_count:
            self.spare_count -= 1
            Py_DECREF(<object>self.spare[self.spare_count])


def pack_address(int family, object address) -> bytes:
    """`struct sockaddr` bytes for `Backend.addresses`: family, and (host, port, ...) or a path. Raises ValueError, OSError."""
    if family == _socket.AF_INET:
        return family.to_bytes(2, "little") + int(address[1]).to_bytes(2, "big") + _socket.inet_pton(family, address[0]) + bytes(8)
    if family == _socket.AF_INET6:
        flow = address[2] if len(address) > 2 else 0
        scope = address[3] if len(address) > 3 else 0
        return (family.to_bytes(2, "little") + int(address[1]).to_bytes(2, "big") + int(flow).to_bytes(4, "big")
                + _socket.inet_pton(family, address[0].partition("%")[0]) + int(scope).to_bytes(4, "little"))
    if family == _socket.AF_UNIX:
        path = address.encode() if isinstance(address, str) else bytes(address)
        if not 0 < len(path) < 108:
            raise ValueError(f"a unix socket path has 1 to 107 bytes, this one {len(path)}: {address!r}")
        return family.to_bytes(2, "little") + path + b"\0"
    raise ValueError(f"address family {family} is not supported")
