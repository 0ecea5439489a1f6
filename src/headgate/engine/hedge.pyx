"""Hedging (Dean and Barroso, "The Tail at Scale", CACM 2013): when an attempt takes longer than most do, the same request
goes to a second backend, and the first good head of the two is the answer.

How it fits in. An exchange works with one attempt. When a hedge is due, the first attempt is *parked*: its stream gets a
`Hedge` for its exchange, which does nothing but wait for the head; it has been sent whole, so nothing else is left to do.
The exchange then begins a second attempt by its ordinary path, with everything that belongs to one. What happens next:

    second one gets a good head     the parked one is cancelled; the exchange goes on as ever
    parked one gets a good head     the second one is cancelled, the parked one comes back into the exchange
    second one fails                it is accounted for, the parked one comes back
    parked one fails                it is accounted for and gone

so from the first good head on, and after any failure, there is one attempt again and nothing knows that there were two.
A head is good unless its status is one that would be tried elsewhere. The loser's connection is closed: HTTP/1 has no
other way to say "never mind". It says nothing about its backend (Kind.HEDGE_LOST).

Only idempotent requests, only when all of the body is still in the client's buffer, never away from the backend a
session is bound to, once per exchange, and out of the retry budget.
"""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint16_t, uint8_t
from libc.stdlib cimport free, malloc

from headgate.engine.budget cimport budget_refund, budget_withdraw
from headgate.engine.context cimport (
    KIND_BAD_HEAD, KIND_BAD_STATUS, KIND_FIRST_BYTE_TIMEOUT, KIND_HEDGE_LOST, KIND_LOCAL_RESOURCE, KIND_OK, KIND_RETRY, RETRY_ALWAYS, Context,
)
from headgate.engine.exchange cimport Exchange, begin_pause
from headgate.engine.head cimport FRAMING_NONE, Field, Head
from headgate.engine.http1 cimport head_init
from headgate.engine.model cimport Backend
from headgate.engine.reactor cimport TimerQueue
from headgate.engine.retry cimport NOTE_HEDGED
from headgate.engine.stats cimport PoolCounters
from headgate.engine.stream cimport SEND_BROKEN, ExchangeBase, Stream
from headgate.engine.upstream cimport BackendConnection
from headgate.engine.waiting cimport NO_PLACE

cdef enum:
    TIMER_FIRST_BYTE = 1
    TIMER_HEDGE = 32            # exchange.pyx has the others
    RESPONSE_FIELDS = 250


cdef void hedge_arm(Exchange x) noexcept:
    """An attempt begins: when is a second one due? The pause timer is free until there is a head."""
    cdef TimerQueue *queue
    if x.hedged or x.upgrade_offered or not x._idempotent():
        return
    queue = x.pool.hedge_queue(x.ctx)
    if queue != NULL:
        begin_pause(x, queue, TIMER_HEDGE)


cdef Backend _other(Exchange x):
    """Where the second attempt goes; None when there is nobody else."""
    cdef set tried = x.tried
    cdef Backend other
    x.tried = set() if tried is None else set(tried)
    x.tried.add(x.backend)
    other = x._pick()
    x.tried = tried
    return other


cdef void hedge_due(Exchange x) noexcept:
    """The first attempt has taken long enough: begin a second one, if it may be."""
    cdef Hedge parked
    cdef Backend other
    cdef int kind
    cdef Context ctx = x.ctx
    cdef PoolCounters *counters
    if not x.active or x.up is None or x.hedged or x.response_begun or x.interim_sent:
        return
    if not x.request_done:
        # The client is still sending, or the backend reading: that is no reason for a second attempt, but may end soon.
        hedge_arm(x)
        return
    if x.backend is x.bound:
        return
    other = _other(x)
    if other is None:
        return
    try:
        parked = Hedge(x)
    except MemoryError:
        return
    if not budget_withdraw(&x.pool.budget, x.ctx.now):
        x.ctx.counters.retries_refused += 1
        x.pool.counters.hedges_refused += 1
        return
    parked.bytes_received = x.bytes_received
    if not x.down.rewind():
        budget_refund(&x.pool.budget)
        return
    x.hedged = True
    counters = x.pool.counters
    x.tried_add(x.backend)
    _park(x, parked)
    x.notes |= NOTE_HEDGED
    kind = x._begin_attempt(other, False)
    if kind < NO_PLACE:
        ctx.counters.hedges += 1
        counters.hedges += 1
    if kind == KIND_OK:
        return
    if kind >= NO_PLACE:
        x.notes &= ~NOTE_HEDGED             # a hedge does not wait for a place
    else:
        x._attempt_over(kind)
        x.tried_add(other)
    if kind >= NO_PLACE or KIND_RETRY[kind] == RETRY_ALWAYS:
        budget_refund(&x.pool.budget)
    hedge_back(x)


cdef void _swap_heads(Exchange x, Hedge parked) noexcept:
    """The heads with their arrays of fields: what was parsed of one so far goes along with its stream."""
    cdef Head other = x.response
    x.response = parked.response
    parked.response = other


cdef void _park(Exchange x, Hedge parked) noexcept:
    """The exchange's attempt becomes the parked one."""
    parked.up = <BackendConnection>x.up
    parked.backend = x.backend
    parked.attempt_started = x.attempt_started
    parked.connected = x.connected
    x.ctx.move_timer(&parked.timer, &x.timer)
    _swap_heads(x, parked)
    parked.up.exchange = parked
    parked.up.head = &parked.response
    x.up = None
    x.backend = None
    x.hedge = parked


cdef void _unpark(Exchange x, Hedge parked) noexcept:
    """And back. The exchange's own attempt is over."""
    x.up = parked.up
    x.backend = x.shown = parked.backend
    x.attempt_started = parked.attempt_started
    x.attempt_first_byte = -1
    x.retry_after = -1
    x.connected = parked.connected
    x.ctx.move_timer(&x.timer, &parked.timer)
    _swap_heads(x, parked)
    parked.up.exchange = x
    parked.up.head = &x.response
    # What of the body the second attempt had not sent yet is nobody's any more.
    x.down.skip_body()
    x.request_done = True
    x.bytes_received = parked.bytes_received


cdef void hedge_back(Exchange x) noexcept:
    cdef Hedge parked = <Hedge>x.hedge
    _unpark(x, parked)
    parked._drop()


cdef void hedge_cancel(Exchange x, int kind) noexcept:
    cdef Hedge parked = <Hedge>x.hedge
    parked.up.abort()
    parked._account(kind, 0, -1)
    parked._drop()


cdef class Hedge(ExchangeBase):
    """The first attempt of an exchange that has begun a second one."""

    def __cinit__(self, Exchange x):
        cdef Field *fields = <Field *>malloc(RESPONSE_FIELDS * sizeof(Field))
        if fields == NULL:
            raise MemoryError
        self.x = x
        self.reactor = x.ctx
        self.timer.owner = <PyObject *>self
        head_init(&self.response, fields, RESPONSE_FIELDS)

    def __dealloc__(self):
        if self.reactor is not None:
            self.reactor.disarm(&self.timer)
        free(self.response.fields)

    cdef void _drop(self) noexcept:
        """The exchange has one attempt again."""
        cdef Exchange x = self.x
        # One of its own methods may have led here: it lives to the end of the batch, as connections do.
        x.ctx._closed.append(self)
        x.ctx.disarm(&self.timer)
        x.hedge = None
        self.up = None
        self.backend = None

    cdef void _account(self, int kind, int status, double retry_after) noexcept:
        """The parked attempt is over: what `Exchange._attempt_over` does, with this one in the place of the other."""
        cdef Exchange x = self.x
        cdef Backend backend = x.backend
        cdef BackendConnection up = x.up
        cdef int64_t started = x.attempt_started, first_byte = x.attempt_first_byte
        cdef double asked = x.retry_after
        cdef uint8_t last_kind = x.last_kind
        cdef uint16_t answered = x.status
        x.backend = self.backend
        x.attempt_started = self.attempt_started
        x.attempt_first_byte = x.ctx.now - self.attempt_started if status else -1
        x.retry_after = retry_after
        x.status = <uint16_t>status
        x.excused = 0 < status < 500 or (status == 503 and retry_after >= 0)
        x._attempt_over(kind)
        x.backend = backend
        x.up = up
        x.attempt_started = started
        x.attempt_first_byte = first_byte
        x.retry_after = asked
        x.last_kind = last_kind
        x.status = answered

    cdef void upstream_connected(self) noexcept:
        """It was parked while it connected; only a request without body is."""
        cdef Exchange x = self.x
        self.connected = True
        x.ctx.arm(&self.timer, x.route.first_byte, TIMER_FIRST_BYTE)
        if x.write_head(self.up, self.backend) == SEND_BROKEN:
            self.up.abort()
            self._account(KIND_LOCAL_RESOURCE, 0, -1)
            self._drop()
        elif self.up.flush() == SEND_BROKEN:
            self.up.write_failed()

    cdef void upstream_writable(self) noexcept:
        pass

    cdef bint response_head(self, Head *head, bint more) noexcept:
        cdef Exchange x = self.x
        cdef Stream loser
        cdef int status = head.status
        cdef double retry_after
        if status < 200 and status != 101:
            # Not relayed: the client would have to believe that this backend is going to answer.
            x.ctx.arm(&self.timer, x.route.first_byte, TIMER_FIRST_BYTE)
            return True
        if status == 101 or (status >= 400 and x.pool.retry_status[status - 400]):
            retry_after = x.asks_for_pause(head)
            self.up.abort()
            x.tried_add(self.backend)
            self._account(KIND_BAD_HEAD if status == 101 else KIND_BAD_STATUS, status, retry_after)
            self._drop()
            return False
        loser = x.up
        x.up = None
        x.ctx.suspend(&x.timer)
        loser.abort()
        x._attempt_over(KIND_HEDGE_LOST)
        hedge_back(x)
        return x.response_head(&x.response, more)

    cdef void upstream_failed(self, int kind) noexcept:
        """Its stream is closed already."""
        self._account(kind, 0, -1)
        self._drop()

    cdef void on_timer(self, int kind) noexcept:
        if self.up is not None:
            self.up.abort()
            self.upstream_failed(KIND_FIRST_BYTE_TIMEOUT)
