"""HTTP/1 to a backend: connect, send the request, read the response, keep the connection for the next one."""
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from headgate.engine.connection cimport Connection
from headgate.engine.context cimport Context
from headgate.engine.head cimport Head
from headgate.engine.http1 cimport ChunkDecoder, Limits
from headgate.engine.model cimport Backend
from headgate.engine.pipes cimport Pipe
from headgate.engine.proxied cimport Prelude
from headgate.engine.reactor cimport Timer, TimerQueue
from headgate.engine.stream cimport ExchangeBase, Stream

cdef enum UpstreamState:
    UP_CLOSED = 0
    UP_CONNECTING
    UP_HEAD                     # request under way, response head not complete
    UP_BODY
    UP_IDLE
    UP_TLS                      # connected, the TLS handshake is under way

cdef class BackendConnection(Connection):
    cdef Backend backend
    cdef PyObject *idle_next    # stack of idle connections of this backend, most recently used first; borrowed
    cdef PyObject *idle_previous
    cdef Timer timer            # one at a time: connect, or keepalive while idle
    cdef int64_t idle_since
    cdef int64_t idle_age       # how long it had been idle when it was taken again
    cdef int64_t attached_at    # ctx.now, which names the batch of events in which the request was sent
    cdef int64_t connect_until  # ns: no address is tried after that
    cdef uint64_t remaining     # of a Content-Length body
    cdef ChunkDecoder chunks
    cdef uint32_t payload_pos   # decoded body bytes not taken yet
    cdef uint32_t payload_end
    cdef uint32_t address_index
    cdef uint32_t addresses_left
    cdef uint32_t era           # the backend's when this began
    cdef void *down             # the exchange's client connection and the fields of its response's head, to be prefetched only:
    cdef void *fields           # they may be gone
    cdef Head *head             # where the response head is parsed; the exchange's
    cdef uint8_t state          # UpstreamState
    cdef uint8_t in_framing
    cdef uint8_t request_method
    cdef uint16_t request_flags
    cdef bint reused            # has served another request before
    cdef bint reusable          # the response allows keeping the connection
    cdef bint got_bytes         # any byte of the current response arrived
    cdef bint send_broken       # the backend does not read any more; it may still have answered
    cdef bint open              # counted among the backend's connections
    cdef bint never_sent        # the first send of the request failed: nothing of it left this machine
    cdef bint processing
    cdef bint again             # resume() was called while processing
    cdef bint no_splice         # TLS, or the kernel refused, or no pipe was free: this body is copied
    cdef bint shake_waits       # counted in Context.shakes_waiting
    cdef Pipe *pipe             # holds body bytes on their way to the client
    cdef Prelude *prelude       # what is sent before anything else, once
    cdef char *trailer
    cdef size_t trailer_size

    cdef int start(self, Backend backend) noexcept                  # 0, NO_PLACE, or the Kind of the failure
    cdef int _connect_next(self) noexcept
    cdef TimerQueue *_connect_time(self) noexcept
    cdef void _uncount(self) noexcept
    cdef void attach(self, ExchangeBase exchange, Stream down, Head *head, uint8_t method, uint16_t flags) noexcept
    cdef void detach(self, bint keep) noexcept                      # the exchange is done with it
    cdef void _connected(self) noexcept
    cdef void _established(self) noexcept
    cdef void _begin_tls(self) noexcept
    cdef void _shake(self, bint waited) noexcept
    cdef int _refused(self) noexcept
    cdef bint _unread_tls(self) noexcept
    cdef void _keep_session(self) noexcept
    cdef void _connect_failed(self, int kind) noexcept
    cdef bint _grow_head(self) noexcept
    cdef bint _replace_inbuf(self, size_t size) noexcept
    cdef void _fail(self, int kind) noexcept
    cdef void _read(self) noexcept
    cdef bint _process(self) noexcept
    cdef bint _deliver(self, const char *data, size_t size, bint last, size_t *taken) noexcept
    cdef void _finish(self) noexcept
    cdef bint _may_splice(self) noexcept
    cdef int64_t _fill_pipe(self) noexcept
    cdef bint _empty_pipe(self) noexcept
    cdef void _drop_pipe(self) noexcept
    cdef void _end_of_stream(self, bint clean) noexcept
    cdef bint _unread(self) noexcept
    cdef void _push_idle(self) noexcept
    cdef void _pop_idle(self) noexcept
    cdef void _close(self) noexcept

cdef BackendConnection take_idle(Backend backend, Context ctx, bint repeatable, bint any_age)
