"""What the engine keeps of the configuration. See ARCHITECTURE.md, "The engine as Python sees it"."""
from libc.stdint cimport int64_t
from libc.string cimport memset

from headgate.engine.address cimport Networks
from headgate.engine.budget cimport budget_configure
from headgate.engine.places cimport places_add
from headgate.engine.reactor cimport Reactor, TimerQueue
from headgate.engine.recent cimport RecentLatency
from headgate.engine.stats cimport Segment

# No server is configured to close idle connections sooner than this; who does, closes them for another reason.
cdef enum:
    SHORTEST_IDLE_NS = 100000000
    # A second attempt sooner than this would be one for the scheduler's sake.
    SHORTEST_HEDGE_NS = 1000000

cdef tuple _NO_RAMP = (0.0, 0.0)
# As in the configuration; in the order of http1.ForwardedForm.
FORWARDED_FORMS = ("x", "rfc7239", "both")


cdef double _seconds(object value):
    """A configured duration in seconds; None and "off" are 0."""
    return 0.0 if value is None else float(value)


cdef class Listener:
    """One listening socket and what holds for requests that come in by it.

    `fd` is a bound, listening, non-blocking socket; the engine owns it once the listener is added.
    `config` is a `headgate.config.schema.Listener`.
    """

    def __init__(self, int fd, object config, int slot = 0) -> None:
        self.fd = fd
        self.slot = slot
        self.bind = config.bind.text
        self.bind_bytes = self.bind.encode()
        self.configure(config)

    def configure(self, object config) -> None:
        """Take over settings that can change while it runs (limits, timeouts, trusted proxies...); not `bind`."""
        self.config = config
        self.status_path = (config.status_path or "").encode()
        self.ready_path = (config.ready_path or "").encode()
        self.via = (config.via or "").encode("latin-1")
        self.status_allow = Networks(list(config.status_allow))
        self.trusted = Networks(list(config.trusted_proxies))
        self.has_trusted = bool(config.trusted_proxies)
        self.proxies = Networks(list(config.proxy_protocol)) if config.proxy_protocol else None
        self.forwarded = FORWARDED_FORMS.index(config.forwarded)
        self.allow_half_close = config.allow_half_close
        self.max_connections = config.max_connections or 0
        self.max_connections_per_client = config.max_connections_per_client or 0
        self.limits.head = config.limits.head
        self.limits.headers = config.limits.headers
        self.limits.request_line = config.limits.request_line
        self.body_limit = config.limits.body or -1
        self.client_header_s = _seconds(config.timeouts.client_header)
        self.client_body_s = _seconds(config.timeouts.client_body)
        self.client_idle_s = _seconds(config.timeouts.client_idle)
        self.client_write_s = _seconds(config.timeouts.client_write)
        tls = config.tls
        self.handshake_s = 10.0 if tls is None else _seconds(tls.handshake_timeout)
        self.max_handshakes = 0 if tls is None else tls.max_handshakes or 0
        self.hsts = None
        if tls is not None and tls.hsts is not None:
            self.hsts = b"Strict-Transport-Security: " + tls.hsts.value.encode("latin-1") + b"\r\n"
        self.redirect_https = config.redirect_https
        if self.reactor is not None:
            self.bind_timers(self.reactor)

    cdef void bind_timers(self, Reactor reactor) noexcept:
        self.reactor = reactor
        self.client_header = reactor.queue(self.client_header_s)
        self.client_body = reactor.queue(self.client_body_s)
        self.client_idle = reactor.queue(self.client_idle_s)
        self.client_write = reactor.queue(self.client_write_s)
        self.handshake = reactor.queue(self.handshake_s)

    def __repr__(self) -> str:
        return f"<Listener {self.bind}>"


cdef class Pool:
    """Backends and how one is picked. Callbacks are set by the policy glue (`headgate.runtime.pool`)."""

    def __init__(self, str name, int slot, object config) -> None:
        self.name = name
        self.name_bytes = name.encode()
        self.slot = slot
        self.sticky_name = b""
        self.recent = RecentLatency()
        self.members = []
        self.configure(config)

    def configure(self, object config) -> None:
        """Take over settings that can change while it runs (timeouts, retries, host, limits). Takes effect for new attempts."""
        self.config = config
        self.host = None
        self.host_of_backend = False
        if config.host == "backend":
            self.host_of_backend = True
        elif config.host and config.host != "client":
            self.host = config.host.encode("latin-1")
        self.retries = config.retry.retries
        self.retry_kinds = 0
        for kind in config.retry.kinds():
            self.retry_kinds |= <unsigned long long>1 << <int>kind
        self.budget_ratio = -1.0 if config.retry.budget is None else config.retry.budget
        self.budget_reserve = config.retry.reserve
        hedge_after = config.retry.hedge_after
        self.hedges = bool(hedge_after)
        self.hedge_s = 0.0 if isinstance(hedge_after, str) else _seconds(hedge_after)
        self.hedge_quantile = float(hedge_after[1:]) / 100 if isinstance(hedge_after, str) else 0.0
        self.hedge_timer = NULL
        memset(self.retry_status, 0, sizeof(self.retry_status))
        for status in config.retry.statuses():
            if 400 <= status < 600:
                self.retry_status[<int>status - 400] = 1
        # A connection that told its backend who the client is serves nobody else.
        self.proxy_version = int(config.proxy_protocol[1:]) if config.proxy_protocol else 0
        self.keepalive = 0 if self.proxy_version else config.keepalive or 0
        if self.proxy_version:
            for backend in self.members:
                backend.close_idle()            # kept ones told nothing
        self.connect_s = _seconds(config.timeouts.connect)
        self.first_byte_s = _seconds(config.timeouts.first_byte)
        self.body_idle_s = _seconds(config.timeouts.body_idle)
        self.keepalive_s = _seconds(config.timeouts.keepalive)
        self.request_s = _seconds(config.timeouts.request)
        self.tunnel_idle_s = _seconds(config.timeouts.tunnel_idle)
        self.max_requests = config.limits.max_requests or 0
        self.queue_size = config.queue.size or 0
        self.queue_s = _seconds(config.queue.timeout)
        self.limited = bool(self.max_requests or config.limits.adaptive)
        for backend in config.backends:
            if backend.max_requests or backend.max_connections:
                self.limited = True
        self.bound = False
        self.version += 1
        self.changed()

    def changed(self) -> None:
        """Limits, members or what may be picked have changed: who waits may have a place now, or no reason to wait any more."""
        if self.room is not None:
            self.room.reactor.make_ready(self.room)

    cdef void bind_engine(self, Reactor reactor, Segment segment, int worker) noexcept:
        self.connect = reactor.queue(self.connect_s)
        self.keepalive_queue = reactor.queue(self.keepalive_s)
        self.latency = segment.pool_latency(worker, self.slot)
        self.first_byte_latency = segment.pool_first_byte(worker, self.slot)
        self.counters = segment.pool_counters(worker, self.slot)
        self.recent.source = self.first_byte_latency
        budget_configure(&self.budget, self.budget_ratio, self.budget_reserve, 1)
        if self.hedges and self.hedge_s > 0:
            self.hedge_timer = reactor.queue(self.hedge_s)
        self.bound = True

    def share_reserve(self, int workers) -> None:
        """So many workers share the reserve of the retry budget; to be said again after each configure()."""
        cdef int64_t part = (<int64_t>self.config.retry.reserve + workers - 1) // workers
        if part != self.budget_reserve:
            self.budget_reserve = part
            self.bound = False
            self.version += 1

    @property
    def retry_tokens(self) -> float:
        """Retries and hedges that this worker may send now; `retry.budget`."""
        return (self.budget.window + self.budget.reserve) / 1e6

    cdef TimerQueue *hedge_queue(self, Reactor reactor) noexcept:
        cdef int64_t delay
        if self.hedge_s > 0:
            return self.hedge_timer
        if self.recent.look(reactor.now):
            delay = self.recent.quantile(self.hedge_quantile)
            self.hedge_timer = reactor.queue((delay if delay > SHORTEST_HEDGE_NS else SHORTEST_HEDGE_NS) / 1e9) if delay >= 0 else NULL
        return self.hedge_timer

    cdef int64_t expected_first_byte(self, int64_t now) noexcept:
        cdef int64_t median
        self.recent.look(now)
        median = self.recent.quantile(0.5)
        return median if median > 0 else 0

    def __repr__(self) -> str:
        return f"<Pool {self.name}>"


cdef class Route:
    """A pool, with what this route changes for the requests it matches. `config` may be None: the pool's own settings."""

    def __init__(self, Pool pool, object config = None, int slot = 0, str name not None = "") -> None:
        self.pool = pool
        self.config = config
        self.slot = slot
        self.name = name
        self.name_bytes = name.encode()
        body = None if config is None else config.limits.body
        self.body_limit = -2 if body is None else (body or -1)
        upgrade = ("websocket",) if config is None else config.upgrade
        self.upgrade = frozenset(name.lower().encode() for name in upgrade)
        self.websocket = b"websocket" in self.upgrade

    def _timeout(self, str name):
        own = getattr(getattr(self.config, "timeouts", None), name, None)
        return getattr(self.pool.config.timeouts, name) if own is None else own

    cdef void bind_engine(self, Reactor reactor, Segment segment, int worker) noexcept:
        self.counters = segment.route_counters(worker, self.slot)
        self.first_byte = reactor.queue(_seconds(self._timeout("first_byte")))
        self.body_idle = reactor.queue(_seconds(self._timeout("body_idle")))
        self.request = reactor.queue(_seconds(self._timeout("request")))
        self.tunnel_idle = reactor.queue(_seconds(self._timeout("tunnel_idle")))
        self.version = self.pool.version

    def __repr__(self) -> str:
        return f"<Route to {self.pool.name}>"


cdef class Backend:
    """One backend of one pool. `slot` is its place in the shared segment; flags and weight are read from there."""

    def __init__(self, Pool pool, int slot, object config, *, Segment segment, int worker) -> None:
        self.pool = pool
        self.slot = slot
        self.config = config
        self.name = config.name or config.url.text
        self.url = config.url.text
        self.url_bytes = self.url.encode()
        self.server_name = ""
        self.name_bytes = self.name.encode()
        # A unix socket has no authority of its own; "localhost" is what curl sends there.
        self.host = self.url.partition("://")[2].encode() or b"localhost"
        self.share = 1.0
        self.priority = config.priority
        self.set_cookie = b""
        self.segment = segment
        self.worker = worker
        self.state = segment.state(slot)
        self.counters = segment.backend_counters(worker, slot)
        self.places = segment.backend_places(slot)
        self.first_byte_latency = segment.backend_first_byte(worker, slot)
        self._addresses = []
        self.configure(config)

    def configure(self, object config) -> None:
        """Take over settings that can change while it runs (limits). What is in flight counts against a new limit at once."""
        cdef BackendCounters *c = self.counters
        cdef bint requests = bool(config.max_requests)
        cdef bint connections = bool(config.max_connections)
        self.config = config
        if requests != (self.max_requests != 0):
            places_add(&self.places.requests, c.active - c.requests_held if requests else -c.requests_held, &c.requests_held, &c.requests_pending)
        if connections != (self.max_connections != 0):
            places_add(&self.places.connections, c.connections - c.connections_held if connections else -c.connections_held, &c.connections_held,
                       &c.connections_pending)
        self.max_requests = config.max_requests or 0
        self.max_connections = config.max_connections or 0

    @property
    def weight(self) -> int:
        """0..256, as the supervisor last set it."""
        return self.state.weight

    @property
    def flags(self) -> int:
        """`BackendFlag` bits, as the supervisor last set them."""
        return self.state.flags

    @property
    def ramp(self) -> tuple:
        """(from_s, for_s): since when its share grows (monotonic seconds) and for how long; (0.0, 0.0) = it has all of it."""
        if self.state.ramp_from_ms == 0:
            return _NO_RAMP
        return self.state.ramp_from_ms / 1e3, self.state.ramp_ms / 1e3

    @property
    def active(self) -> int:
        """Attempts in flight in all workers: this worker's exactly, the others' at most 1 ms old."""
        return self.in_flight()

    cdef int64_t in_flight(self) noexcept:
        cdef int worker
        cdef int64_t others = 0
        cdef int workers = self.segment.used_workers()
        if workers == 1:
            return self.counters.active
        if self.reactor is None or self.reactor.now - self.others_at > 1000000:
            for worker in range(workers):
                if worker != self.worker:
                    others += self.segment.backend_counters(worker, self.slot).active
            self.others = others
            if self.reactor is not None:
                self.others_at = self.reactor.now
        return self.counters.active + self.others

    @property
    def succeeded(self) -> int:
        """Attempts that succeeded so far, in this worker."""
        return self.counters.succeeded

    @property
    def addresses(self) -> list:
        """Packed sockaddr values (`headgate.engine.pack_address`); tried in order from the one that last worked."""
        return list(self._addresses)

    @addresses.setter
    def addresses(self, object value) -> None:
        value = list(value)
        if value == self._addresses:
            return
        for item in value:
            if not isinstance(item, bytes) or not 2 < len(item) <= 128:
                raise ValueError("an address is a packed sockaddr of 3 to 128 bytes")
        self._addresses = value
        self.preferred = 0

    @property
    def learned_idle_s(self) -> float:
        """After how many idle seconds this backend was seen to close a connection; 0 = not known."""
        return self.learned_idle / 1e9

    cdef void learn_idle(self, int64_t age, bint raced) noexcept:
        """The backend closed a connection that had been idle for `age`. raced: just as a request was sent on it."""
        if age < SHORTEST_IDLE_NS:
            return
        if raced:
            self.proven_idle = 0
        elif age <= self.proven_idle:
            return      # others were idle longer and still answered: it closed for another reason (its n-th answer, a restart)
        # The shortest that was seen, rising again slowly: a backend restarted with a longer time is learned too.
        if self.learned_idle == 0 or age < self.learned_idle:
            self.learned_idle = age
        else:
            self.learned_idle += (age - self.learned_idle) // 8

    cdef void prove_idle(self, int64_t age) noexcept:
        """A connection that had been idle for `age` was used again, and answered."""
        if age > self.proven_idle:
            self.proven_idle = age

    def close_idle(self) -> None:
        """Drop all kept connections (its addresses or its certificates changed, or it was removed); what is in flight is not kept either."""
        self.era += 1
        while self.idle != NULL:
            (<object>self.idle).drop()

    def __deepcopy__(self, memo):
        # A strategy's copy looks at the same backends (explain/picking.py).
        return self

    def __repr__(self) -> str:
        return f"<Backend {self.pool.name}/{self.name}>"
