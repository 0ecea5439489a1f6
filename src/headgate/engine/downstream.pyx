"""HTTP/1 from clients: accept, read requests one after the other, stream bodies, write responses.

Input buffer while a request is served:

    [ head ][ decoded body: sent | not sent ][ raw bytes not decoded, or the next request ]
      ^0      ^body_start  ^payload_pos ^payload_end  ^in_pos                          ^in_end

The head stays where it is until the exchange is over (retries, the log and strategies read it). Decoded body bytes stay as long as
there is room, so the buffer itself is the replay buffer: rewind() works until they had to be overwritten.
"""
import logging

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, strlen

from headgate.engine.address cimport Address, address_format, address_from_sockaddr
from headgate.engine.buffers cimport LARGE_BUFFER, SMALL_BUFFER, Buffer, buffer_acquire, buffer_release
from headgate.engine.connection cimport Connection
from headgate.engine.context cimport (
    KIND_BAD_REQUEST, KIND_CLIENT_GONE, KIND_CLIENT_TIMEOUT, KIND_HEAD_TOO_LARGE, KIND_METHOD_NOT_ALLOWED, KIND_NOT_IMPLEMENTED,
    KIND_OVERLOADED, KIND_SLOW_CLIENT, KIND_URI_TOO_LONG, KIND_VERSION_NOT_SUPPORTED, Context, status_text,
)
from headgate.engine.exchange cimport Exchange, exchange_acquire, report_shortage
from headgate.engine.head cimport (
    FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH, FRAMING_NONE, FRAMING_TUNNEL, HEAD_KEEP_ALIVE, METHOD_HEAD, Head,
)
from headgate.engine.http1 cimport (
    Answer, chunk_decode, chunk_init, head_reset, parse_error_text, parse_request, write_response,
)
from headgate.engine.libc_net cimport (
    EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLOUT,
    EPOLLRDHUP, EPROTO, SIOCOUTQ, SOCK_CLOEXEC, SOCK_NONBLOCK, accept4, close, errno, ioctl, iovec, recv,
    sockaddr, sockaddr_storage, socklen_t, SOL_TCP, TCP_NODELAY, setsockopt,
)
from headgate.engine.model cimport Listener
from headgate.engine.prefetch cimport EXCHANGE_BYTES, prefetch
from headgate.engine.proxied cimport proxy_take, report_refused, socket_ends
from headgate.engine.proxy_protocol cimport PROXY_CUT, PROXY_TIMEOUT, PROXY_UNLISTED, ProxyHeader
from headgate.engine.reactor cimport Handler
from headgate.engine.stream cimport SEND_BROKEN, ExchangeBase
from headgate.engine.tls cimport TLS_DONE, TLS_FAILED, TLS_PLAIN, TLS_WAIT, Tls

cdef enum:
    TIMER_HEADER = 1
    TIMER_BODY
    TIMER_IDLE
    TIMER_LINGER
    TIMER_WRITE
    TIMER_ACCEPT
    TIMER_HANDSHAKE
    # epoll wakes the worker that waited last first: taking few at a time leaves some for the others.
    ACCEPTS_PER_WAKE = 4
    TRAILER_CAPACITY = 8192
    TURN_BYTES = 262144
    # What is read and dropped after the last answer, so that it is not overtaken by a reset.
    LINGER_BYTES = 65536

cdef int64_t HANDSHAKES_SAID_EVERY_NS = 10000000000

logger = logging.getLogger("headgate.engine")


cdef class Acceptor(Handler):
    """Accepts connections of one listener. Level-triggered, shared between workers with EPOLLEXCLUSIVE."""

    def __cinit__(self, Context ctx, Listener listener):
        self.ctx = ctx
        self.reactor = ctx
        self.listener = listener
        self.timer.owner = <PyObject *>self
        self.paused = True
        self.per_client = {}

    def __dealloc__(self):
        if self.ctx is not None:
            self.ctx.disarm(&self.timer)

    cdef void _resume(self) noexcept:
        if self.paused and self.ctx.add(self, self.listener.fd, EPOLLIN | EPOLLEXCLUSIVE) == 0:
            self.paused = False

    cdef void _pause(self) noexcept:
        """No descriptor left: a level-triggered listener would spin. Registered again when one frees, or soon."""
        if self.paused:
            return
        self.paused = True
        self.ctx.release(self)
        self.fd = -1
        self.ctx.arm(&self.timer, self.ctx.queue(0.1), TIMER_ACCEPT)

    cdef void stop(self) noexcept:
        """No more connections by this listener; its descriptor is closed."""
        self.ctx.disarm(&self.timer)
        if self.listener is None or self.listener.fd < 0:
            return
        self.listener.max_handshakes = 0
        # Who stands in the queue was told by the kernel that it is connected: closing now would reset it.
        while self._accept() == ACCEPTS_PER_WAKE:
            pass
        if not self.paused:
            self.ctx.forget(self)
        else:
            close(self.listener.fd)
        self.paused = True
        self.listener.fd = -1

    cdef void on_timer(self, int kind) noexcept:
        if self.listener.fd >= 0:
            self._resume()

    cdef void on_ready(self) noexcept:
        if self.paused and self.listener.fd >= 0:
            self._resume()

    cdef void on_events(self, uint32_t events) noexcept:
        self._accept()

    cdef void look(self) noexcept:
        """Is there somebody in the queue whom no event has told of?"""
        if not self.paused and self.listener.fd >= 0:
            self._accept()

    cdef int _accept(self) noexcept:
        """Take a few connections. Returns how many there were; fewer than ACCEPTS_PER_WAKE means that the queue is empty."""
        cdef int i, fd, refused = 0
        cdef int64_t got
        cdef sockaddr_storage name
        cdef socklen_t size
        cdef ClientConnection connection
        cdef Listener listener = self.listener
        for i in range(ACCEPTS_PER_WAKE):
            if listener.max_handshakes and self.handshakes >= listener.max_handshakes:
                # The others wait in the kernel's queue, where they cost nothing, until one is over.
                self._pause()
                return i
            if self.ctx.short_of_descriptors():
                # What is left is for connections to backends: clients that are in are to be served.
                self._pause()
                return i
            size = sizeof(name)
            fd = accept4(listener.fd, <sockaddr *>&name, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                    report_shortage(self.ctx, "no more clients are let in until one leaves")
                    self._pause()
                    return i
                if errno == EINTR or errno == ECONNABORTED or errno == EPROTO or errno == EPERM:
                    continue
                return i
            self.ctx.counters.accepted += 1
            listener.counters.accepted += 1
            if listener.max_connections and self.open_connections >= listener.max_connections:
                refused = 1
            connection = ClientConnection.__new__(ClientConnection, self.ctx, self)
            address_from_sockaddr(&connection.peer, &name, size)
            connection._name_peer()
            if listener.proxies is not None:
                # Whose connection it is will be told: until then nobody's is counted.
                if not refused and not listener.proxies.contains(&connection.peer):
                    report_refused(self.ctx, listener, connection.peer_text, connection.peer_length, PROXY_UNLISTED)
                    close(fd)
                    continue
            elif not refused and not self._admit(connection):
                refused = 1
            if refused:
                refused = 0
                self.ctx.counters.refused_connections += 1
                listener.counters.refused += 1
                close(fd)
                continue
            # Most clients send with the handshake's last packet: reading before the registration saves one round of epoll.
            connection.fd = fd
            connection.readable = True
            # TLS reads by itself, and first of all; so does the header of the PROXY protocol, and before it.
            if listener.proxies is not None:
                got = 1
            else:
                got = connection.receive(SMALL_BUFFER) if listener.tls is None else -1
            if self.ctx.add(connection, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) < 0:
                close(fd)
                connection.fd = -1
                connection.release_in()
                self._uncount(connection)
                continue
            self.open_connections += 1
            listener.counters.open += 1
            self.ctx.counters.connections += 1
            self.ctx.connections += 1
            connection.writable = True
            if listener.proxies is not None:
                connection.state = DOWN_PROXY
            elif listener.tls is not None:
                connection._begin_tls()
                continue
            else:
                connection.state = DOWN_IDLE
            # A connection that says nothing at all is held to the same time as one that says too little.
            self.ctx.arm(&connection.timer, listener.client_header, TIMER_HEADER)
            if got > 0:
                connection._run()
            elif got == -1:
                connection.release_in()
            else:
                # End, error, or no buffer: the run loop meets it again and knows what to do.
                connection.readable = True
                connection._run()
        return ACCEPTS_PER_WAKE

    cdef bint _admit(self, ClientConnection connection) noexcept:
        """Count a connection for its client; False: that client has as many as it may."""
        cdef uint32_t most = self.listener.max_connections_per_client
        cdef bytes key
        cdef object count
        if not most or not connection.peer.known:
            return True
        key = (<char *>connection.peer.bytes)[:16]
        count = self.per_client.get(key, 0)
        if count >= most:
            return False
        self.per_client[key] = count + 1
        connection.counted = True
        return True

    cdef void closed(self, ClientConnection connection) noexcept:
        self.open_connections -= 1
        self.listener.counters.open -= 1
        self.ctx.counters.connections -= 1
        self.ctx.connections -= 1
        self._uncount(connection)
        self.ctx.progress()

    cdef void handshake_over(self) noexcept:
        self.handshakes -= 1
        if self.paused and self.handshakes + 1 == self.listener.max_handshakes and self.listener.fd >= 0:
            self._resume()

    cdef void _uncount(self, ClientConnection connection) noexcept:
        cdef bytes key
        cdef object count
        if not connection.counted:
            return
        connection.counted = False
        key = (<char *>connection.peer.bytes)[:16]
        count = self.per_client.get(key, 0)
        if count <= 1:
            self.per_client.pop(key, None)
        else:
            self.per_client[key] = count - 1


cdef class ClientConnection(Connection):
    def __cinit__(self, Context ctx, Acceptor acceptor):
        self.ctx = ctx
        self.reactor = ctx
        self.acceptor = acceptor
        self.timer.owner = <PyObject *>self
        self.write_timer.owner = <PyObject *>self
        self.state = DOWN_CLOSED

    def __dealloc__(self):
        if self.ctx is not None:
            self.ctx.disarm(&self.timer)
            self.ctx.disarm(&self.write_timer)
        free(self.told)

    # -- who it is ----------------------------------------------------------------------------------------------

    cdef void _name_peer(self) noexcept:
        if self.peer.known:
            self.peer_length = <uint8_t>address_format(&self.peer, self.peer_text)
        else:
            memcpy(self.peer_text, b"unix", 4)
            self.peer_length = 4

    cdef bint _introduced(self) noexcept:
        """Read the PROXY protocol header. False: not yet, or the connection is closed."""
        cdef ProxyHeader header
        cdef Acceptor acceptor = self.acceptor
        cdef int taken = proxy_take(self, &header)
        if taken == 0:
            return False
        if taken < 0:
            if taken != -PROXY_CUT or self.inbuf != NULL and self.in_end:
                report_refused(self.ctx, acceptor.listener, self.peer_text, self.peer_length, -taken)
            # else: it ended before it began, as the checks of many a balancer do.
            self._close()
            return False
        if header.relayed:
            self.told = <ProxyHeader *>malloc(sizeof(ProxyHeader))
            if self.told == NULL:
                self._close()
                return False
            self.told[0] = header
            self.peer = header.source
            self._name_peer()
        if not acceptor._admit(self):
            self.ctx.counters.refused_connections += 1
            self._close()
            return False
        self.state = DOWN_IDLE
        # What the client itself has to say has all of its time.
        self.ctx.arm(&self.timer, acceptor.listener.client_header, TIMER_HEADER)
        return True

    cdef void ends(self, ProxyHeader *out) noexcept:
        if self.told != NULL:
            out[0] = self.told[0]
        else:
            socket_ends(self.fd, out)

    # -- events -------------------------------------------------------------------------------------------------

    cdef void on_events(self, uint32_t events) noexcept:
        cdef int sent
        if self.tls is not None:
            self.tls.drained = False
            if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                self.tls.ended = True
                if events & (EPOLLHUP | EPOLLERR):
                    self.tls.closed = True          # nobody is there to be told
            if self.state == DOWN_TLS:
                self.hung_up = self.tls.ended
                self._shake(False)
                return
        if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self.hung_up = True
            if self.x is not None and self.x.active and not self.x.tunnel and self.state != DOWN_LINGER:
                if events & (EPOLLHUP | EPOLLERR) or not self.acceptor.listener.allow_half_close:
                    # FIN while a request is in flight: nobody waits for the answer any more.
                    self.x.client_gone(KIND_CLIENT_GONE)
                    self._close()
                    return
        if events & EPOLLOUT and not self.writable and self.state != DOWN_CLOSED:
            self.writable = True
            sent = self.flush()
            if sent == SEND_BROKEN:
                self._broken()
                return
            if sent == 1:
                self.ctx.disarm(&self.write_timer)
            else:
                self._stalled()
            if self.x is not None and self.x.active:
                if sent == 1:
                    self.x.client_writable()
            elif sent == 1 and self.state == DOWN_LINGER:
                self._linger()
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR) and self.state != DOWN_CLOSED:
            self.readable = True
            self._run()

    cdef void _broken(self) noexcept:
        if self.x is not None and self.x.active:
            self.x.client_gone(KIND_CLIENT_GONE)
        self._close()

    cdef void on_timer(self, int kind) noexcept:
        if kind == TIMER_WRITE:
            if 0 <= self._queued() < self.stalled_at:
                # The kernel holds less than it did: the client reads, only slower than the send buffer drains to the mark
                # below which the kernel calls a socket writable (a third of megabytes).
                self._stalled()
                return
            if self.x is not None and self.x.active:
                self.x.client_gone(KIND_SLOW_CLIENT)
            self._reset()
        elif kind == TIMER_HEADER:
            if self.x is None:
                if self.state == DOWN_PROXY:
                    report_refused(self.ctx, self.acceptor.listener, self.peer_text, self.peer_length, PROXY_TIMEOUT)
                self._close()           # not one byte of a request: nothing to answer
            else:
                self._timed_out(b"the request's head did not arrive in time")
        elif kind == TIMER_BODY:
            if self.x is not None and self.x.active:
                self._timed_out(b"the request's body did not arrive in time")
        else:
            self._close()

    cdef void _timed_out(self, const char *reason) noexcept:
        self.x.reject(KIND_CLIENT_TIMEOUT, 408, reason)

    cdef void on_ready(self) noexcept:
        if self.shake_waits:
            self.shake_waits = False
            self.ctx.shakes_waiting -= 1
            if self.state == DOWN_TLS:
                self._shake(True)
                return
        if self.state != DOWN_CLOSED:
            self._run()

    cdef void resume(self) noexcept:
        """The backend can take more of the body."""
        if self.processing:
            self.again = True
            # Asked from within our own call (the backend was connected at once): offer what is in hand right away.
            if self.state == DOWN_BODY:
                self._body()
            return
        self._run()

    # -- TLS ----------------------------------------------------------------------------------------------------

    cdef void _begin_tls(self) noexcept:
        """The connection is accepted (and has said who is behind it, where that is asked for): now TLS."""
        cdef Listener listener = self.acceptor.listener
        cdef int one = 1
        # TLS says things of its own in between: an answer would wait 40 ms for the acknowledgement of the tickets before it.
        setsockopt(self.fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one))
        self.state = DOWN_TLS
        self.acceptor.handshakes += 1
        self.ctx.arm(&self.timer, listener.handshake, TIMER_HANDSHAKE)
        try:
            self.tls = self.ctx.begin_tls(listener.tls, True, None, None)
        except BaseException as exception:
            self.ctx.error("the TLS context of a listener", exception)
            self._close()
            return
        self._shake(False)

    cdef void _shake(self, bint waited) noexcept:
        """Go on with the handshake, now or when it is this connection's turn."""
        cdef int outcome
        if not self.ctx.may_shake(self, waited):
            self.shake_waits = True
            return
        outcome = self.ctx.shake(self.tls, self.fd)
        if outcome == TLS_WAIT:
            if self.tls.unsent is not None and self.tls.push(self.fd) < 0:
                self._close()
            return
        self.acceptor.handshake_over()
        self._shaken(outcome)

    cdef void _shaken(self, int outcome) noexcept:
        """The handshake is over."""
        cdef Tls tls = self.tls
        self.state = DOWN_IDLE
        if outcome == TLS_DONE:
            if not self._identify():
                self._close()
                return
            tls.session_object = None       # nobody asks any more, and ten thousand idle ones are many
            self.writable = tls.unsent is None
            self.readable = tls.more()
        elif outcome == TLS_PLAIN:
            # nginx has the status 497 for it: one answer tells what is wrong, in the language that is spoken.
            self.inbuf = tls.raw
            self.in_pos = 0
            self.in_end = tls.raw_end
            tls.raw = NULL
            self.tls = None
            self.plain_on_tls = True
            self.readable = True
        elif outcome == TLS_FAILED:
            self._tell_failed()
            # The alert must not be overtaken by a reset.
            self.state = DOWN_LINGER
            self.lingered = 0
            self._linger()
            return
        else:
            self._close()
            return
        self.ctx.arm(&self.timer, self.acceptor.listener.client_header, TIMER_HEADER)
        self._run()

    cdef void _tell_failed(self) noexcept:
        """Who sets clients up needs to know why they are refused; who scans the port may not fill the log."""
        cdef Listener listener = self.acceptor.listener
        if listener.handshakes_said and self.ctx.now - listener.handshakes_said < HANDSHAKES_SAID_EVERY_NS:
            listener.handshakes_failed += 1
            return
        try:
            more = f" (and {listener.handshakes_failed} more since the last such line)" if listener.handshakes_failed else ""
            logger.info("listener %s: no TLS with %s: %s%s", listener.bind, (<bytes>self.peer_text[:self.peer_length]).decode("latin-1"),
                        self.tls.reason.decode(), more)
        except BaseException as exception:
            self.ctx.error("the line of a failed handshake", exception)
        listener.handshakes_said = self.ctx.now
        listener.handshakes_failed = 0

    cdef bint _identify(self) noexcept:
        """Who is it? False: there is no telling, so it is not served."""
        cdef object identify = self.acceptor.listener.identify
        if identify is None:
            return True
        try:
            self.tls.identity, self.tls.identity_lines = identify(self.tls.session_object)
            return True
        except BaseException as exception:
            self.ctx.error("identify", exception)
            return False

    # -- reading ------------------------------------------------------------------------------------------------

    cdef void _run(self) noexcept:
        """Read and work until there is nothing to read, nothing may be read, or others should have their turn."""
        cdef int64_t got
        cdef int64_t moved = 0
        if self.processing:
            self.again = True
            return
        self.processing = True
        while self.state != DOWN_CLOSED:
            self.again = False
            if self.state == DOWN_LINGER:
                self._drain_input()
                break
            if not self._process():
                if self.again and self.state != DOWN_CLOSED and self.state != DOWN_WAIT:
                    continue
                break
            if not self.readable:
                if self.state == DOWN_IDLE:
                    self.release_in()
                else:
                    self._wait_for_client()
                break
            if moved >= TURN_BYTES:
                self.ctx.make_ready(self)
                break
            if not self._make_room():
                break
            if self.state == DOWN_IDLE and self.ctx.spare_count:
                prefetch(self.ctx.spare[self.ctx.spare_count - 1], EXCHANGE_BYTES)
            got = self.receive(SMALL_BUFFER)
            if got > 0:
                moved += got
            elif got == -1:
                if self.state == DOWN_IDLE:
                    self.release_in()
                else:
                    self._wait_for_client()
                break
            elif got == -3:
                self._overloaded()
            else:
                self._end_of_input(got == 0)
                break
        self.processing = False

    cdef void _overloaded(self) noexcept:
        """Over the cap on buffers: not even the request can be read, so there is no exchange to answer it."""
        cdef const char *answer = (b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 68\r\n"
                                   b"Retry-After: 1\r\nConnection: close\r\n\r\n"
                                   b'{"error": "Service Unavailable", "reason": "overloaded: no buffers"}')
        if self.state == DOWN_IDLE and self.fd >= 0:
            # A request that could not even be read is one as well, or the counters would not add up.
            self.ctx.counters.requests += 1
            self.ctx.counters.kind[<int>KIND_OVERLOADED] += 1
            self.ctx.counters.status[5] += 1
            self.acceptor.listener.counters.status[5] += 1
            self._send_now(answer, strlen(answer), NULL, 0)
            self.state = DOWN_LINGER
            self.lingered = 0
            self._linger()
        else:
            self._broken()

    cdef void _wait_for_client(self) noexcept:
        """More of the request is needed, and the client has not sent it yet."""
        cdef Listener listener = self.acceptor.listener
        if self.state == DOWN_BODY and self.in_framing != FRAMING_TUNNEL:
            if self.payload_pos == self.payload_end:
                self.ctx.arm(&self.timer, listener.client_body, TIMER_BODY)

    cdef bint _make_room(self) noexcept:
        """Space in inbuf for the next read. False: there is none for now, or the request was refused."""
        cdef uint32_t size
        cdef Buffer *grown
        if self.inbuf == NULL:
            return True
        if self.state == DOWN_BODY:
            if self.payload_pos == self.payload_end and self.in_pos == self.in_end:
                # Everything was sent. Keep it for a replay while there is room, else begin again behind the head.
                if self.inbuf.capacity - self.in_end < 2048 or self.body_lost:
                    if self.in_end > self.body_start:
                        self.body_lost = True
                    self.payload_pos = self.payload_end = self.in_pos = self.in_end = self.body_start
                    if self.inbuf.capacity - self.body_start < 2048:
                        return self._grow(self.inbuf.capacity * 2, True)
            return self.in_end < self.inbuf.capacity
        if self.in_end < self.inbuf.capacity:
            return True
        if self.in_pos:
            # Unparsed bytes of a head to the front; spans are relative to where the head begins, so they stay right.
            size = self.in_end - self.in_pos
            memmove(self.inbuf.data, self.inbuf.data + self.in_pos, size)
            self.in_pos = self.head_start = 0
            self.in_end = size
            if self.x is not None:
                self.x.request.base = self.inbuf.data
            return True
        # The head is larger than the buffer; the codec refuses it once it is over its limit.
        return self._grow(self.inbuf.capacity * 2, True)

    cdef bint _grow(self, size_t size, bint required) noexcept:
        cdef Buffer *grown = buffer_acquire(&self.ctx.buffers, size)
        if grown == NULL:
            if not required:
                return False
            if self.x is not None:
                self.x.reject(KIND_OVERLOADED, 503, b"no buffer left")
            else:
                self._close()
            return False
        memcpy(grown.data, self.inbuf.data, self.in_end)
        buffer_release(&self.ctx.buffers, self.inbuf)
        self.inbuf = grown
        if self.x is not None:
            self.x.request.base = grown.data + self.head_start
        return True

    cdef bint _process(self) noexcept:
        """Work on what is in inbuf. True: more bytes are wanted."""
        cdef int length
        cdef Exchange x
        while True:
            if self.state == DOWN_IDLE:
                if self.in_pos == self.in_end:
                    return True
                x = exchange_acquire(self.ctx)
                if x is None:
                    self._close()
                    return False
                x.peer = self.peer
                x.peer_text = self.peer_text
                x.peer_length = self.peer_length
                x.tls = self.tls
                x.begin(self, self.acceptor.listener)
                self.x = x
                self.exchange = x
                self.state = DOWN_HEAD
            if self.state == DOWN_HEAD:
                x = self.x
                length = parse_request(&x.request, self.inbuf.data + self.in_pos, self.in_end - self.in_pos, &self.acceptor.listener.limits)
                if length == 0:
                    self.head_start = self.in_pos
                    if self.timer.kind != TIMER_HEADER or self.timer.suspended:
                        # A head is held to one time from its first bytes on, however slowly the rest comes (slowloris).
                        self.ctx.arm(&self.timer, self.acceptor.listener.client_header, TIMER_HEADER)
                    return True
                if length < 0:
                    self._refuse(-length, x.request.error)
                    return self.state == DOWN_IDLE
                self.ctx.suspend(&self.timer)
                self.in_pos += <uint32_t>length
                self._begin_body()
                if self.state == DOWN_CLOSED:
                    return False
                if self.hung_up and not self.acceptor.listener.allow_half_close:
                    # FIN came with the request, before it was in flight: nobody waits for the answer, so nothing is sent.
                    x._identify()
                    x.client_gone(KIND_CLIENT_GONE)
                    self._close()
                    return False
                if self.plain_on_tls:
                    x.reject(KIND_BAD_REQUEST, 400, b"plain HTTP on a port for HTTPS: use https://")
                    continue
                x.request_head()
                # The exchange may be over by now: answered by ourselves, or refused.
                continue
            if self.state == DOWN_BODY:
                return self._body()
            if self.state == DOWN_PROXY and self._introduced():
                if self.acceptor.listener.tls is None:
                    continue
                self._begin_tls()
            return False

    cdef void _begin_body(self) noexcept:
        """The head is complete: set up for its body."""
        cdef Head *head = &self.x.request
        self.in_framing = head.framing
        self.head_start = self.in_pos - head.length
        self.body_start = self.payload_pos = self.payload_end = self.in_pos
        self.body_lost = False
        self.trailer_size = 0
        self.out_total = 0
        self.interim = False
        self.end_output = False
        self.chunk_left = 0
        if head.framing == FRAMING_NONE:
            self.body_complete = True
            self.state = DOWN_WAIT
            return
        self.body_complete = False
        self.state = DOWN_BODY
        if head.framing == FRAMING_LENGTH:
            self.remaining = <uint64_t>head.content_length
            if self.inbuf.capacity < LARGE_BUFFER and head.content_length > self.inbuf.capacity - self.in_pos:
                # A body that does not fit: fewer and larger reads.
                self._grow(LARGE_BUFFER, False)
            if self.readable and self.remaining > self.in_end - self.in_pos:
                self._read_ahead()
        else:
            chunk_init(&self.chunks)

    cdef void _read_ahead(self) noexcept:
        """What the kernel holds of the body already goes to the backend with the head, in one write."""
        cdef int64_t got = self.receive(SMALL_BUFFER)
        if got == 0 or got == -2:
            self.readable = True        # end or error: the run loop meets it again and knows what to do

    cdef bint _body(self) noexcept:
        """Decode and offer body bytes. True: more are wanted from the client."""
        cdef Exchange x = self.x
        cdef size_t available, payload
        cdef int64_t consumed, taken
        cdef bint last
        while self.state == DOWN_BODY:
            if self.payload_pos < self.payload_end:
                last = self.body_complete and self.trailer_size == 0
                taken = x.request_body(self.inbuf.data + self.payload_pos, self.payload_end - self.payload_pos, last)
                if self.x is not x or not x.active or self.state != DOWN_BODY:
                    return False
                self.payload_pos += <uint32_t>taken
                if self.payload_pos < self.payload_end:
                    self.ctx.suspend(&self.timer)
                    return False        # the backend is slow, or not connected yet
                continue
            if self.body_complete:
                self.ctx.suspend(&self.timer)
                if x.request_done or x.request_end(self.trailer, self.trailer_size):
                    if self.x is x and self.state == DOWN_BODY:
                        self.state = DOWN_WAIT
                return False
            available = self.in_end - self.in_pos
            if self.in_framing == FRAMING_LENGTH and self.remaining == 0:
                self.body_complete = True
                continue
            if available == 0:
                # Not read for the time being while the request waits in the queue, nor waited for.
                return x.place.line == NULL
            if self.in_framing == FRAMING_CHUNKED:
                if self.trailer == NULL:
                    self.trailer = <char *>malloc(TRAILER_CAPACITY)
                    if self.trailer == NULL:
                        x.reject(KIND_OVERLOADED, 503, b"out of memory")
                        return False
                payload = 0
                consumed = chunk_decode(&self.chunks, self.inbuf.data + self.in_pos, available, &payload, self.trailer, TRAILER_CAPACITY,
                                        &self.trailer_size)
                if consumed < 0:
                    x.reject(KIND_BAD_REQUEST, 400, parse_error_text(self.chunks.error))
                    return False
                if payload and self.in_pos > self.payload_end:
                    memmove(self.inbuf.data + self.payload_end, self.inbuf.data + self.in_pos, payload)
                self.payload_end += <uint32_t>payload
                self.in_pos += <uint32_t>consumed
                if self.chunks.done:
                    self.body_complete = True
                elif self.in_pos == self.in_end:
                    # Framing bytes leave a gap behind the payload: the next read begins there.
                    self.in_pos = self.in_end = self.payload_end
                continue
            if self.in_framing == FRAMING_LENGTH:
                if available >= self.remaining:
                    available = self.remaining
                    self.body_complete = True
                self.remaining -= available
            self.in_pos += <uint32_t>available
            self.payload_end = self.in_pos
        return False

    cdef bint rewind(self) noexcept:
        if self.in_framing == FRAMING_TUNNEL:
            return False
        if self.body_lost:
            return False
        self.payload_pos = self.body_start
        if self.in_framing != FRAMING_NONE and self.state == DOWN_WAIT:
            self.state = DOWN_BODY
        if self.x is not None:
            self.x.request_done = self.in_framing == FRAMING_NONE
            self.x.bytes_received = 0
        return True

    cdef void skip_body(self) noexcept:
        self.payload_pos = self.payload_end
        if self.state == DOWN_BODY:
            self.state = DOWN_WAIT

    cdef void _refuse(self, int status, uint8_t error) noexcept:
        """The head is malformed, or more than we take."""
        cdef int kind = KIND_BAD_REQUEST
        if status == 414:
            kind = KIND_URI_TOO_LONG
        elif status == 431:
            kind = KIND_HEAD_TOO_LARGE
        elif status == 501:
            kind = KIND_NOT_IMPLEMENTED
        elif status == 505:
            kind = KIND_VERSION_NOT_SUPPORTED
        elif status == 405:
            kind = KIND_METHOD_NOT_ALLOWED
        self.in_framing = FRAMING_NONE
        self.out_total = 0
        self.x.request.base = self.inbuf.data + self.in_pos
        self.x.reject(kind, status, parse_error_text(error))

    cdef void _end_of_input(self, bint clean) noexcept:
        """FIN (clean) or a broken connection."""
        if self.state == DOWN_BODY and self.in_framing == FRAMING_TUNNEL and clean:
            # Half-close passes through a tunnel.
            self.state = DOWN_WAIT
            self.body_complete = True
            self.x.request_end(NULL, 0)
            return
        if self.x is not None and self.x.active:
            self.x.client_gone(KIND_CLIENT_GONE)
        self._close()

    # -- responses ----------------------------------------------------------------------------------------------

    cdef int send_response(self, Head *head, const Answer *answer) noexcept:
        cdef int64_t written
        if self.reserve_out(head.length + 512 + answer.extra_length) < 0:
            return SEND_BROKEN
        written = write_response(self.outbuf.data + self.out_end, self.outbuf.capacity - self.out_end, head, answer)
        if written < 0:
            return SEND_BROKEN
        self.out_end += <uint32_t>written
        self.out_framing = answer.framing
        self.interim = head.status < 200 and head.status != 101
        return 0

    cdef int64_t send_body(self, const char *data, size_t size, bint last) noexcept:
        cdef int64_t taken = Connection.send_body(self, data, size, last)
        if not self.writable and taken >= 0:
            # The client reads slowly. Its time runs from the last byte it took.
            if taken > 0 or self.write_timer.queue == NULL:
                self._stalled()
        elif self.write_timer.queue != NULL:
            self.ctx.disarm(&self.write_timer)
        return taken

    cdef int64_t splice_body(self, int pipe_fd, size_t size) noexcept:
        cdef int64_t taken = Connection.splice_body(self, pipe_fd, size)
        if not self.writable and taken >= 0:
            if self.write_timer.queue == NULL:
                self._stalled()
        elif self.write_timer.queue != NULL:
            self.ctx.disarm(&self.write_timer)
        return taken

    cdef int _queued(self) noexcept:
        """Bytes that the kernel holds for the client; -1 when it does not say."""
        cdef int queued = -1
        return queued if ioctl(self.fd, SIOCOUTQ, &queued) == 0 else -1

    cdef void _stalled(self) noexcept:
        """The client's side takes no more: it has client_write from here on to take some of it."""
        self.ctx.arm(&self.write_timer, self.acceptor.listener.client_write, TIMER_WRITE)
        self.stalled_at = self._queued()

    cdef int flush(self) noexcept:
        cdef int sent = Connection.flush(self)
        if sent == 1 and self.interim:
            # A message of its own, and complete: of the final answer nothing is out yet (discard_unsent).
            self.interim = False
            self.out_total = 0
        if sent == 0 and self.write_timer.queue == NULL:
            self._stalled()
        return sent

    cdef void send_local(self, int status, const char *fields, const char *content_type, const char *body, size_t size, bint close) noexcept:
        # What stands around the parts is shorter than this, the longest reason phrase included.
        cdef size_t room = 512
        cdef char on_stack[1024]
        cdef char *head
        cdef const char *connection = b""
        cdef const char *allow = b""
        cdef const char *hsts = b""
        cdef bint buffered
        cdef int length
        if close:
            connection = b"Connection: close\r\n"
        elif self.x.request.minor_version == 0:
            connection = b"Connection: keep-alive\r\n"
        if fields == NULL:
            fields = b""
        if status == 405:
            allow = b"Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n"
        if self.tls is not None and self.acceptor.listener.hsts is not None:
            hsts = self.acceptor.listener.hsts
        room += strlen(fields) + strlen(content_type) + strlen(hsts)
        buffered = self.reserve_out(room + size) == 0
        if not buffered and room > sizeof(on_stack):
            self._close()
            return
        head = self.outbuf.data + self.out_end if buffered else on_stack
        length = snprintf(head, room, b"HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s%s%s\r\n", status,
                          status_text(status), self.ctx.date(), content_type, size, fields, allow, hsts, connection)
        if self.x.request.method == METHOD_HEAD:
            size = 0
        self.out_framing = FRAMING_NONE
        if not buffered:
            # Over the cap on buffers, which may be just what is to be said.
            if not self._send_unbuffered(head, length, body, size):
                self._close()
            return
        self.out_end += <uint32_t>length
        if size:
            memcpy(self.outbuf.data + self.out_end, body, size)
            self.out_end += <uint32_t>size
        if self.flush() == SEND_BROKEN:
            # No event will come any more, and nobody else looks at what is left in outbuf.
            self._close()

    cdef bint _send_unbuffered(self, const char *head, size_t head_size, const char *body, size_t size) noexcept:
        """A short answer without a buffer: the socket takes all of it at once, or the client gets none."""
        if self.fd < 0 or self.outbuf != NULL or not self.writable:
            return False
        return self._send_now(head, head_size, body, size)

    cdef bint _send_now(self, const char *head, size_t head_size, const char *body, size_t size) noexcept:
        cdef iovec parts[2]
        parts[0].iov_base = <void *>head
        parts[0].iov_len = head_size
        parts[1].iov_base = <void *>body
        parts[1].iov_len = size
        return self._write(parts, 2 if size else 1) == <int64_t>(head_size + size)

    cdef void begin_tunnel(self) noexcept:
        self.in_framing = FRAMING_TUNNEL
        self.out_framing = FRAMING_TUNNEL
        self.body_complete = False
        self.body_lost = True
        self.trailer_size = 0
        self.payload_pos = self.payload_end = self.in_pos
        self.state = DOWN_BODY
        self.ctx.disarm(&self.timer)
        # What the client sent behind its upgrade request belongs to the tunnel, and may already be here.
        self.ctx.make_ready(self)

    # -- the end of an exchange ---------------------------------------------------------------------------------

    cdef void _drop_exchange(self) noexcept:
        cdef Exchange x = self.x
        self.x = None
        self.exchange = None
        if self.trailer != NULL:
            free(self.trailer)
            self.trailer = NULL
            self.trailer_size = 0
        if x is not None:
            x.release()

    cdef bint _says_no_more(self) noexcept:
        """Has the client said that this was its last request, and sent nothing behind it? Then nothing will come that could
        make a reset of the close (RFC 9112, 9.6), and shutdown() and a recv() to wait for its end are for nothing. After
        a body it is waited for nevertheless: some clients send a line end that does not belong to it."""
        return (self.state == DOWN_WAIT and self.x is not None and not self.x.request.flags & HEAD_KEEP_ALIVE
                and self.in_framing == FRAMING_NONE and self.in_pos == self.in_end and not self.readable and self.tls is None)

    cdef void complete(self, bint keep) noexcept:
        cdef bint silent
        if self.state == DOWN_CLOSED:
            self._drop_exchange()
            self.release_in()
            return
        if keep and not self.half_closed and self.body_complete:
            self._drop_exchange()
            self._next_request()
            return
        silent = self._says_no_more()
        self._drop_exchange()
        if silent and self.all_sent():
            self._close()
            return
        self.ctx.suspend(&self.timer)
        self.state = DOWN_LINGER
        self.lingered = 0
        if self.all_sent():
            self._linger()
        # else: what is left of the answer goes out first (write_timer runs).

    cdef void _next_request(self) noexcept:
        self.state = DOWN_IDLE
        self.served = True
        self.ctx.arm(&self.timer, self.acceptor.listener.client_idle, TIMER_IDLE)
        if self.in_pos == self.in_end:
            self.release_in()
        if self.hung_up:
            self.readable = True
        if self.processing:
            self.again = True
        elif self.in_pos < self.in_end or self.readable:
            # A pipelined request. Not from here: answers in a row would nest.
            self.ctx.make_ready(self)
        elif self.ctx.closing_idle:
            self._close()

    cdef void _linger(self) noexcept:
        """The last answer is out: FIN, then read what the client is still sending, so that no reset overtakes the answer."""
        if self.hung_up:
            self._close()
            return
        if not self.half_closed:
            if self.end_writing() < 0:
                self._close()
                return
        self.release_in()
        self.ctx.arm(&self.timer, self.ctx.linger, TIMER_LINGER)
        if self.processing:
            self.again = True
        else:
            self.readable = True
            self._drain_input()

    cdef void _drain_input(self) noexcept:
        cdef char waste[16384]
        cdef ssize_t got
        if not self.half_closed:
            return          # the answer is not out yet
        while self.readable:
            got = recv(self.fd, waste, sizeof(waste), 0)
            if got > 0:
                self.lingered += <uint32_t>got
                if self.lingered > LINGER_BYTES:
                    self._close()
                    return
                continue
            if got < 0 and errno == EINTR:
                continue
            if got < 0 and errno == EAGAIN:
                self.readable = False
                return
            self._close()
            return

    cdef void abort(self) noexcept:
        """The client must see that the answer is incomplete. One that ends with the connection would look whole after FIN: reset."""
        if self.out_framing == FRAMING_CLOSE or self.out_framing == FRAMING_TUNNEL:
            self._reset()
        else:
            self._close()

    cdef void _reset(self) noexcept:
        self.reset_on_close()
        self._close()

    cdef void cut_off(self) noexcept:
        """The drain's deadline has come. Nobody waits for the client to read an answer of ours, or to send the rest."""
        if self.x is not None and self.x.active:
            self.x.cut_off()
        self._close()

    cdef void close_if_idle(self) noexcept:
        # One that has not had an answer yet is owed one: its request may be on the way.
        if self.state == DOWN_IDLE and self.in_pos == self.in_end and self.served:
            self._close()

    cdef void _close(self) noexcept:
        cdef Buffer *head = NULL
        if self.state == DOWN_CLOSED:
            return
        if self.state == DOWN_TLS:
            self.acceptor.handshake_over()
        self.state = DOWN_CLOSED
        self.ctx.disarm(&self.timer)
        self.ctx.disarm(&self.write_timer)
        if self.x is not None and self.x.active:
            # An exchange that is not over yet reads its head once more, for the log: complete() gives the buffer back.
            head = self.inbuf
            self.inbuf = NULL
        else:
            self._drop_exchange()
        self.shut()
        self.inbuf = head
        self.acceptor.closed(self)
