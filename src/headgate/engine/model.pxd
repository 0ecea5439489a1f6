"""What the engine keeps of the configuration: listeners, routes, pools, backends. Python sets them up, C reads them."""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from headgate.engine.address cimport Networks
from headgate.engine.budget cimport Budget
from headgate.engine.http1 cimport Limits
from headgate.engine.reactor cimport Handler, Reactor, TimerQueue
from headgate.engine.recent cimport RecentLatency
from headgate.engine.stats cimport (
    BackendCounters, BackendPlaces, BackendState, CoarseHistogram, Histogram, ListenerCounters, PoolCounters, RouteCounters, Segment,
)

cdef class Listener:
    cdef readonly int fd
    cdef public object match
    cdef public Route only_route
    cdef public object status
    cdef public object ready
    cdef readonly object config
    cdef readonly str bind
    cdef bytes bind_bytes
    cdef bytes status_path
    cdef bytes ready_path
    cdef bytes via
    cdef Networks status_allow
    cdef Networks trusted
    cdef bint has_trusted
    cdef Networks proxies               # who speaks the PROXY protocol here; None = nobody
    cdef int64_t refusal_said           # ns: when somebody who was refused was last spoken of
    cdef uint32_t refusals              # since then
    cdef uint8_t forwarded              # http1.ForwardedForm
    cdef bint allow_half_close
    cdef public object tls              # ssl.SSLContext, for connections to come; None = plain HTTP
    cdef public object identify         # asked after a handshake: (SSLObject) -> (identity, header lines for backends)
    cdef public bint match_identity     # match(host, path, identity) instead of match(host, path)
    cdef double handshake_s
    cdef uint32_t max_handshakes        # in progress; 0 = no limit
    cdef bytes hsts                     # the whole header line; None = none
    cdef int redirect_https             # port that requests are sent away to; 0 = they are served
    cdef TimerQueue *handshake
    cdef int64_t handshakes_said        # ns: when handshakes that failed were last told in the log
    cdef uint32_t handshakes_failed     # since then
    cdef public bint closing            # every answer says Connection: close: the listener is going, or this process
    cdef uint32_t max_connections
    cdef uint32_t max_connections_per_client
    cdef Limits limits
    cdef int64_t body_limit             # -1 = none
    cdef double client_header_s
    cdef double client_body_s
    cdef double client_idle_s
    cdef double client_write_s
    cdef Reactor reactor                # None until it was added to an engine
    cdef readonly int slot              # where it counts; 0 = with those that have no place of their own
    cdef ListenerCounters *counters     # NULL until it was added to an engine
    cdef TimerQueue *client_header
    cdef TimerQueue *client_body
    cdef TimerQueue *client_idle
    cdef TimerQueue *client_write
    cdef void bind_timers(self, Reactor reactor) noexcept

cdef class Pool:
    cdef readonly str name
    cdef readonly int slot
    cdef readonly object config
    cdef public object pick
    cdef public object fallback
    cdef public object done
    cdef public object strategy_error
    cdef public object outcome
    cdef public object probe
    cdef public object fallback_answer  # fallback.StaticAnswer, when nothing is routable
    cdef public dict sticky
    cdef public bytes sticky_name
    cdef bytes name_bytes
    cdef bytes host                     # replaces Host; None = as the client sent it
    cdef bint host_of_backend
    cdef int proxy_version              # of the PROXY protocol that its backends are told; 0 = they are not
    cdef int retries
    cdef uint8_t retry_status[200]      # by status - 400: such an answer may be tried elsewhere
    cdef uint64_t retry_kinds           # bit n: Kind n may be retried where its table row allows it
    cdef Budget budget                  # what retries and hedges are paid from
    cdef double budget_ratio            # < 0 = no limit
    cdef int64_t budget_reserve
    cdef RecentLatency recent           # of the pool's first bytes
    cdef bint hedges                    # is there anything about hedging to do for a request?
    cdef double hedge_s                 # 0 = by quantile
    cdef double hedge_quantile
    cdef TimerQueue *hedge_timer        # NULL = not known yet
    cdef uint32_t keepalive             # idle connections kept per backend
    cdef double connect_s
    cdef double first_byte_s
    cdef double body_idle_s
    cdef double keepalive_s
    cdef double request_s
    cdef double tunnel_idle_s
    cdef TimerQueue *connect
    cdef TimerQueue *keepalive_queue
    cdef Histogram *latency
    cdef Histogram *first_byte_latency
    cdef PoolCounters *counters
    cdef public list members            # its backends, for the waiting room
    cdef public int eligible_count      # how many of them may be picked for a new session now
    cdef public object limiter          # adaptive concurrency: has `limit` and update(seconds, in_flight) -> limit; None = off
    cdef bint limited                   # anything in it has a limit
    cdef uint32_t max_requests          # attempts in flight, all workers; 0 = no limit
    cdef uint32_t queue_size
    cdef double queue_s
    cdef Handler room                   # WaitingRoom (waiting.pxd); None while nothing is limited
    cdef set full                       # eligible backends that have no place left, None when there are none
    cdef bint bound
    cdef uint32_t version               # grows when the settings change
    cdef void bind_engine(self, Reactor reactor, Segment segment, int worker) noexcept
    cdef TimerQueue *hedge_queue(self, Reactor reactor) noexcept   # after how long an attempt is hedged; NULL = not at all
    cdef int64_t expected_first_byte(self, int64_t now) noexcept   # ns: the median of late; 0 = not known

cdef class Route:
    cdef readonly Pool pool
    cdef readonly object config
    cdef public Route fallback          # where requests go when nothing in the pool is routable
    cdef int64_t body_limit             # -1 = none, -2 = the listener's
    cdef frozenset upgrade              # lower-case protocol names that may pass
    cdef bint websocket
    cdef readonly str name              # what it is called in logs
    cdef bytes name_bytes
    cdef readonly int slot              # where it counts; 0 = with those that have no place of their own
    cdef RouteCounters *counters
    cdef TimerQueue *first_byte
    cdef TimerQueue *body_idle
    cdef TimerQueue *request
    cdef TimerQueue *tunnel_idle
    cdef uint32_t version               # of the pool's settings that the timers were taken from
    cdef void bind_engine(self, Reactor reactor, Segment segment, int worker) noexcept

cdef class Backend:
    cdef readonly Pool pool
    cdef readonly int slot
    cdef readonly str name
    cdef readonly str url
    cdef readonly object config
    cdef public bint eligible
    cdef public bint bound_ok
    cdef public bint watched
    cdef public double share
    cdef public int priority
    cdef public bytes set_cookie
    cdef public object tls              # ssl.SSLContext; None = plain HTTP
    cdef public object server_name      # whose certificate it must be, and SNI
    cdef object session                 # ssl.SSLSession of the last handshake, and
    cdef object session_of              # what it belongs to: (context, server_name)
    cdef readonly bytes tls_error                # why the last handshake failed
    cdef int64_t tls_said               # ns: when that was last told in the log
    cdef bytes url_bytes
    cdef bytes name_bytes
    cdef bytes host
    cdef list _addresses                # packed sockaddr, owned
    cdef uint32_t preferred             # index of the address that worked last
    cdef Segment segment
    cdef int worker
    cdef BackendState *state
    cdef BackendCounters *counters
    cdef BackendPlaces *places
    cdef CoarseHistogram *first_byte_latency
    cdef uint32_t max_requests          # attempts in flight, all workers; 0 = no limit
    cdef uint32_t max_connections       # open connections, all workers; 0 = no limit
    cdef bint full                      # stands in Pool.full
    cdef int64_t others                 # attempts in flight in the other workers, as read at others_at
    cdef int64_t others_at
    cdef Reactor reactor
    cdef PyObject *idle                 # most recently used idle connection (BackendConnection), borrowed: the reactor owns it
    cdef uint32_t idle_count
    cdef uint32_t era                   # how often kept connections were dropped: one from an earlier era is not kept again
    cdef int64_t learned_idle           # ns after which this backend closes idle connections; 0 = unknown
    cdef int64_t proven_idle            # ns: the longest idle time after which a connection still answered
    cdef int64_t in_flight(self) noexcept       # what `active` says
    cdef void learn_idle(self, int64_t age, bint raced) noexcept
    cdef void prove_idle(self, int64_t age) noexcept
