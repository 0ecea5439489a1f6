"""What all connections of one engine share."""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from headgate.engine.accesslog cimport AccessLog
from headgate.engine.buffers cimport BufferPool
from headgate.engine.decisions cimport Decisions
from headgate.engine.pipes cimport PipePool
from headgate.engine.reactor cimport Handler, Reactor, TimerQueue
from headgate.engine.stats cimport MAX_KINDS, Segment, WorkerCounters
from headgate.engine.tls cimport Tls, TlsDesk

cdef extern from *:
    """
    /* As many as one batch of events can begin or end. */
    #define HG_SPARE_EXCHANGES 256
    """
    enum:
        SPARE_EXCHANGES "HG_SPARE_EXCHANGES"

cdef enum Kind:                 # headgate.errors.Kind; checked against it at import
    KIND_OK = 0
    KIND_CONNECT_REFUSED
    KIND_CONNECT_TIMEOUT
    KIND_CONNECT_FAILED
    KIND_RESET
    KIND_FIRST_BYTE_TIMEOUT
    KIND_BAD_HEAD
    KIND_BAD_STATUS
    KIND_SERVER_ERROR
    KIND_TRUNCATED
    KIND_BODY_TIMEOUT
    KIND_BAD_BODY
    KIND_STALE
    KIND_CLIENT_GONE
    KIND_CLIENT_TIMEOUT
    KIND_NO_BACKEND
    KIND_LOCAL_RESOURCE
    KIND_BAD_REQUEST
    KIND_BODY_TOO_LARGE
    KIND_URI_TOO_LONG
    KIND_HEAD_TOO_LARGE
    KIND_NOT_IMPLEMENTED
    KIND_VERSION_NOT_SUPPORTED
    KIND_NO_ROUTE
    KIND_METHOD_NOT_ALLOWED
    KIND_EXPECTATION_FAILED
    KIND_MISDIRECTED
    KIND_INTERNAL
    KIND_REQUEST_TIMEOUT
    KIND_OVERLOADED
    KIND_QUEUE_TIMEOUT
    KIND_SLOW_CLIENT
    KIND_HEDGE_LOST
    KIND_TLS_VERIFY
    KIND_TLS_HANDSHAKE
    KIND_DRAIN_DEADLINE
    KIND_COUNT

cdef enum Retry:
    RETRY_NEVER = 0
    RETRY_IDEMPOTENT
    RETRY_ALWAYS

cdef enum Verdict:
    VERDICT_NONE = 0
    VERDICT_SUCCESS
    VERDICT_CONNECT
    VERDICT_TRANSPORT
    VERDICT_ANSWER

cdef uint16_t KIND_STATUS[MAX_KINDS]
cdef uint8_t KIND_RETRY[MAX_KINDS]
cdef uint8_t KIND_VERDICT[MAX_KINDS]
cdef const char *KIND_WORD[MAX_KINDS]



cdef const char *status_text(int status) noexcept nogil

cdef class Context(Reactor):
    cdef readonly Segment segment
    cdef readonly int worker
    cdef public AccessLog access_log
    cdef WorkerCounters *counters
    cdef public Decisions decisions     # where they are kept; None = nowhere
    cdef int64_t sample_every           # one request of so many, on average, is kept among them; 0 = none
    cdef int64_t sample_left            # requests before the next one
    cdef int query_kept                 # of a path among them: 0 = no query, 1 = names, 2 = all of it
    cdef int tracing                    # trace.TRACING_*
    cdef uint64_t trace_share           # of 2**64: how many of the traces that begin here are sampled
    cdef BufferPool buffers
    cdef PipePool pipes
    cdef uint64_t random[2]
    cdef PyObject *spare[SPARE_EXCHANGES]   # Exchanges that serve nobody, owned; the last one was used last
    cdef int spare_count
    cdef list rooms                     # WaitingRoom of every pool with limits
    cdef TimerQueue *cork               # how long a response head waits for its first body byte
    cdef TimerQueue *linger             # how long a connection is drained before it is closed
    cdef TlsDesk desk                   # of the connections that speak TLS; None until there is one
    cdef int64_t shaken_ns              # spent on TLS handshakes in this batch
    cdef uint32_t shakes_waiting        # connections in the ready queue that go on with theirs
    cdef bint draining
    cdef bint closing_idle              # a connection that has nothing to do is closed (the end of a drain)
    cdef int64_t connections            # open client connections of this engine
    cdef int64_t in_flight              # exchanges
    cdef char _date[32]
    cdef int64_t _date_second
    cdef const char *date(self) noexcept        # "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7), 29 bytes
    cdef uint64_t wall_ns(self) noexcept
    cdef void error(self, str where, object exception) noexcept
    cdef int64_t descriptor_limit       # RLIMIT_NOFILE
    cdef bint short_of_descriptors(self) noexcept
    cdef Tls begin_tls(self, object context, bint server, object server_name, object session)
    cdef bint may_shake(self, Handler handler, bint waited) noexcept     # False: it goes on from the ready queue
    cdef int shake(self, Tls tls, int fd) noexcept              # Tls.handshake(), and what it cost
    cdef void progress(self) noexcept           # a connection or an exchange ended: a drain may be complete
