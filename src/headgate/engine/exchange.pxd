"""One request with its response, over one or more attempts: the one place that decides."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from headgate.engine.address cimport Address
from headgate.engine.context cimport Context
from headgate.engine.decisions cimport AttemptNote
from headgate.engine.head cimport Field, Head
from headgate.engine.http1 cimport Answer
from headgate.engine.logline cimport LogEntry
from headgate.engine.model cimport Backend, Listener, Pool, Route
from headgate.engine.reactor cimport Timer, TimerQueue
from headgate.engine.stream cimport ExchangeBase, Stream
from headgate.engine.tls cimport Tls
from headgate.engine.trace cimport Trace
from headgate.engine.upstream cimport BackendConnection
from headgate.engine.waiting cimport WaitingRoom, WaitNode

ctypedef uint8_t truth

cdef enum:
    REQUEST_FIELDS = 100

cdef class Exchange(ExchangeBase):
    # What every request needs comes first and lies close together: after a few dozen others it is in no near cache any
    # more, and each line of 64 bytes is waited for. Truth values are bytes for the same reason.
    cdef Context ctx
    cdef Stream down
    cdef Stream up
    cdef Listener listener
    cdef Route route
    cdef Pool pool
    cdef Backend backend            # of the current attempt
    cdef Backend bound              # named by the client's sticky cookie
    cdef Backend chosen             # already picked for the next attempt
    cdef Backend shown              # of the last attempt, for the log
    cdef set tried
    cdef Tls tls                    # the client's; None = plain
    cdef ExchangeBase hedge         # hedge.Hedge: the first attempt, while a second one is under way
    cdef Head request
    cdef Head response
    cdef Timer timer                # first byte, body idle, tunnel idle: one at a time
    # progress
    cdef int64_t started            # monotonic ns: the request's head was complete
    cdef uint64_t started_wall
    cdef int64_t attempt_started
    cdef int64_t attempt_first_byte # ns since attempt_started; -1 = none yet
    cdef double retry_after         # seconds that the attempt's answer asks for (429 and 503); -1 = it does not
    cdef int64_t first_byte         # ns since started; -1 = none yet
    cdef int64_t connect_since      # when the first attempt of this run of connect failures began
    cdef uint64_t body_limit        # bytes; 0 = none
    cdef uint64_t bytes_received
    cdef uint64_t bytes_sent
    cdef int64_t queued_ns          # in the queue (waiting.pyx) so far; -1 = never
    cdef uint16_t attempts          # started, connect failures and stale replays included
    cdef uint16_t counted           # those that count against `retries`
    cdef uint16_t status            # answered, or to be answered
    cdef uint16_t failed_all        # attempts that did not go well
    cdef uint8_t failed_kept        # of failed_notes
    cdef uint8_t failed_count       # attempts that failed, the first six of them
    cdef uint8_t last_kind
    cdef uint8_t notes              # retry.Note: what the log says besides
    cdef uint8_t to_framing         # of the response to the client
    cdef uint8_t request_framing    # to the backend
    cdef truth active               # between request_head() and the end
    cdef truth request_done
    cdef truth response_begun       # a final head was given to the downstream
    cdef truth interim_sent         # a 1xx may have reached the client: no retry, but a final answer may still be given
    cdef truth response_sent        # bytes of the final response may have reached the client
    cdef truth response_done
    cdef truth ended                # the last body bytes carried the end with them
    cdef truth keep
    cdef truth tunnel
    cdef truth tunnel_up_ended
    cdef truth tunnel_down_ended
    cdef truth stale_replayed
    cdef truth paid                 # a token was taken for a retry that has not begun
    cdef truth hedged               # a second attempt was sent beside one
    cdef truth excused              # this failure does not count against the backend
    cdef truth connected
    cdef truth upgrade_offered
    cdef truth trusted
    cdef truth contradicted         # the trusted peer's Forwarded names another client than its X-Forwarded-For
    cdef truth recorded             # to be kept among the decisions, whatever becomes of it
    cdef truth broken               # an attempt failed, by no fault of the client
    cdef truth traced               # `trace` is one
    cdef truth queue_spent          # has waited as long as it may
    cdef truth limited              # total_timer runs
    cdef truth pausing              # pause_timer runs
    # who asks
    cdef Address peer
    cdef Address client
    cdef const char *peer_text      # the connection's
    cdef const char *client_text
    cdef const char *id_text
    cdef uint16_t peer_length
    cdef uint16_t client_length
    cdef uint16_t id_length
    cdef char id_buffer[32]
    cdef WaitNode place             # in the queue; its first word tells whether it is
    cdef Field request_fields[REQUEST_FIELDS]       # as many as the default limit allows; more stand elsewhere
    # what few need
    cdef Timer total_timer          # whole request
    cdef Timer pause_timer          # a hedge is to come, the head waits for its first body byte, or a retry waits
    cdef int64_t pause              # ns before the next retry
    cdef char client_buffer[48]
    cdef uint8_t failed_kind[6]
    cdef int failed_slot[6]
    cdef AttemptNote *failed_notes  # NULL until the first one (record.pyx)
    cdef Trace trace                # tracing.pyx
    cdef char trace_id_buffer[32]   # of a log line that has it

    cdef void begin(self, Stream down, Listener listener) noexcept
    cdef void reject(self, int kind, int status, const char *reason) noexcept
    cdef void cut_off(self) noexcept
    cdef void release(self) noexcept
    cdef void _identify(self) noexcept
    cdef void _route(self) noexcept
    cdef Backend _pick(self)
    cdef Backend _checked(self, object picked, object tried)
    cdef Backend _fall_back(self, object tried)
    cdef void _attempt(self) noexcept
    cdef bint _introduce(self, BackendConnection up) noexcept
    cdef int _begin_attempt(self, Backend backend, bint fresh) noexcept
    cdef void _attempt_over(self, int kind) noexcept
    cdef double asks_for_pause(self, Head *head) noexcept
    cdef void enter(self, Route route) noexcept
    cdef int write_head(self, Stream up, Backend backend) noexcept
    cdef void say(self, int kind, int status, const char *fields, const char *content_type, const char *body, size_t size) noexcept
    cdef bint _may_retry(self, int kind, bint never_sent) noexcept
    cdef void _fail(self, int kind) noexcept
    cdef void _answer(self, int kind, int status, const char *reason) noexcept
    cdef void _cancel_upstream(self, int kind) noexcept
    cdef void _switch(self, Head *head, const Answer *answer) noexcept
    cdef void _tunnel_over(self) noexcept
    cdef bint _upgrade_allowed(self) noexcept
    cdef void _report(self, object what) noexcept
    cdef void _too_large(self) noexcept
    cdef void _uncork(self) noexcept
    cdef int64_t _relayed(self, int64_t taken, size_t size, bint last) noexcept
    cdef void _retry_later(self) noexcept
    cdef void _lost_client(self) noexcept
    cdef void _no_room(self) noexcept
    cdef void _dismiss(self, int status) noexcept
    cdef bint _replayable(self) noexcept
    cdef void tried_add(self, Backend backend) noexcept
    cdef void _finish(self, int kind) noexcept
    cdef bint _idempotent(self) noexcept
    cdef bint _waits_first(self, WaitingRoom room) noexcept
    cdef bint _waits(self, WaitingRoom room, Backend bound) noexcept
    cdef void _stop_waiting(self) noexcept
    cdef void _queue_timeout(self) noexcept

cdef Exchange exchange_acquire(Context ctx)

cdef void begin_pause(Exchange x, TimerQueue *queue, int kind) noexcept

cdef void report_shortage(Context ctx, str what) noexcept
