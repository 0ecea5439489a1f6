"""One request with its response, over one or more attempts: the one place that decides.

The downstream stream gives a complete request head (request_head), then the body as it comes; the exchange picks a
backend, gets a stream to it, and passes things on. It owns the attempt count, the set of backends tried, deadlines, and what is
logged and counted. See stream.pxd for who calls what.
"""
import logging
from resource import RLIMIT_NOFILE, getrlimit

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from headgate.engine.logline cimport ENTRY_FAILED
from headgate.engine.address cimport address_format
from headgate.engine.context cimport (
    KIND_BAD_HEAD, KIND_BAD_STATUS, KIND_BODY_TIMEOUT, KIND_BODY_TOO_LARGE, KIND_CLIENT_GONE, KIND_DRAIN_DEADLINE, KIND_FIRST_BYTE_TIMEOUT,
    KIND_HEDGE_LOST, KIND_LOCAL_RESOURCE, KIND_NO_BACKEND, KIND_NO_ROUTE, KIND_OK, KIND_OVERLOADED, KIND_QUEUE_TIMEOUT,
    KIND_REQUEST_TIMEOUT,
    KIND_TLS_HANDSHAKE, KIND_TLS_VERIFY,
    KIND_RESET, KIND_RETRY, KIND_SERVER_ERROR, KIND_STALE, KIND_STATUS, KIND_TRUNCATED, KIND_VERDICT, KIND_WORD, RETRY_ALWAYS, RETRY_IDEMPOTENT,
    VERDICT_NONE, VERDICT_SUCCESS, Context, status_text,
)
from headgate.engine.budget cimport budget_deposit, budget_refund
from headgate.engine.fallback cimport degrade
from headgate.engine.hashing cimport hex_id
from headgate.engine.head cimport (
    FIELD_RETRY_AFTER, FIELD_UPGRADE, FIELD_X_REQUEST_ID, FRAMING_CHUNKED, FRAMING_CLOSE,
    FRAMING_LENGTH, FRAMING_NONE, FRAMING_TUNNEL, HEAD_EXPECT_CONTINUE, HEAD_H2C, HEAD_IDEMPOTENT, HEAD_KEEP_ALIVE, HEAD_UPGRADE,
    HEAD_WEBSOCKET, METHOD_HEAD, Field, Head,
)
from headgate.engine.hedge cimport hedge_arm, hedge_back, hedge_cancel, hedge_due
from headgate.engine.forwarded cimport client_by_fields
from headgate.engine.http1 cimport Answer, Forward, find_field, head_init, head_reset
from headgate.engine.logged cimport log_exchange
from headgate.engine.model cimport Backend, Listener, Pool, Route
from headgate.engine.outcome cimport Outcome, outcome_lend, outcome_take_back
from headgate.engine.own cimport answer_own_page, redirect_to_https
from headgate.engine.proxied cimport prelude_for
from headgate.engine.record cimport note_attempt, record_decision
from headgate.engine.request cimport Request, cookie_value, lend, take_back
from headgate.engine.retry cimport NOTE_REPLAY_CAP, retry_allowed
from headgate.engine.retry_after cimport retry_after_s
from headgate.engine.histogram cimport coarse_add, coarse_add_at, histogram_add, histogram_add_at, histogram_index
from headgate.engine.stats cimport NOT_RETRIED_DEADLINE, NOT_RETRIED_METHOD, NOT_RETRIED_NOBODY, NOT_RETRIED_REPLAY_CAP, NOT_RETRIED_RETRIES
from headgate.engine.stream cimport SEND_BROKEN, ExchangeBase, Stream
from headgate.engine.trace cimport TRACE_LINE, trace_line
from headgate.engine.tracing cimport trace_begin
from headgate.engine.upstream cimport BackendConnection, take_idle
from headgate.engine.waiting cimport NO_PLACE, POOL_FULL, WaitingRoom, open_room

logger = logging.getLogger("headgate.engine")

cdef extern from *:
    """
    #ifdef HEADGATE_NO_FREELIST
    #define HG_MOST_SPARE 0
    #else
    #define HG_MOST_SPARE HG_SPARE_EXCHANGES
    #endif
    """
    enum:
        HG_MOST_SPARE

cdef enum:
    TIMER_FIRST_BYTE = 1
    TIMER_BODY_IDLE
    TIMER_TUNNEL_IDLE
    TIMER_REQUEST
    TIMER_CORK
    TIMER_RETRY
    TIMER_QUEUE
    TIMER_HEDGE = 32            # hedge.pyx
    RESPONSE_FIELDS = 250

# What runs out is short for every request at once: said at the first, and again while it lasts, not thousands of times a second.
cdef int64_t SHORTAGE_SAID_EVERY_NS = 60000000000
cdef int64_t _shortage_said = -60000000000


cdef void report_shortage(Context ctx, str what) noexcept:
    """Tell the operator that descriptors, ports or memory ran out: only a larger limit or fewer connections help."""
    global _shortage_said
    if ctx.now - _shortage_said < SHORTAGE_SAID_EVERY_NS:
        return
    _shortage_said = ctx.now
    try:
        logger.warning("%s: out of open files, ports or memory (the limit on open files, ulimit -n, is %d)", what, getrlimit(RLIMIT_NOFILE)[0])
    except BaseException as exception:
        ctx.error("the warning of a shortage", exception)


# All connect failures of one request together: every backend has its try, but no client waits longer for that.
cdef int64_t CONNECT_RETRY_NS = 10000000000

cdef object _NONE_TRIED = frozenset()

cdef Exchange exchange_acquire(Context ctx):
    """A fresh exchange, from the spare ones where there is one; None when memory is out."""
    cdef Exchange exchange
    if ctx.spare_count:
        ctx.spare_count -= 1
        exchange = <Exchange><object>ctx.spare[ctx.spare_count]
        Py_DECREF(exchange)             # the array's reference is ours now
        return exchange
    try:
        exchange = Exchange.__new__(Exchange, ctx)
    except MemoryError:
        return None
    return exchange


cdef inline bint nothing_sent(int kind, bint never_sent) noexcept:
    """Did an attempt that failed so end before anything of the request left this machine?"""
    return KIND_RETRY[kind] == RETRY_ALWAYS or (kind == KIND_DRAIN_DEADLINE and never_sent)


cdef void begin_pause(Exchange x, TimerQueue *queue, int kind) noexcept:
    """Call on_timer(kind) when that time has passed."""
    x.pausing = True
    x.ctx.arm(&x.pause_timer, queue, kind)


cdef inline void stop_pause(Exchange x) noexcept:
    if x.pausing:
        x.pausing = False
        x.ctx.suspend(&x.pause_timer)


cdef inline void stop_limit(Exchange x) noexcept:
    if x.limited:
        x.limited = False
        x.ctx.suspend(&x.total_timer)


cdef set upgrade_names(Head *head):
    """The protocols in all Upgrade fields of a head, in lower case (RFC 9110 section 7.8)."""
    cdef uint16_t i
    cdef Field *field
    cdef set names = set()
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.id == FIELD_UPGRADE:
            names.update([name.strip(b" \t") for name in (<bytes>head.base[field.value_off:field.value_off + field.value_len]).lower().split(b",")])
    names.discard(b"")
    return names


cdef class Exchange(ExchangeBase):
    def __cinit__(self, Context ctx):
        cdef Field *fields = <Field *>malloc(RESPONSE_FIELDS * sizeof(Field))
        if fields == NULL:
            raise MemoryError
        self.ctx = ctx
        self.reactor = ctx
        self.timer.owner = <PyObject *>self
        self.total_timer.owner = <PyObject *>self
        self.pause_timer.owner = <PyObject *>self
        self.place.owner = <PyObject *>self
        head_init(&self.response, fields, RESPONSE_FIELDS)
        head_init(&self.request, self.request_fields, REQUEST_FIELDS)

    def __dealloc__(self):
        if self.ctx is not None:
            self.ctx.disarm(&self.timer)
            self.ctx.disarm(&self.total_timer)
            self.ctx.disarm(&self.pause_timer)
        free(self.response.fields)
        if self.request.fields != self.request_fields:
            free(self.request.fields)
        free(self.failed_notes)

    cdef void begin(self, Stream down, Listener listener) noexcept:
        """Serve a request that starts to arrive on `down`. The head is parsed into self.request by its codec."""
        cdef uint16_t wanted = listener.limits.headers
        cdef void *more
        self.down = down
        self.listener = listener
        if self.request.field_capacity < wanted:
            more = malloc(wanted * sizeof(Field))
            if more != NULL:            # else: a request with more than fit is refused
                if self.request.fields != self.request_fields:
                    free(self.request.fields)
                head_init(&self.request, <Field *>more, wanted)
        head_reset(&self.request)
        self.tried = None
        self.bytes_received = self.bytes_sent = 0
        self.attempts = self.counted = self.failed_count = 0
        self.status = 0
        self.last_kind = KIND_OK
        self.notes = 0
        self.first_byte = self.attempt_first_byte = self.queued_ns = -1
        self.queue_spent = False
        self.id_length = 0
        self.client_text = self.peer_text
        self.client_length = self.peer_length
        self.active = self.request_done = self.response_begun = self.interim_sent = self.response_sent = self.response_done = False
        self.ended = self.keep = self.tunnel = self.tunnel_up_ended = self.tunnel_down_ended = False
        self.stale_replayed = self.paid = self.hedged = self.excused = self.connected = self.upgrade_offered = False
        self.trusted = self.contradicted = self.recorded = self.broken = self.traced = False
        self.failed_kept = 0
        self.failed_all = 0

    cdef void release(self) noexcept:
        """Back to the spare ones; nothing refers to this exchange any more."""
        self.ctx.suspend(&self.timer)
        stop_limit(self)
        stop_pause(self)
        self.down = None
        self.up = None
        self.tls = None
        self.listener = None
        self.route = None
        self.pool = None
        self.backend = self.bound = self.chosen = self.shown = None
        self.tried = None
        if self.ctx.spare_count < HG_MOST_SPARE:
            Py_INCREF(self)
            self.ctx.spare[self.ctx.spare_count] = <PyObject *>self
            self.ctx.spare_count += 1
        else:
            # One of its own methods may have led here: it lives to the end of the batch, as connections do.
            self.ctx._closed.append(self)

    cdef bint _idempotent(self) noexcept:
        return (self.request.flags & HEAD_IDEMPOTENT) != 0 and not self.upgrade_offered

    # -- the request --------------------------------------------------------------------------------------------

    cdef void _identify(self) noexcept:
        """Clock, client address and request id."""
        cdef Field *field
        cdef Context ctx = self.ctx
        self.active = True
        self.started = ctx.now
        if ctx.access_log is not None:
            self.started_wall = ctx.wall_ns()
        ctx.counters.requests += 1
        ctx.counters.in_flight += 1
        ctx.in_flight += 1
        if ctx.tracing:
            trace_begin(self)
        self.client = self.peer
        if self.listener.has_trusted and self.listener.trusted.contains(&self.peer):
            self.trusted = True
            self.contradicted = client_by_fields(&self.client, &self.request, &self.peer, self.listener.trusted, self.listener.forwarded)
            if self.client.known:
                self.client_length = <uint16_t>address_format(&self.client, self.client_buffer)
                self.client_text = self.client_buffer
            field = find_field(&self.request, FIELD_X_REQUEST_ID)
            if field != NULL and 0 < field.value_len <= 128:
                self.id_text = self.request.base + field.value_off
                self.id_length = <uint16_t>field.value_len
                return
        hex_id(self.id_buffer, ctx.random)
        self.id_text = self.id_buffer
        self.id_length = 32

    cdef void request_head(self) noexcept:
        """The request's head is complete (its body may still be to come)."""
        cdef Listener listener = self.listener
        cdef int64_t limit
        self._identify()
        self.request_framing = self.request.framing
        self.request_done = self.request.framing == FRAMING_NONE
        self.keep = (self.request.flags & HEAD_KEEP_ALIVE) != 0
        if answer_own_page(self):
            return
        if listener.redirect_https and self.tls is None:
            redirect_to_https(self)
            return
        self._route()
        if self.route is None:
            self._answer(KIND_NO_ROUTE, 404, "no route matches this host and path")
            return
        self.enter(self.route)
        limit = self.route.body_limit if self.route.body_limit != -2 else listener.body_limit
        if limit >= 0:
            if self.request.framing == FRAMING_LENGTH and self.request.content_length > limit:
                self._answer(KIND_BODY_TOO_LARGE, 413, "the body is larger than this route allows")
                return
            self.body_limit = <uint64_t>limit
        else:
            self.body_limit = 0
        if self.request.flags & HEAD_UPGRADE and not self.request.flags & HEAD_H2C:
            self.upgrade_offered = self._upgrade_allowed()
        if self.route.request != NULL:
            self.limited = True
            self.ctx.arm(&self.total_timer, self.route.request, TIMER_REQUEST)
        self._attempt()

    cdef void enter(self, Route route) noexcept:
        """This route's pool serves the request from here on."""
        cdef const char *value
        cdef size_t value_size
        cdef object bound
        cdef Pool pool = route.pool
        if self.place.counted:
            self._stop_waiting()        # in the queue of the pool that this one stands in for
        self.queue_spent = False
        self.bound = None
        self.route = route
        self.pool = pool
        if route.version != pool.version:
            if not pool.bound:
                pool.bind_engine(self.ctx, self.ctx.segment, self.ctx.worker)
            route.bind_engine(self.ctx, self.ctx.segment, self.ctx.worker)
            open_room(pool, self.ctx)
        budget_deposit(&pool.budget, self.ctx.now)
        if pool.sticky is not None and cookie_value(&self.request, pool.sticky_name, len(pool.sticky_name), &value, &value_size):
            bound = pool.sticky.get(value[:value_size])
            if bound is not None:
                self.bound = <Backend?>bound

    cdef bint _upgrade_allowed(self) noexcept:
        """May all that the client offers be passed on? Part of an offer never is."""
        if self.request.flags & HEAD_WEBSOCKET:
            return self.route.websocket
        offered = upgrade_names(&self.request)
        return len(offered) > 0 and offered <= self.route.upgrade

    cdef void _route(self) noexcept:
        cdef Listener listener = self.listener
        cdef object found
        self.route = listener.only_route
        if self.route is not None:
            return
        if listener.match is None:
            return
        try:
            host = (<bytes>self.request.base[self.request.host.off:self.request.host.off + self.request.host.len]).lower()
            path = <bytes>self.request.base[self.request.path.off:self.request.path.off + self.request.path.len]
            if listener.match_identity:
                found = listener.match(host, path, None if self.tls is None else self.tls.identity)
            else:
                found = listener.match(host, path)
            self.route = <Route?>found if found is not None else None
        except BaseException as exception:
            self.ctx.error("the router", exception)

    # -- picking ------------------------------------------------------------------------------------------------

    cdef Backend _checked(self, object picked, object tried):
        """`picked` if it may be used, else None."""
        cdef Backend backend
        if type(picked) is not Backend:
            return None
        backend = <Backend>picked
        if backend.pool is not self.pool or not backend.eligible or (tried is not _NONE_TRIED and backend in tried):
            return None
        return backend

    cdef Backend _fall_back(self, object tried):
        cdef Request view = lend(&self.request, self.client_text, self.client_length, &self.client, self._idempotent())
        cdef Backend backend = None
        if self.pool.fallback is not None:
            try:
                backend = self._checked(self.pool.fallback(view, tried), tried)
            except BaseException as exception:
                self.ctx.error("the fallback strategy", exception)
        take_back(view)
        return backend

    cdef Backend _pick(self):
        """The backend for the next attempt, or None when none is left."""
        cdef Pool pool = self.pool
        cdef object tried = self.tried if self.tried is not None else _NONE_TRIED
        cdef object picked
        cdef Backend backend
        cdef Request view
        if pool.full is not None:
            tried = pool.full if self.tried is None else self.tried | pool.full
        if self.bound is not None and self.bound.bound_ok and (self.tried is None or self.bound not in self.tried):
            return self.bound
        if pool.probe is not None and self.attempts == 0 and self._idempotent():
            try:
                picked = pool.probe()
            except BaseException as exception:
                self.ctx.error("the probe", exception)
                picked = None
            if type(picked) is Backend:
                return <Backend>picked
        if pool.pick is None:
            return self._fall_back(tried)
        view = lend(&self.request, self.client_text, self.client_length, &self.client, self._idempotent())
        picked = None
        try:
            picked = pool.pick(view, tried)
        except BaseException as exception:
            take_back(view)
            self.ctx.counters.strategy_errors += 1
            self._report(exception)
            return self._fall_back(tried)
        take_back(view)
        backend = self._checked(picked, tried)
        if backend is None:
            if picked is not None:
                self.ctx.counters.strategy_errors += 1
                self._report(f"picked {picked!r:.100}, which is no backend that may be used now")
            return self._fall_back(tried)
        return backend

    cdef void _report(self, object what) noexcept:
        try:
            if self.pool.strategy_error is not None:
                self.pool.strategy_error(what)
        except BaseException as exception:
            self.ctx.error("strategy_error", exception)

    # -- attempts -----------------------------------------------------------------------------------------------

    cdef void _attempt(self) noexcept:
        """Try backends until one takes the request or none is left."""
        cdef Backend backend
        cdef WaitingRoom room = <WaitingRoom>self.pool.room
        cdef int kind
        if room is not None and self._waits_first(room):
            return
        while True:
            if self.chosen is not None:
                backend = self.chosen
                self.chosen = None
            else:
                backend = self._pick()
            if backend is None:
                if room is not None and room.some_full(self.tried):
                    self._waits(room, None)
                    return
                if self.paid:
                    self.paid = False
                    budget_refund(&self.pool.budget)
                if self.tried is not None:
                    self.pool.counters.not_retried[<int>NOT_RETRIED_NOBODY] += 1
                self._fail(self.last_kind if self.last_kind != KIND_OK else KIND_NO_BACKEND)
                return
            kind = self._begin_attempt(backend, False)
            if kind == KIND_OK:
                return
            if kind >= NO_PLACE:
                if kind == NO_PLACE and backend is not self.bound:
                    continue        # the next pick leaves it out
                self._waits(room, backend if kind == NO_PLACE else None)
                return
            self._attempt_over(kind)
            if not self._may_retry(kind, True):
                self._fail(kind)
                return
            self.tried_add(backend)

    cdef int _begin_attempt(self, Backend backend, bint fresh) noexcept:
        """Get a stream to `backend`. KIND_OK: it is there, or on its way. NO_PLACE, POOL_FULL: no attempt was begun."""
        cdef BackendConnection up = None
        cdef int kind = KIND_OK
        cdef Context ctx = self.ctx
        cdef WaitingRoom room = <WaitingRoom>self.pool.room
        cdef bint repeatable = self._idempotent()
        if room is not None:
            kind = room.take(backend)
            if kind != KIND_OK:
                return kind
        if KIND_RETRY[self.last_kind] != RETRY_ALWAYS:
            self.connect_since = ctx.now
        if not fresh and not self.upgrade_offered:
            up = take_idle(backend, ctx, repeatable, False)
        if up is None:
            up = BackendConnection.__new__(BackendConnection, ctx)
            up.connect_until = self.connect_since + CONNECT_RETRY_NS
            kind = up.start(backend) if not self.pool.proxy_version or self._introduce(up) else KIND_LOCAL_RESOURCE
            if kind == NO_PLACE:
                room.return_untouched(backend)
                return NO_PLACE
        if self.place.counted:
            self._stop_waiting()
        self.backend = self.shown = backend
        backend.reactor = ctx
        self.connected = False
        self.attempt_started = ctx.now
        self.attempt_first_byte = -1
        self.retry_after = -1
        self.attempts += 1
        backend.counters.attempts += 1
        backend.counters.active += 1
        if self.tried is not None and self.hedge is None:
            backend.counters.retried += 1
            ctx.counters.retries += 1
            self.pool.counters.retried[self.last_kind] += 1
        if kind == KIND_LOCAL_RESOURCE:
            # No port or descriptor for a new connection: a kept one, of any age, is better than none.
            up = take_idle(backend, ctx, repeatable, True)
            if up is None:
                report_shortage(ctx, "no connection to a backend could be made, requests are answered 503")
                return kind
        elif kind != KIND_OK:
            return kind
        up.attach(self, self.down, &self.response, self.request.method, self.request.flags if self.upgrade_offered else self.request.flags & ~HEAD_UPGRADE)
        self.up = up
        if self.pool.hedges:
            hedge_arm(self)
        if up.reused:
            backend.counters.reused += 1
            self.upstream_connected()
        return KIND_OK

    cdef bint _introduce(self, BackendConnection up) noexcept:
        """Say by the PROXY protocol for whom this connection is. False: no memory."""
        up.prelude = prelude_for(self.down, &self.client, self.client_text != self.peer_text, self.pool.proxy_version)
        return up.prelude != NULL

    cdef void upstream_connected(self) noexcept:
        """Send the request head, and what of the body is there."""
        self.connected = True
        self.paid = False
        if self.request_framing == FRAMING_NONE:
            self.ctx.arm(&self.timer, self.route.first_byte, TIMER_FIRST_BYTE)
        # else: as long as no body is in hand it is the client that is waited for, and its own timeout runs (request_body).
        if self.write_head(self.up, self.backend) == SEND_BROKEN:
            self._no_room()
            return
        if self.request_framing != FRAMING_NONE:
            # The body bytes that came with the head go out with it.
            self.down.resume()
            if self.up is None or not self.active:
                return
        if self.up.flush() == SEND_BROKEN:
            self.up.write_failed()

    cdef void _no_room(self) noexcept:
        """There is no buffer for the request's head."""
        cdef Stream up = self.up
        if self.hedge is not None:
            self.up = None
            up.abort()
            self._attempt_over(KIND_LOCAL_RESOURCE)
            hedge_back(self)
            return
        self._cancel_upstream(KIND_LOCAL_RESOURCE)
        self._fail(KIND_LOCAL_RESOURCE)

    cdef int write_head(self, Stream up, Backend backend) noexcept:
        """The request's head as `backend` is to see it, into the buffer of `up`. 0, or SEND_BROKEN."""
        cdef Forward forward
        cdef Listener listener = self.listener
        cdef Pool pool = self.pool
        cdef bytes host
        cdef char traceparent[TRACE_LINE]
        memset(&forward, 0, sizeof(forward))
        forward.client = self.client_text
        forward.client_length = self.client_length
        forward.peer = self.peer_text
        forward.peer_length = self.peer_length
        forward.request_id = self.id_text
        forward.request_id_length = self.id_length
        forward.trusted = self.trusted
        forward.form = listener.forwarded
        forward.contradicted = self.contradicted
        if self.tls is not None:
            forward.tls = True
            if self.tls.identity_lines is not None:
                forward.extra = self.tls.identity_lines
                forward.extra_length = <uint32_t>len(self.tls.identity_lines)
        forward.framing = self.request_framing
        forward.keep_upgrade = self.upgrade_offered
        forward.keep_expect = (self.request.flags & HEAD_EXPECT_CONTINUE) != 0
        if listener.via:
            forward.via = listener.via
            forward.via_length = <uint16_t>len(listener.via)
        if self.traced:
            trace_line(traceparent, &self.trace, self.trace.span + self.attempts)
            forward.trace = traceparent
            forward.trace_length = TRACE_LINE
        host = backend.host if pool.host_of_backend else pool.host
        if host is not None:
            forward.host = host
            forward.host_length = <uint16_t>len(host)
        return up.send_request(&self.request, &forward)

    cdef int64_t request_body(self, const char *data, size_t size, bint last) noexcept:
        cdef int64_t taken
        if self.up is None or not self.connected or self.response_done:
            return 0
        if self.body_limit and not self.tunnel and self.bytes_received + size > self.body_limit:
            self._too_large()
            return 0
        if self.tunnel and self.tunnel_down_ended:
            return <int64_t>size        # the backend reads no more
        taken = self.up.send_body(data, size, last)
        if taken == SEND_BROKEN:
            self.up.write_failed()
            if not self.tunnel:
                return 0
            # What the backend said before is still passed on; what the client says from here on has nowhere to go.
            self.tunnel_down_ended = True
            self._tunnel_over()
            return <int64_t>size
        if taken > 0:
            self.bytes_received += <uint64_t>taken
            self.backend.counters.bytes_sent += <uint64_t>taken
            if self.tunnel:
                self.ctx.arm(&self.timer, self.route.tunnel_idle, TIMER_TUNNEL_IDLE)
        if <size_t>taken == size and not self.tunnel and not self.response_begun:
            if last:
                self.request_done = True
                self.ctx.arm(&self.timer, self.route.first_byte, TIMER_FIRST_BYTE)
            else:
                # Waiting for the client now: its own timeout runs, the backend's does not.
                self.ctx.suspend(&self.timer)
        elif <size_t>taken == size and last:
            self.request_done = True
        elif not self.tunnel and not self.response_begun and (taken > 0 or self.timer.queue == NULL or self.timer.suspended):
            # The backend is what holds things up; its time runs from the last byte it took.
            self.ctx.arm(&self.timer, self.route.first_byte, TIMER_FIRST_BYTE)
        return taken

    cdef void _too_large(self) noexcept:
        """A chunked body grew beyond the limit: the backend must not take what it got for a whole request."""
        self._cancel_upstream(KIND_BODY_TOO_LARGE)
        if self.response_sent or (self.response_begun and not self.down.discard_unsent()):
            self.down.abort()
            self._finish(KIND_BODY_TOO_LARGE)
        else:
            self._answer(KIND_BODY_TOO_LARGE, 413, "the body is larger than this route allows")

    cdef bint request_end(self, const char *trailer, size_t trailer_size) noexcept:
        if self.tunnel:
            self.tunnel_down_ended = True
            if self.up is not None and self.up.send_end(NULL, 0) == SEND_BROKEN:
                self.up.write_failed()
            self._tunnel_over()
            return True
        if self.up is None or not self.connected:
            return False
        self.request_done = True
        if not self.response_begun:
            self.ctx.arm(&self.timer, self.route.first_byte, TIMER_FIRST_BYTE)
        if self.up.send_end(trailer, trailer_size) == SEND_BROKEN:
            self.up.write_failed()
        return True

    cdef void upstream_writable(self) noexcept:
        if not self.request_done or self.tunnel:
            self.down.resume()

    cdef void client_writable(self) noexcept:
        if self.response_done and not self.tunnel:
            if self.down.flush() == 1:
                self._finish(self.last_kind)
            return
        if self.up is not None:
            self.up.resume()
        if self.tunnel and self.active:
            self._tunnel_over()

    # -- the response -------------------------------------------------------------------------------------------

    cdef bint response_head(self, Head *head, bint more) noexcept:
        cdef Answer answer
        cdef Context ctx = self.ctx
        cdef int status = head.status
        cdef Backend other
        cdef bytes cookie
        memset(&answer, 0, sizeof(answer))
        if self.listener.via:
            answer.via = self.listener.via
            answer.via_length = <uint16_t>len(self.listener.via)
        answer.minor_version = self.request.minor_version
        if status < 200 and status != 101:
            if self.request.minor_version == 1 and (status != 100 or self.request.flags & HEAD_EXPECT_CONTINUE):
                # RFC 9110 section 15.2: relayed, but never to an HTTP/1.0 client.
                if self.hedge is not None:
                    hedge_cancel(self, KIND_HEDGE_LOST)
                self.interim_sent = True
                if self.down.send_response(head, &answer) == SEND_BROKEN or self.down.flush() == SEND_BROKEN:
                    self._lost_client()
                    return False
            if self.request_done:
                ctx.arm(&self.timer, self.route.first_byte, TIMER_FIRST_BYTE)
            return True
        if self.attempt_first_byte < 0:
            self.attempt_first_byte = ctx.now - self.attempt_started
        if status == 429 or status == 503:
            self.retry_after = self.asks_for_pause(head)
        if self.hedge is not None:
            # One of two attempts: a good head is the answer, and with another the exchange waits for the first one's.
            if status >= 400 and self.pool.retry_status[status - 400]:
                self.tried_add(self.backend)
                self._dismiss(status)
                hedge_back(self)
                return False
            hedge_cancel(self, KIND_HEDGE_LOST)
            ctx.counters.hedges_won += 1
            self.pool.counters.hedges_won += 1
        if status >= 400 and self.pool.retry_status[status - 400] and not self.response_sent and self._may_retry(KIND_BAD_STATUS, False):
            self.tried_add(self.backend)
            other = self._pick()
            if other is None:
                self.pool.counters.not_retried[<int>NOT_RETRIED_NOBODY] += 1
            elif retry_allowed(self, self.counted + 1) and self._replayable():
                self._dismiss(status)
                self.chosen = other
                self._retry_later()
                return False
            # Nobody else is left, or may be asked: this answer is the one to relay.
        if status == 101 and not upgrade_names(head) <= upgrade_names(&self.request):
            # RFC 9110 section 7.8: a server must not switch to what was not offered. The codec knows the offer's flags only.
            self.up.abort()
            self.upstream_failed(KIND_BAD_HEAD)
            return False
        stop_pause(self)
        self.first_byte = ctx.now - self.started
        self.status = <uint16_t>status
        self.response_begun = True
        self.backend.counters.status[status // 100] += 1
        answer.date = ctx.date()
        if self.tls is not None and self.listener.hsts is not None:
            answer.hsts = self.listener.hsts
            answer.hsts_length = <uint32_t>len(self.listener.hsts)
        if self.pool.sticky is not None and self.backend is not self.bound:
            cookie = self.backend.set_cookie
            if cookie is not None and len(cookie):
                answer.extra = cookie
                answer.extra_length = <uint32_t>len(cookie)
        if status == 101:
            answer.keep_upgrade = True
            answer.framing = FRAMING_NONE
            self._switch(head, &answer)
            return self.up is not None
        self.to_framing = head.framing
        if head.framing == FRAMING_CHUNKED or head.framing == FRAMING_CLOSE:
            self.to_framing = FRAMING_CHUNKED if self.request.minor_version == 1 else FRAMING_CLOSE
        # An answer that comes before the request is complete ends the upload: the connection cannot be used again.
        self.keep = (self.request.flags & HEAD_KEEP_ALIVE) != 0 and self.request_done and not self.listener.closing and self.to_framing != FRAMING_CLOSE
        answer.framing = self.to_framing
        answer.close = not self.keep
        if self.down.send_response(head, &answer) == SEND_BROKEN:
            # Nothing was sent yet, so it is not the client that is lost: there was no buffer.
            self.response_begun = False
            self._cancel_upstream(KIND_OVERLOADED)
            self._fail(KIND_OVERLOADED)
            return False
        if head.framing == FRAMING_NONE or (head.framing == FRAMING_LENGTH and head.content_length == 0):
            return True
        if more and head.framing != FRAMING_CHUNKED:
            ctx.suspend(&self.timer)        # the body bytes in hand come next, and _relayed() sees to it
            return self.active
        ctx.arm(&self.timer, self.route.body_idle, TIMER_BODY_IDLE)
        if not more:
            if head.framing == FRAMING_LENGTH:
                begin_pause(self, ctx.cork, TIMER_CORK)
            else:
                self._uncork()
        return self.active

    cdef void _dismiss(self, int status) noexcept:
        """The backend's answer is not the one to relay."""
        cdef Stream up = self.up
        self.status = <uint16_t>status
        # An answer below 500 says nothing against the backend, and 503 with Retry-After that it wants less, not that it is broken.
        self.excused = status < 500 or (status == 503 and self.retry_after >= 0)
        self.up = None
        up.abort()
        self._attempt_over(KIND_BAD_STATUS)
        self.status = 0

    cdef bint _replayable(self) noexcept:
        """Start the request's body again; False, and a word in the log, when it was not kept whole."""
        if self.down.rewind():
            return True
        if self.paid:
            self.paid = False
            budget_refund(&self.pool.budget)
        self.notes |= NOTE_REPLAY_CAP
        self.pool.counters.not_retried[<int>NOT_RETRIED_REPLAY_CAP] += 1
        return False

    cdef double asks_for_pause(self, Head *head) noexcept:
        """429 or 503: seconds for which the backend asks to be left alone (Retry-After), -1 = it does not ask; the policy is told with the outcome."""
        cdef Field *field = find_field(head, FIELD_RETRY_AFTER)
        if field == NULL:
            return -1
        return retry_after_s(head.base + field.value_off, field.value_len, <int64_t>(self.ctx.wall_ns() // 1000000000))

    cdef void tried_add(self, Backend backend) noexcept:
        if self.tried is None:
            self.tried = set()
        self.tried.add(backend)

    cdef void _uncork(self) noexcept:
        """Send the head without waiting for the body."""
        self.response_sent = True
        if self.down.flush() == SEND_BROKEN:
            self._lost_client()

    cdef int64_t response_body(self, const char *data, size_t size, bint last) noexcept:
        cdef int64_t taken
        taken = self.down.send_body(data, size, last)
        if taken < 0:
            self._lost_client()
            return 0
        return self._relayed(taken, size, last)

    cdef bint can_splice_response(self) noexcept:
        return self.to_framing != FRAMING_CHUNKED and self.down.can_splice()

    cdef int64_t response_pipe(self, int pipe_fd, size_t size, bint last) noexcept:
        cdef int64_t taken = self.down.splice_body(pipe_fd, size)
        if taken < 0:
            self._lost_client()
            return 0
        return self._relayed(taken, size, last)

    cdef int64_t _relayed(self, int64_t taken, size_t size, bint last) noexcept:
        """The client took `taken` of `size` response bytes: count them, and let the right timeout run."""
        self.response_sent = True
        if taken > 0:
            self.bytes_sent += <uint64_t>taken
            stop_pause(self)
        if <size_t>taken < size:
            # The client is slow: its own timeout runs (client_write), the backend's does not.
            if not self.tunnel:
                self.ctx.suspend(&self.timer)
        elif self.tunnel:
            self.ctx.arm(&self.timer, self.route.tunnel_idle, TIMER_TUNNEL_IDLE)
        elif last:
            self.ended = True
            self.ctx.suspend(&self.timer)   # response_end() comes next
        else:
            self.ctx.arm(&self.timer, self.route.body_idle, TIMER_BODY_IDLE)
        return taken

    cdef void response_end(self, const char *trailer, size_t trailer_size) noexcept:
        """The backend's answer is complete and everything of it was handed over."""
        cdef Stream up = self.up
        cdef int sent
        cdef int kind = KIND_OK
        if self.tunnel:
            self.tunnel_up_ended = True
            if self.down.send_end(NULL, 0) == SEND_BROKEN:
                self._lost_client()
                return
            self._tunnel_over()
            return
        self.ctx.suspend(&self.timer)
        stop_pause(self)
        self.response_done = self.response_sent = True
        if self.ended and self.to_framing == FRAMING_CHUNKED:
            sent = self.down.flush()
        else:
            sent = self.down.send_end(trailer, trailer_size)
        self.up = None
        (<BackendConnection>up).detach(self.request_done)
        if self.status >= 500:
            kind = KIND_SERVER_ERROR
            # 503 with Retry-After is a backend that asks for less, not one that is broken.
            self.excused = self.status == 503 and self.retry_after >= 0
        self._attempt_over(kind)
        self.last_kind = KIND_OK
        if sent == SEND_BROKEN:
            self._lost_client()
        elif sent == 1:
            self._finish(KIND_OK)

    # -- upgrade ------------------------------------------------------------------------------------------------

    cdef void _switch(self, Head *head, const Answer *answer) noexcept:
        """101: from here on both connections carry opaque bytes."""
        cdef Context ctx = self.ctx
        if self.down.send_response(head, answer) == SEND_BROKEN:
            self._lost_client()
            return
        self.tunnel = True
        self.response_sent = True
        self.keep = False
        ctx.counters.tunnels += 1
        stop_limit(self)
        self.to_framing = FRAMING_TUNNEL
        ctx.arm(&self.timer, self.route.tunnel_idle, TIMER_TUNNEL_IDLE)
        if self.down.flush() == SEND_BROKEN:
            self._lost_client()
            return
        self.up.begin_tunnel()
        self.down.begin_tunnel()

    cdef void _tunnel_over(self) noexcept:
        """Both sides said FIN, and everything was passed on: the tunnel is over."""
        cdef Stream up = self.up
        if not (self.tunnel_up_ended and self.tunnel_down_ended):
            return
        if self.down.flush() != 1 or (up is not None and up.flush() == 0):
            return
        self.up = None
        if up is not None:
            up.abort()
        self._attempt_over(KIND_OK)
        self._finish(KIND_OK)

    # -- the queue ----------------------------------------------------------------------------------------------

    cdef bint _waits_first(self, WaitingRoom room) noexcept:
        """Before an attempt: True when there can be none now. It waits then, or was answered."""
        cdef Backend bound = None
        if not self.place.counted and self.chosen is None and self.tried is None and room.must_queue():
            # Others came before. Not for a session whose backend takes nobody else (it drains): those do not wait for that one.
            if self.bound is not None and self.bound.bound_ok:
                bound = self.bound
            if bound is None or bound.eligible:
                return self._waits(room, bound)
        if room.pool_full():
            return self._waits(room, None)
        if room.several:
            room.look(False)
        return False

    cdef bint _waits(self, WaitingRoom room, Backend bound) noexcept:
        """Stand in line, for `bound` where it is given. Always True: it waits now, or was answered."""
        cdef bint first = not self.place.counted
        if self.queue_spent:
            self._fail(KIND_QUEUE_TIMEOUT)
        elif not room.enter(&self.place, bound, self.tried is not None):
            self._fail(KIND_OVERLOADED)
        elif first:
            self.ctx.arm(&self.timer, room.patience, TIMER_QUEUE)
        return True

    cdef void place_offered(self) noexcept:
        self._attempt()

    cdef void _stop_waiting(self) noexcept:
        """A place was found, or nobody waits for the answer any more."""
        if self.queued_ns < 0:
            self.queued_ns = 0
        self.queued_ns += max(0, self.ctx.now - self.place.since)     # may have come within this very batch
        (<WaitingRoom>self.pool.room).leave(&self.place)
        self.ctx.suspend(&self.timer)

    cdef void _queue_timeout(self) noexcept:
        if not self.place.counted:
            return
        self._stop_waiting()
        (<WaitingRoom>self.pool.room).counters.queue_timeouts += 1
        self.queue_spent = True
        if self.bound is None:
            self._fail(KIND_QUEUE_TIMEOUT)
        else:
            # Its own backend had no place for so long: any other is better than an error, if there is one at once.
            self.bound = None
            self._attempt()

    # -- ends ---------------------------------------------------------------------------------------------------

    cdef void _attempt_over(self, int kind) noexcept:
        """Count the attempt and tell who wants to know. The stream to the backend is gone or given back."""
        cdef Backend backend = self.backend
        cdef Pool pool = self.pool
        cdef Outcome outcome
        cdef int verdict = KIND_VERDICT[kind]
        cdef bint told
        if backend is None:
            return
        self.backend = None
        self.up = None
        self.last_kind = <uint8_t>kind
        if kind != KIND_OK and self.failed_count < ENTRY_FAILED:
            self.failed_kind[self.failed_count] = <uint8_t>kind
            self.failed_slot[self.failed_count] = backend.slot
            self.failed_count += 1
        if self.excused:
            self.excused = False
            verdict = VERDICT_NONE
        if kind != KIND_OK:
            note_attempt(self, backend, kind)
        backend.counters.active -= 1
        if self.attempt_first_byte >= 0:
            coarse_add(backend.first_byte_latency, <uint64_t>self.attempt_first_byte)
        if pool.room is not None:
            (<WaitingRoom>pool.room).give(backend, self.attempt_first_byte if verdict == VERDICT_SUCCESS
                                          else self.ctx.now - self.attempt_started if kind == KIND_FIRST_BYTE_TIMEOUT else -1)
        if verdict == VERDICT_SUCCESS:
            backend.counters.succeeded += 1
        elif verdict != VERDICT_NONE:
            backend.counters.failed += 1
        if kind != KIND_STALE and kind != KIND_OK and KIND_RETRY[kind] != RETRY_ALWAYS and kind != KIND_HEDGE_LOST:
            self.counted += 1
        told = pool.outcome is not None and (verdict > VERDICT_SUCCESS or backend.watched or self.retry_after > 0)
        if not told and pool.done is None:
            return
        outcome = outcome_lend(kind, verdict, self.status if self.attempt_first_byte >= 0 else 0, self.attempt_first_byte,
                               self.ctx.now - self.attempt_started, self.retry_after)
        if told:
            try:
                pool.outcome(backend, outcome)
            except BaseException as exception:
                self.ctx.error("the outcome policy", exception)
        if pool.done is not None:
            try:
                pool.done(backend, outcome)
            except BaseException as exception:
                self.ctx.counters.strategy_errors += 1
                self._report(exception)
        outcome_take_back(outcome)

    cdef bint _may_retry(self, int kind, bint never_sent) noexcept:
        """Is another attempt allowed after a failure of this kind? (errors.py, and design: attempt, retries)"""
        if self.response_sent or self.interim_sent or kind >= 64:
            return False
        if nothing_sent(kind, never_sent):
            # Nothing was sent, so any method and size; not counted against `retries`, but bounded in time.
            if self.ctx.now - self.connect_since < CONNECT_RETRY_NS:
                return True
            self.pool.counters.not_retried[<int>NOT_RETRIED_DEADLINE] += 1
            return False
        if KIND_RETRY[kind] != RETRY_IDEMPOTENT:
            return False
        if kind != KIND_BAD_STATUS and not self.pool.retry_kinds >> kind & 1:
            return False
        if not self._idempotent() and not never_sent:
            self.pool.counters.not_retried[<int>NOT_RETRIED_METHOD] += 1
            return False
        # counted: failed attempts so far that count; the one that is over now is among them except for BAD_STATUS,
        # which asks before it is over.
        if self.counted + (1 if kind == KIND_BAD_STATUS else 0) <= self.pool.retries:
            return True
        if self.pool.retries:
            self.pool.counters.not_retried[<int>NOT_RETRIED_RETRIES] += 1
        return False

    cdef void _retry_later(self) noexcept:
        """The first retry goes at once, further ones after a random pause."""
        if self.pause == 0:
            self.ctx.make_ready(self)
        else:
            begin_pause(self, self.ctx.queue(self.pause / 1e9), TIMER_RETRY)

    cdef void on_ready(self) noexcept:
        if self.active and self.up is None and not self.response_begun and self.place.line == NULL:
            self._attempt()

    cdef void upstream_failed(self, int kind) noexcept:
        """The stream to the backend ended in a way it should not have. It is closed already."""
        cdef BackendConnection up = <BackendConnection>self.up
        cdef Backend backend = self.backend
        cdef bint never_sent = up is not None and up.never_sent
        cdef bint sent = self.response_sent
        self.up = None
        self.ctx.suspend(&self.timer)
        if self.tunnel:
            # One side broke: the other learns it by a reset, as it would without us.
            self._attempt_over(KIND_OK)
            self.down.abort()
            self._finish(kind if kind == KIND_DRAIN_DEADLINE else KIND_OK)
            return
        if self.response_begun and not sent:
            # The head still waited for its body: nothing went out, so this can be mended.
            sent = not self.down.discard_unsent()
            if not sent:
                if kind == KIND_TRUNCATED:
                    kind = KIND_RESET       # nothing of it was shown, so to the client there was no answer yet
                stop_pause(self)
                self.response_begun = False
                self.status = 0
        if kind == KIND_STALE and not self.stale_replayed and (self._idempotent() or never_sent) and not sent and not self.interim_sent and self.down.rewind():
            # The race of RFC 9112 section 9.3.1: once more on a fresh connection, to the same backend, uncounted.
            self._attempt_over(KIND_STALE)
            self.stale_replayed = True
            self.pool.counters.replayed += 1
            kind = self._begin_attempt(backend, True)
            if kind == KIND_OK:
                return
            if kind < NO_PLACE:
                self._attempt_over(kind)
            elif self.hedge is None:
                self.ctx.make_ready(self)       # somebody else has the place of that connection: wait for one like all others
                return
            else:
                kind = KIND_STALE
        else:
            self._attempt_over(kind)
            if kind == KIND_DRAIN_DEADLINE and never_sent:
                self.counted -= 1       # nothing of it left this machine: as good as no connection
        if self.hedge is not None:
            self.tried_add(backend)
            if nothing_sent(kind, never_sent):
                budget_refund(&self.pool.budget)
            hedge_back(self)
            return
        if sent:
            self.response_sent = True
            self.down.abort()
            self._finish(kind)
            return
        if self._may_retry(kind, never_sent):
            self.pause = 0
            # Where nothing was sent nothing was processed: such a retry waits for nothing and costs nothing.
            if (KIND_RETRY[kind] == RETRY_ALWAYS or never_sent or retry_allowed(self, self.counted)) and self._replayable():
                self.tried_add(backend)
                self._retry_later()
                return
        self._fail(kind)

    cdef void _cancel_upstream(self, int kind) noexcept:
        """Close the stream to the backend, whatever it is doing."""
        cdef Stream up = self.up
        self.up = None
        self.ctx.suspend(&self.timer)
        if up is not None:
            up.abort()
        if self.hedge is not None:
            hedge_cancel(self, kind)
        self._attempt_over(kind)

    cdef void _lost_client(self) noexcept:
        """Writing to the client failed."""
        cdef Stream down = self.down
        self.client_gone(KIND_CLIENT_GONE)
        if down is not None:
            down.abort()

    cdef void client_gone(self, int kind) noexcept:
        """The client went away or broke the rules: the attempt is cancelled at once, never counted against the backend."""
        if not self.active:
            return
        if self.tunnel:
            self._cancel_upstream(KIND_OK)
            self._finish(KIND_OK)
            return
        self._cancel_upstream(kind)
        if not self.response_begun:
            self.status = KIND_STATUS[kind]
        self.keep = False
        self._finish(kind)

    cdef void cut_off(self) noexcept:
        """The deadline of the engine's drain: what has begun breaks off, the others are told."""
        self._cancel_upstream(KIND_OK if self.tunnel else KIND_DRAIN_DEADLINE)
        if self.tunnel or self.response_sent or (self.response_begun and not self.down.discard_unsent()):
            self.down.abort()
            self._finish(KIND_DRAIN_DEADLINE)
        else:
            self.response_begun = False
            self.keep = False
            self._answer(KIND_DRAIN_DEADLINE, KIND_STATUS[<int>KIND_DRAIN_DEADLINE], KIND_WORD[<int>KIND_DRAIN_DEADLINE])

    cdef void on_timer(self, int kind) noexcept:
        if kind == TIMER_FIRST_BYTE or kind == TIMER_BODY_IDLE:
            if self.up is not None:
                self.up.abort()
                self.upstream_failed(KIND_FIRST_BYTE_TIMEOUT if kind == TIMER_FIRST_BYTE else KIND_BODY_TIMEOUT)
        elif kind == TIMER_CORK:
            if self.active:
                self._uncork()
        elif kind == TIMER_RETRY:
            self.on_ready()
        elif kind == TIMER_HEDGE:
            hedge_due(self)
        elif kind == TIMER_QUEUE:
            self._queue_timeout()
        elif kind == TIMER_TUNNEL_IDLE:
            self._cancel_upstream(KIND_OK)
            self.down.abort()
            self._finish(KIND_OK)
        elif kind == TIMER_REQUEST and self.active:
            self._cancel_upstream(KIND_REQUEST_TIMEOUT)
            if self.response_sent or (self.response_begun and not self.down.discard_unsent()):
                self.down.abort()
                self._finish(KIND_REQUEST_TIMEOUT)
            else:
                self.response_begun = False
                self._fail(KIND_REQUEST_TIMEOUT)

    cdef void _fail(self, int kind) noexcept:
        """No answer from a backend: one of our own."""
        cdef const char *reason = KIND_WORD[kind]
        cdef char text[256]
        if (self.pool.fallback_answer is not None or self.route.fallback is not None) and degrade(self, kind):
            return
        if (kind == KIND_TLS_VERIFY or kind == KIND_TLS_HANDSHAKE) and self.shown is not None and self.shown.tls_error is not None:
            snprintf(text, sizeof(text), "%s: %s", KIND_WORD[kind], <const char *>self.shown.tls_error)
            reason = text
        self._answer(kind, KIND_STATUS[kind], reason)

    cdef void reject(self, int kind, int status, const char *reason) noexcept:
        """The codec refused the request. The connection cannot be trusted with another."""
        if not self.active:
            self._identify()
        self.keep = False
        self._cancel_upstream(kind)
        if self.response_sent or (self.response_begun and not self.down.discard_unsent()):
            self.down.abort()
            self._finish(kind)
            return
        self._answer(kind, status, reason)

    cdef void _answer(self, int kind, int status, const char *reason) noexcept:
        """An error of our own, as JSON: {"error", "reason", "request_id"}."""
        cdef char body[512]
        cdef const char *retry_after = NULL
        cdef int size
        cdef char id_copy[132]
        cdef uint16_t i
        cdef uint8_t c
        for i in range(self.id_length):
            c = <uint8_t>self.id_text[i]
            # A trusted peer's id may hold anything a field value may; what would need escaping in JSON is replaced.
            id_copy[i] = <char>c if 32 <= c < 127 and c != 34 and c != 92 else b'?'
        id_copy[self.id_length] = 0
        size = snprintf(body, sizeof(body), b'{"error": "%s", "reason": "%s", "request_id": "%s"}\n', status_text(status), reason, id_copy)
        if size >= <int>sizeof(body):
            size = sizeof(body) - 1
        if status == 503 and kind != KIND_DRAIN_DEADLINE:     # there the backend may have done what it was asked for
            retry_after = b"Retry-After: 1\r\n"
        self.say(kind, status, retry_after, "application/json", body, size)

    cdef void say(self, int kind, int status, const char *fields, const char *content_type, const char *body, size_t size) noexcept:
        """An answer of our own, whole. `kind`: why it is not a backend's."""
        self.status = <uint16_t>status
        self.response_begun = self.response_sent = True
        self.bytes_sent = size if self.request.method != METHOD_HEAD else 0
        self.keep = self.keep and self.request_done and not self.listener.closing
        self.down.send_local(status, fields, content_type, body, size, not self.keep)
        self._finish(kind)

    cdef void _finish(self, int kind) noexcept:
        """The exchange is over: log, count, and let the downstream go on."""
        cdef Stream down = self.down
        cdef Context ctx = self.ctx
        cdef int64_t total
        cdef Pool pool = self.pool
        cdef bint keep = self.keep
        cdef unsigned status_class = self.status // 100
        cdef int at
        if not self.active:
            return
        self.active = False
        if self.place.counted:
            if kind == KIND_CLIENT_GONE:
                (<WaitingRoom>pool.room).counters.left += 1
            self._stop_waiting()
        ctx.counters.in_flight -= 1
        ctx.in_flight -= 1
        ctx.counters.kind[kind] += 1
        if self.tunnel:
            ctx.counters.tunnels -= 1
        if status_class > 5:
            status_class = 0
        ctx.counters.status[status_class] += 1
        self.listener.counters.status[status_class] += 1
        ctx.counters.bytes_received += self.bytes_received
        ctx.counters.bytes_sent += self.bytes_sent
        if kind == KIND_OK:
            ctx.counters.answered += 1
        total = ctx.now - self.started
        if pool is not None:
            pool.counters.status[status_class] += 1
            self.route.counters.status[status_class] += 1
            if not self.tunnel:
                at = histogram_index(<uint64_t>total)
                histogram_add_at(pool.latency, at, <uint64_t>total)
                coarse_add_at(&self.route.counters.latency, at, <uint64_t>total)
                if self.first_byte >= 0:
                    histogram_add(pool.first_byte_latency, <uint64_t>self.first_byte)
        ctx.sample_left -= 1
        if self.recorded or kind != KIND_OK or ctx.sample_left < 0:
            record_decision(self, kind)
        if ctx.access_log is not None:
            log_exchange(self, kind)
        down.complete(keep)
        ctx.progress()
