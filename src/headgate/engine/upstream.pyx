"""HTTP/1 to a backend: connect, send the request, read the response, keep the connection for the next one.

Idle connections stand on a LIFO stack per backend: the most recently used one is the least likely to be closed. A kept
connection is never used again when it is readable (bytes nobody asked for, or FIN) or older than the idle time learned for
this backend; what still goes wrong is the race of RFC 9112 section 9.3.1, reported as KIND_STALE.
"""
import logging

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove

from headgate.engine.buffers cimport LARGE_BUFFER, SMALL_BUFFER, Buffer, buffer_acquire, buffer_release
from headgate.engine.connection cimport Connection
from headgate.engine.context cimport (
    KIND_BAD_BODY, KIND_BAD_HEAD, KIND_CONNECT_FAILED, KIND_CONNECT_REFUSED, KIND_CONNECT_TIMEOUT, KIND_LOCAL_RESOURCE, KIND_OK,
    KIND_OVERLOADED, KIND_RESET, KIND_STALE, KIND_TLS_HANDSHAKE, KIND_TLS_VERIFY, KIND_TRUNCATED, Context,
)
from headgate.engine.head cimport FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH, FRAMING_NONE, FRAMING_TUNNEL, HEAD_IDEMPOTENT, HEAD_KEEP_ALIVE, Head
from headgate.engine.http1 cimport (
    Forward, Limits, chunk_decode, chunk_init, head_reset, parse_response, write_request,
)
from headgate.engine.libc_net cimport (
    AF_INET, AF_INET6, EAGAIN, EINTR, EINVAL, ENOSYS, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, splice, EADDRNOTAVAIL, ECONNREFUSED, EINPROGRESS, EMFILE, ENFILE, ENOBUFS, ENOENT, ENOMEM, EPOLLERR, EPOLLET, EPOLLHUP,
    EPOLLIN, EPOLLOUT, EPOLLRDHUP, MSG_DONTWAIT, MSG_PEEK, SO_ERROR, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SOL_TCP,
    TCP_NODELAY, close, connect, errno, getpeername, getsockname, getsockopt, recv, setsockopt, sockaddr, sockaddr_storage, socket,
    socklen_t,
)
from headgate.engine.model cimport Backend
from headgate.engine.pipes cimport Pipe, pipe_acquire, pipe_release
from headgate.engine.prefetch cimport CONNECTION_BYTES, EXCHANGE_BYTES, FIELDS_BYTES, prefetch
from headgate.engine.proxied cimport prelude_send
from headgate.engine.stream cimport SEND_BROKEN, ExchangeBase, Stream
from headgate.engine.tls cimport TLS_DONE, TLS_GONE, TLS_NO_BUFFER, TLS_WAIT, Tls
from headgate.engine.waiting cimport NO_PLACE, give_connection, take_connection

logger = logging.getLogger("headgate.engine")

cdef enum:
    TIMER_CONNECT = 1
    TIMER_KEEPALIVE
    # Response heads: what nginx and HAProxy take at most with default buffers is 16 KiB or less; applications with large
    # cookies exceed that, so the limit is the same as for requests, with room for one more header line block.
    RESPONSE_HEAD = 65536
    TRAILER_CAPACITY = 8192
    # One connection may move so much before others have their turn (fairness within a batch).
    TURN_BYTES = 262144
    # Below this, two system calls and a pipe cost more than the copy they save.
    SPLICE_LEAST = 32768
    SPLICE_MOST = 262144

# A backend that fails every handshake is told of once a minute, not with every request.
cdef int64_t TLS_SAID_EVERY_NS = 60000000000

cdef Limits _RESPONSE_LIMITS
_RESPONSE_LIMITS.head = RESPONSE_HEAD
_RESPONSE_LIMITS.request_line = 16384
_RESPONSE_LIMITS.headers = 250          # the exchange's field array is as long; applications set more headers than clients do

cdef int _connect_kind(int error) noexcept:
    """errno of a failed connect -> Kind."""
    if error == ECONNREFUSED or error == ENOENT:
        return KIND_CONNECT_REFUSED
    if error == EMFILE or error == ENFILE or error == ENOMEM or error == ENOBUFS or error == EADDRNOTAVAIL:
        return KIND_LOCAL_RESOURCE
    return KIND_CONNECT_FAILED


cdef BackendConnection take_idle(Backend backend, Context ctx, bint repeatable, bint any_age):
    """The idle connection to use, or None.

    repeatable: the request may be sent again if the connection turns out to be dead. Otherwise the connection must have been
    used within half of the learned idle time (1 s while it is unknown), since nobody may repeat a POST.
    any_age: no fresh connection can be had (no ports, no descriptors), so take what there is.
    """
    cdef BackendConnection connection
    cdef int64_t age, limit = backend.learned_idle
    if repeatable:
        # A tenth below what was learned, since the backend's clock started before ours.
        limit = limit - limit // 10 if limit else 0
    else:
        limit = limit // 2 if limit else 1000000000
    while backend.idle != NULL:
        connection = <BackendConnection><object>backend.idle
        age = ctx.now - connection.idle_since
        if limit and age > limit and not any_age:
            # Those below it in the stack are older still. They stay until the backend closes them: that is how a time
            # that was learned too short (from a restart, say) is corrected. And this one is still open beyond it.
            if backend.learned_idle and age > backend.learned_idle and not connection.hung_up:
                backend.learn_idle(age, False)
            return None
        connection._pop_idle()
        connection.state = UP_HEAD
        connection.idle_age = age
        ctx.suspend(&connection.timer)
        if connection.hung_up or (not repeatable and connection._unread()):
            # FIN, or bytes nobody asked for, whose event is still to come. The look costs a system call, so only requests
            # that could not be repeated pay for it.
            backend.learn_idle(age, False)
            connection._close()
            continue
        return connection
    return None


cdef class BackendConnection(Connection):
    def __cinit__(self, Context ctx):
        self.ctx = ctx
        self.reactor = ctx
        self.timer.owner = <PyObject *>self

    def __dealloc__(self):
        if self.ctx is not None:
            self.ctx.disarm(&self.timer)
        free(self.prelude)

    def drop(self) -> None:
        """Close an idle connection (Backend.close_idle)."""
        self._close()

    # -- connecting ---------------------------------------------------------------------------------------------

    cdef int start(self, Backend backend) noexcept:
        cdef int kind
        self.backend = backend
        self.era = backend.era
        self.addresses_left = <uint32_t>len(backend._addresses)
        self.address_index = backend.preferred
        if self.addresses_left == 0:
            return KIND_CONNECT_FAILED          # its name has not been resolved yet
        if backend.max_connections and not take_connection(backend):
            return NO_PLACE
        self.open = True
        backend.counters.connections += 1
        kind = self._connect_next()
        if kind != KIND_OK:
            self._uncount()
        return kind

    cdef void _uncount(self) noexcept:
        if self.open:
            self.open = False
            self.backend.counters.connections -= 1
            if self.backend.max_connections:
                give_connection(self.backend)

    cdef int _connect_next(self) noexcept:
        """Begin to connect to the next address of the backend. 0, or the Kind of the last failure when none is left."""
        cdef bytes address
        cdef const sockaddr *target
        cdef int fd, kind = KIND_CONNECT_FAILED, one = 1, outcome
        cdef uint32_t count = <uint32_t>len(self.backend._addresses)
        while self.addresses_left:
            self.addresses_left -= 1
            if self.address_index >= count:
                self.address_index = 0
                if count == 0:
                    break
            address = <bytes>self.backend._addresses[self.address_index]
            target = <const sockaddr *><const char *>address
            fd = socket(target.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
            if fd < 0:
                return _connect_kind(errno)
            if target.sa_family == AF_INET or target.sa_family == AF_INET6:
                # The engine sends whole messages at once; Nagle would only hold the last segment back.
                setsockopt(fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one))
            outcome = connect(fd, target, <socklen_t>len(address))
            if outcome < 0 and errno != EINPROGRESS:
                kind = _connect_kind(errno)
                close(fd)
                self.address_index += 1
                if kind == KIND_LOCAL_RESOURCE:
                    return kind
                continue
            outcome = self.ctx.add(self, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
            if outcome < 0:
                close(fd)
                return KIND_LOCAL_RESOURCE
            self.state = UP_CONNECTING
            self.writable = self.readable = self.hung_up = False
            self.ctx.arm(&self.timer, self._connect_time(), TIMER_CONNECT)
            return KIND_OK
        return kind

    cdef TimerQueue *_connect_time(self) noexcept:
        """The pool's time to connect, or what is left for all attempts of the exchange to connect."""
        cdef TimerQueue *configured = self.backend.pool.connect
        cdef int64_t left = self.connect_until - self.ctx.now
        if configured != NULL and configured.duration <= left:
            return configured
        # In steps of a quarter second: each distinct duration is a queue of its own.
        return self.ctx.queue((left // 250000000 + 1) * 0.25)

    cdef void _connect_failed(self, int kind) noexcept:
        """This address failed: the next one of the same backend, or the end of the attempt."""
        self.ctx.disarm(&self.timer)
        self.ctx.forget(self)
        self.address_index += 1
        # Whoever listened there is gone: what was learned of its idle time came from its end.
        self.backend.learned_idle = self.backend.proven_idle = 0
        if self.tls is not None:
            self.tls.drop(&self.ctx.buffers)
            self.tls = None
        if self.addresses_left and self.ctx.now < self.connect_until:
            kind = self._connect_next()
            if kind == KIND_OK:
                return
        self._fail(kind)

    cdef void _connected(self) noexcept:
        cdef int error = 0
        cdef socklen_t size = sizeof(error)
        cdef sockaddr_storage own, peer
        cdef socklen_t own_size = sizeof(own), peer_size = sizeof(peer)
        cdef sockaddr *name = <sockaddr *>&own
        if getsockopt(self.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 or error:
            self._connect_failed(_connect_kind(error))
            return
        if getsockname(self.fd, name, &own_size) == 0 and name.sa_family in (AF_INET, AF_INET6):
            # A loopback connect to a dead backend in the ephemeral port range can meet itself: that is a refusal.
            if getpeername(self.fd, <sockaddr *>&peer, &peer_size) == 0 and own_size == peer_size and memcmp(&own, &peer, own_size) == 0:
                self._connect_failed(KIND_CONNECT_REFUSED)
                return
        if self.prelude != NULL and not prelude_send(self.fd, self.prelude):
            self._connect_failed(KIND_CONNECT_FAILED)
            return
        if self.backend.tls is not None:
            self._begin_tls()
            return
        self._established()

    cdef void _established(self) noexcept:
        """Requests can be sent."""
        self.ctx.disarm(&self.timer)
        self.backend.preferred = self.address_index
        self.backend.counters.connects += 1
        self.writable = True
        self.state = UP_HEAD
        if self.exchange is None:
            self._close()
            return
        self.exchange.upstream_connected()

    # -- TLS ----------------------------------------------------------------------------------------------------

    cdef void _begin_tls(self) noexcept:
        """The handshake has the time that the connection had (as nginx has it)."""
        cdef Backend backend = self.backend
        cdef object session = None
        self.state = UP_TLS
        self.ctx.arm(&self.timer, self._connect_time(), TIMER_CONNECT)
        if backend.session is not None and backend.session_of[0] is backend.tls and backend.session_of[1] == backend.server_name:
            session = backend.session
        try:
            self.tls = self.ctx.begin_tls(backend.tls, False, backend.server_name or None, session)
        except BaseException as exception:
            # A name that no certificate can have, or no memory.
            backend.tls_error = str(exception).encode("ascii", "replace").replace(b'"', b"'").replace(b"\\", b"/")
            self._connect_failed(self._refused())
            return
        self._shake(False)

    cdef void _shake(self, bint waited) noexcept:
        cdef int outcome
        cdef Tls tls = self.tls
        if not self.ctx.may_shake(self, waited):
            self.shake_waits = True
            return
        outcome = self.ctx.shake(tls, self.fd)
        if outcome == TLS_WAIT:
            if tls.unsent is not None and tls.push(self.fd) < 0:
                outcome = TLS_GONE
            else:
                return
        if outcome == TLS_DONE:
            self.readable = tls.more()
            self._established()
            return
        if outcome == TLS_NO_BUFFER:
            self._connect_failed(KIND_LOCAL_RESOURCE)
            return
        self.backend.tls_error = tls.reason if tls.reason is not None else b"the connection ended during the handshake"
        self._connect_failed(self._refused())

    cdef int _refused(self) noexcept:
        """There is no TLS with this backend: the Kind, and a line in the log once a minute, since each request meets it again."""
        cdef Backend backend = self.backend
        cdef bint verify = self.tls is not None and self.tls.verify_failed
        if backend.tls_said == 0 or self.ctx.now - backend.tls_said > TLS_SAID_EVERY_NS:
            backend.tls_said = self.ctx.now
            try:
                logger.warning("backend %s of pool %s: %s: %s", backend.name, backend.pool.name,
                               "its certificate is not accepted" if verify else "no TLS with it", backend.tls_error.decode())
            except BaseException as exception:
                self.ctx.error("the warning of a failed handshake", exception)
        return KIND_TLS_VERIFY if verify else KIND_TLS_HANDSHAKE

    cdef bint _unread_tls(self) noexcept:
        """_unread() where what came may be for TLS alone (a ticket, a new key)."""
        cdef char byte
        self.tls.drained = False
        if self.tls.receive(self.fd, &self.ctx.buffers, &byte, 1) != -1:
            return True
        self.readable = False
        return False

    cdef void _keep_session(self) noexcept:
        """For the next handshake with this backend. Of TLS 1.3 it comes with the first answer (RFC 8446 section 4.6.1), so this is when it is asked for."""
        cdef Backend backend = self.backend
        self.tls.keep_session = False
        try:
            backend.session = self.tls.session_object.session
            backend.session_of = (self.tls.session_object.context, backend.server_name)
        except BaseException as exception:
            self.ctx.error("the TLS session of a backend", exception)

    # -- one exchange -------------------------------------------------------------------------------------------

    cdef void attach(self, ExchangeBase exchange, Stream down, Head *head, uint8_t method, uint16_t flags) noexcept:
        """Serve `exchange`; its response head is parsed into `head`."""
        self.exchange = exchange
        self.down = <void *>down
        self.head = head
        self.fields = head.fields
        self.attached_at = self.ctx.now
        head_reset(head)
        self.request_method = method
        self.request_flags = flags
        self.got_bytes = False
        self.send_broken = False
        self.never_sent = False
        self.no_splice = self.backend.tls is not None
        self.reusable = False
        self.out_total = 0
        self.chunk_left = 0
        self.end_output = False
        self.in_framing = FRAMING_NONE

    cdef void detach(self, bint keep) noexcept:
        """The exchange is over for this stream. `keep`: the request went out whole, so the connection may be used again."""
        self.exchange = None
        self.head = NULL
        if self.fd < 0:
            self._close()
            return
        if self.tls is not None and self.tls.keep_session:
            self._keep_session()
        if (keep and self.state == UP_HEAD and self.reusable and not self.hung_up and not self.send_broken and self.in_end == self.in_pos
                and self.all_sent() and self.backend.idle_count < self.backend.pool.keepalive and not self.ctx.draining
                and self.era == self.backend.era and not (self.readable and self._unread())):
            self.release_in()
            self._push_idle()
        else:
            self._close()

    cdef void abort(self) noexcept:
        self.exchange = None
        self.head = NULL
        if self.out_framing == FRAMING_TUNNEL and not self.half_closed:
            # In a tunnel FIN means "that is all": a backend must not take half of something for the whole.
            self.reset_on_close()
        self._close()

    cdef int send_request(self, Head *head, const Forward *forward) noexcept:
        cdef int64_t written
        # What the balancer adds at most: forwarded fields, Via, ids; addresses and hosts are bounded by the head itself.
        cdef size_t size = head.length + 1024 + forward.extra_length + forward.host_length
        if self.reserve_out(size) < 0:
            return SEND_BROKEN
        written = write_request(self.outbuf.data + self.out_end, self.outbuf.capacity - self.out_end, head, forward)
        if written < 0:
            # A head at the limit that grew: X-Forwarded-Host and Forwarded repeat Host. Three times its size always holds it.
            if self.reserve_out(size + 2 * head.length) < 0:
                return SEND_BROKEN
            written = write_request(self.outbuf.data + self.out_end, self.outbuf.capacity - self.out_end, head, forward)
            if written < 0:
                return SEND_BROKEN
        self.out_end += <uint32_t>written
        self.out_framing = forward.framing
        return 0

    cdef void write_failed(self) noexcept:
        """The backend does not read any more. It may have answered before it closed (an early 413): read before giving up."""
        self.send_broken = True
        self.never_sent = self.out_total == 0
        if self.fd >= 0:
            self.readable = True
            self.hung_up = True
            self.ctx.make_ready(self)

    cdef void begin_tunnel(self) noexcept:
        self.in_framing = FRAMING_TUNNEL
        self.out_framing = FRAMING_TUNNEL
        self.state = UP_BODY
        self.reusable = False

    # -- events -------------------------------------------------------------------------------------------------

    cdef void on_events(self, uint32_t events) noexcept:
        cdef ExchangeBase exchange
        if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self.hung_up = True
        if self.state == UP_CONNECTING:
            if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
                self._connected()
                if self.state == UP_HEAD and events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP) and self.fd >= 0:
                    self.readable = True
                    self._read()
            return
        if self.tls is not None:
            self.tls.drained = False
            self.tls.ended = self.hung_up
            if events & (EPOLLHUP | EPOLLERR):
                self.tls.closed = True              # nobody is there to be told
            if self.state == UP_TLS:
                self._shake(False)
                return
        if self.state == UP_IDLE:
            if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                if self.tls is not None and not self.hung_up and not self._unread_tls():
                    return
                self.backend.learn_idle(self.ctx.now - self.idle_since, False)
                self._close()
            return
        if events & EPOLLOUT and not self.writable:
            self.writable = True
            exchange = self.exchange
            if exchange is not None and not self.send_broken:
                if self.flush() == SEND_BROKEN:
                    self.send_broken = True
                if not self.send_broken or self.out_framing == FRAMING_TUNNEL:
                    # A tunnel's client offers its bytes again, and so learns that they have nowhere to go.
                    exchange.upstream_writable()
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self.readable = True
            if self.state == UP_HEAD and self.reused and self.attached_at == self.ctx.now and self.request_flags & HEAD_IDEMPOTENT:
                # The kernel had this to tell before the request was sent, so it is no answer to it: FIN, or surplus bytes.
                # Unless it was the end of the previous answer, which was read in the meantime. (For other requests
                # take_idle() has looked, and they may not be sent again on a mere suspicion.)
                if self._unread():
                    self._fail(KIND_STALE)
            elif self.state != UP_CLOSED:
                self._read()

    cdef void on_timer(self, int kind) noexcept:
        if kind == TIMER_CONNECT:
            self._connect_failed(KIND_CONNECT_TIMEOUT)
        else:
            self._close()

    cdef void on_ready(self) noexcept:
        if self.shake_waits:
            self.shake_waits = False
            self.ctx.shakes_waiting -= 1
            if self.state == UP_TLS:
                self._shake(True)
                return
        if self.state == UP_HEAD or self.state == UP_BODY:
            self._read()

    cdef void resume(self) noexcept:
        """The client side can take more: what is in hand is offered again, then reading goes on."""
        if self.processing:
            self.again = True
            return
        if self.state == UP_HEAD or self.state == UP_BODY:
            self._read()

    # -- reading ------------------------------------------------------------------------------------------------

    cdef void _read(self) noexcept:
        cdef int64_t got
        cdef int64_t moved = 0
        cdef size_t want
        if self.processing:
            self.again = True
            return
        self.processing = True
        while self.exchange is not None and self.fd >= 0:
            self.again = False
            if not self._process():
                # Blocked by the client side, or over.
                if self.again and self.exchange is not None:
                    continue
                break
            if not self.readable:
                if self.in_pos == self.in_end:
                    self.release_in()
                break
            if moved >= TURN_BYTES:
                self.ctx.make_ready(self)
                break
            if self._may_splice():
                got = self._fill_pipe()
                if got > 0:
                    moved += got
                    continue
                if got == -1:
                    break
                if got == 0 or got == -2:
                    self._end_of_stream(got == 0)
                    break
                # -3: copy instead.
            want = LARGE_BUFFER if self.state == UP_BODY and (self.in_framing != FRAMING_LENGTH or self.remaining > SMALL_BUFFER) else SMALL_BUFFER
            if self.in_pos == self.in_end:
                if self.inbuf != NULL and self.inbuf.capacity < want and moved:
                    self.release_in()       # a body that keeps coming deserves larger reads
                self.in_pos = self.in_end = 0
            elif self.in_pos:
                memmove(self.inbuf.data, self.inbuf.data + self.in_pos, self.in_end - self.in_pos)
                self.in_end -= self.in_pos
                self.in_pos = 0
            if self.inbuf != NULL and self.in_end == self.inbuf.capacity:
                if not self._grow_head():
                    break
            prefetch(<void *>self.exchange, EXCHANGE_BYTES)
            prefetch(self.down, CONNECTION_BYTES)
            prefetch(self.fields, FIELDS_BYTES)
            got = self.receive(want if moved else SMALL_BUFFER)
            if got > 0:
                moved += got
                self.got_bytes = True
            elif got == -1:
                if self.in_pos == self.in_end:
                    self.release_in()
                break
            elif got == -3:
                self._fail(KIND_OVERLOADED)
                break
            else:
                self._end_of_stream(got == 0)
                break
        self.processing = False

    cdef bint _grow_head(self) noexcept:
        """The response head does not fit its buffer: a larger one, within the limit of response heads."""
        if self.state != UP_HEAD or self.inbuf.capacity >= RESPONSE_HEAD:
            self._fail(KIND_BAD_HEAD)
            return False
        return self._replace_inbuf(RESPONSE_HEAD)

    cdef bint _replace_inbuf(self, size_t size) noexcept:
        cdef Buffer *grown = buffer_acquire(&self.ctx.buffers, size)
        if grown == NULL:
            self._fail(KIND_OVERLOADED)
            return False
        memcpy(grown.data, self.inbuf.data + self.in_pos, self.in_end - self.in_pos)
        self.in_end -= self.in_pos
        self.in_pos = 0
        buffer_release(&self.ctx.buffers, self.inbuf)
        self.inbuf = grown
        return True

    cdef bint _process(self) noexcept:
        """Work on what is in inbuf. True: all of it was used up, read more. False: stop."""
        cdef int length
        cdef size_t available, taken, payload
        cdef int64_t consumed
        cdef bint last
        while True:
            if self.state == UP_HEAD:
                available = self.in_end - self.in_pos
                if available == 0:
                    return True
                length = parse_response(self.head, self.inbuf.data + self.in_pos, available, &_RESPONSE_LIMITS, self.request_method, self.request_flags)
                if length == 0:
                    return True
                if length < 0:
                    self._fail(KIND_BAD_HEAD)
                    return False
                self.in_pos += <uint32_t>length
                self.in_framing = self.head.framing
                if self.head.status >= 200 or self.head.status == 101:
                    if self.reused:
                        self.backend.prove_idle(self.idle_age)
                    self.reusable = (self.head.flags & HEAD_KEEP_ALIVE) != 0 and self.in_framing != FRAMING_CLOSE
                    self.state = UP_BODY
                    if self.in_framing == FRAMING_LENGTH:
                        self.remaining = <uint64_t>self.head.content_length
                    elif self.in_framing == FRAMING_CHUNKED:
                        chunk_init(&self.chunks)
                        self.payload_pos = self.payload_end = 0
                        self.trailer_size = 0
                    if not self.exchange.response_head(self.head, self.in_pos < self.in_end):
                        return False
                    if self.exchange is None or self.fd < 0:
                        return False
                    if self.in_framing == FRAMING_NONE or (self.in_framing == FRAMING_LENGTH and self.remaining == 0):
                        self._finish()
                        return False
                else:
                    # 1xx: relayed, and the final head follows (RFC 9110 section 15.2).
                    if not self.exchange.response_head(self.head, False):
                        return False
                    if self.exchange is None or self.fd < 0:
                        return False
                    head_reset(self.head)
                continue
            if self.state != UP_BODY:
                return False
            if self.pipe != NULL and not self._empty_pipe():
                return False
            if self.in_framing == FRAMING_CHUNKED:
                if self.payload_pos == self.payload_end:
                    if self.chunks.done:
                        self._finish()
                        return False
                    available = self.in_end - self.in_pos
                    if available == 0:
                        return True
                    if self.trailer == NULL:
                        self.trailer = <char *>malloc(TRAILER_CAPACITY)
                        if self.trailer == NULL:
                            self._fail(KIND_OVERLOADED)
                            return False
                    payload = 0
                    consumed = chunk_decode(&self.chunks, self.inbuf.data + self.in_pos, available, &payload, self.trailer,
                                            TRAILER_CAPACITY, &self.trailer_size)
                    if consumed < 0:
                        # What was decoded before the error is not passed on: the client sees the body cut short anyway.
                        self._fail(KIND_BAD_BODY)
                        return False
                    self.payload_pos = self.in_pos
                    self.payload_end = self.in_pos + <uint32_t>payload
                    self.in_pos += <uint32_t>consumed
                    if payload == 0:
                        continue
                last = self.chunks.done and self.trailer_size == 0
                if not self._deliver(self.inbuf.data + self.payload_pos, self.payload_end - self.payload_pos, last, &taken):
                    return False
                self.payload_pos += <uint32_t>taken
                if self.payload_pos < self.payload_end:
                    return False
                continue
            available = self.in_end - self.in_pos
            if available == 0:
                return True
            last = False
            if self.in_framing == FRAMING_LENGTH and available >= self.remaining:
                available = self.remaining
                last = True
            if not self._deliver(self.inbuf.data + self.in_pos, available, last, &taken):
                return False
            self.in_pos += <uint32_t>taken
            if self.in_framing == FRAMING_LENGTH:
                self.remaining -= taken
                if self.remaining == 0:
                    self._finish()
                    return False
            if taken < available:
                return False

    cdef bint _deliver(self, const char *data, size_t size, bint last, size_t *taken) noexcept:
        """Offer body bytes. False: the exchange let go of this stream."""
        cdef int64_t accepted = self.exchange.response_body(data, size, last)
        if self.exchange is None or self.fd < 0 or accepted < 0:
            return False
        taken[0] = <size_t>accepted
        self.backend.counters.bytes_received += <uint64_t>accepted
        return True

    # -- zero copy ----------------------------------------------------------------------------------------------

    cdef bint _may_splice(self) noexcept:
        """Large plain bodies go from socket to socket through a pipe. Bytes already in inbuf went first."""
        if self.state != UP_BODY or self.no_splice or self.in_pos != self.in_end:
            return False
        if self.in_framing == FRAMING_LENGTH:
            if self.remaining < SPLICE_LEAST:
                return False
        elif self.in_framing != FRAMING_CLOSE:
            return False
        return self.exchange.can_splice_response()

    cdef int64_t _fill_pipe(self) noexcept:
        """Socket to pipe, which is empty. > 0 bytes; 0 = end; -1 = nothing now; -2 = broken; -3 = copy instead."""
        cdef ssize_t got
        cdef size_t want = SPLICE_MOST
        if self.pipe == NULL:
            self.pipe = pipe_acquire(&self.ctx.pipes)
            if self.pipe == NULL:
                self.no_splice = True
                return -3
            self.release_in()
        if self.in_framing == FRAMING_LENGTH and self.remaining < want:
            want = self.remaining       # never beyond this body: what follows may be another message
        while True:
            got = splice(self.fd, NULL, self.pipe.write_fd, NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
            if got > 0:
                self.pipe.filled = <uint32_t>got
                if self.in_framing == FRAMING_LENGTH:
                    self.remaining -= got
                return got
            if got == 0:
                self.readable = False
                return 0
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                self.readable = False
                self._drop_pipe()
                return -1
            if errno == EINVAL or errno == ENOSYS:
                self.no_splice = True
                self._drop_pipe()
                return -3
            self.readable = False
            return -2

    cdef bint _empty_pipe(self) noexcept:
        """Pipe to client. True: it is empty now, and the body goes on."""
        cdef int64_t taken
        cdef bint last
        while self.pipe.filled:
            last = self.in_framing == FRAMING_LENGTH and self.remaining == 0
            taken = self.exchange.response_pipe(self.pipe.read_fd, self.pipe.filled, last)
            if self.exchange is None or self.fd < 0:
                return False
            if taken <= 0:
                return False
            self.pipe.filled -= <uint32_t>taken
            self.backend.counters.bytes_received += <uint64_t>taken
        if self.in_framing == FRAMING_LENGTH and self.remaining == 0:
            self._drop_pipe()
            self._finish()
            return False
        return True

    cdef void _drop_pipe(self) noexcept:
        if self.pipe != NULL:
            pipe_release(&self.ctx.pipes, self.pipe)
            self.pipe = NULL

    cdef void _finish(self) noexcept:
        """The response is complete. Bytes beyond it make the connection unusable: they must never answer another request."""
        self.state = UP_HEAD
        if self.in_pos < self.in_end:
            self.reusable = False
        self.exchange.response_end(self.trailer, self.trailer_size if self.in_framing == FRAMING_CHUNKED else 0)

    cdef void _end_of_stream(self, bint clean) noexcept:
        """The backend sent FIN (clean) or the connection broke."""
        if self.state == UP_BODY:
            if clean and self.in_framing == FRAMING_NONE:
                return              # a tunnel's FIN, seen once more; the client may still be sending
            if clean and (self.in_framing == FRAMING_TUNNEL or self.in_framing == FRAMING_CLOSE):
                self.reusable = False
                if self.in_framing == FRAMING_TUNNEL:
                    self.in_framing = FRAMING_NONE      # this direction is over
                    self.exchange.response_end(NULL, 0)
                else:
                    self._finish()
            else:
                self._fail(KIND_TRUNCATED)
        elif self.reused and not self.got_bytes:
            self.backend.learn_idle(self.idle_age, True)
            self._fail(KIND_STALE)
        elif self.tls is not None and self.tls.by_alert and not self.reused and not self.got_bytes:
            # TLS 1.3: a backend looks at our certificate when we are done already. It has read nothing of the request.
            self.backend.tls_error = self.tls.reason
            self._fail(self._refused())
        else:
            self._fail(KIND_RESET)

    cdef void _fail(self, int kind) noexcept:
        cdef ExchangeBase exchange = self.exchange
        self._close()
        if exchange is not None:
            self.exchange = None
            exchange.upstream_failed(kind)

    # -- keeping ------------------------------------------------------------------------------------------------

    cdef bint _unread(self) noexcept:
        """Is there anything behind the answer? Asked when the last read ended exactly with it: the kernel has already told
        that there was something to read, and will not tell again."""
        cdef char byte
        cdef ssize_t got
        if self.tls is not None:
            return self._unread_tls()
        got = recv(self.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
        if got < 0 and errno == EAGAIN:
            self.readable = False
            return False
        return True

    cdef void _push_idle(self) noexcept:
        cdef Backend backend = self.backend
        self.state = UP_IDLE
        self.idle_since = self.ctx.now
        self.reused = True
        self.idle_previous = NULL
        self.idle_next = backend.idle
        if backend.idle != NULL:
            (<BackendConnection><object>backend.idle).idle_previous = <PyObject *>self
        backend.idle = <PyObject *>self
        backend.idle_count += 1
        backend.counters.idle += 1
        self.ctx.arm(&self.timer, backend.pool.keepalive_queue, TIMER_KEEPALIVE)

    cdef void _pop_idle(self) noexcept:
        cdef Backend backend = self.backend
        if self.idle_previous != NULL:
            (<BackendConnection><object>self.idle_previous).idle_next = self.idle_next
        else:
            backend.idle = self.idle_next
        if self.idle_next != NULL:
            (<BackendConnection><object>self.idle_next).idle_previous = self.idle_previous
        self.idle_next = self.idle_previous = NULL
        backend.idle_count -= 1
        backend.counters.idle -= 1

    cdef void _close(self) noexcept:
        if self.state == UP_IDLE:
            self._pop_idle()
        self.state = UP_CLOSED
        self.ctx.disarm(&self.timer)
        if self.trailer != NULL:
            free(self.trailer)
            self.trailer = NULL
            self.trailer_size = 0
        self._drop_pipe()
        if self.open and self.backend.max_connections and self.fd >= 0 and self.out_framing != FRAMING_TUNNEL:
            # The descriptor is closed after the batch, the next connection may begin before: FIN has to be ahead of its SYN.
            self.end_writing()
        self._uncount()
        self.shut()
