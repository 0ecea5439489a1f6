"""HTTP/1 from clients: accept, read requests, stream bodies, write responses."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from headgate.engine.address cimport Address
from headgate.engine.connection cimport Connection
from headgate.engine.context cimport Context
from headgate.engine.exchange cimport Exchange
from headgate.engine.http1 cimport ChunkDecoder
from headgate.engine.model cimport Listener
from headgate.engine.proxy_protocol cimport ProxyHeader
from headgate.engine.reactor cimport Handler, Timer

cdef enum DownstreamState:
    DOWN_IDLE = 0               # between requests, nothing read
    DOWN_HEAD                   # a request's head is arriving
    DOWN_BODY                   # the head is complete, its body is arriving
    DOWN_WAIT                   # the request is complete, the response is under way
    DOWN_LINGER                 # answered for the last time: drain, then close
    DOWN_CLOSED
    DOWN_PROXY                  # whose connection this is has not been told yet (PROXY protocol)
    DOWN_TLS                    # the TLS handshake, before all others

cdef class Acceptor(Handler):
    cdef Context ctx
    cdef Listener listener
    cdef uint32_t open_connections
    cdef uint32_t handshakes    # in progress
    cdef dict per_client        # address bytes -> open connections that count against max_connections_per_client
    cdef bint paused            # not registered: EMFILE, until a descriptor frees, or as many handshakes as may be
    cdef Timer timer
    cdef int _accept(self) noexcept
    cdef void _pause(self) noexcept
    cdef void _resume(self) noexcept
    cdef void stop(self) noexcept
    cdef void look(self) noexcept
    cdef void closed(self, ClientConnection connection) noexcept
    cdef void _uncount(self, ClientConnection connection) noexcept
    cdef bint _admit(self, ClientConnection connection) noexcept
    cdef void handshake_over(self) noexcept

cdef class ClientConnection(Connection):
    cdef Acceptor acceptor
    cdef Exchange x             # the exchange of the current request; None while idle
    cdef Timer timer            # header, body, idle or linger: one at a time
    cdef Timer write_timer
    cdef int stalled_at         # bytes in the kernel's send queue when write_timer was armed
    cdef ChunkDecoder chunks
    cdef uint64_t remaining     # of a Content-Length body
    cdef uint32_t head_start    # where the current request's head begins in inbuf
    cdef uint32_t body_start    # where decoded body bytes begin in inbuf (behind the head)
    cdef uint32_t payload_pos   # decoded, not taken yet
    cdef uint32_t payload_end
    cdef uint32_t lingered
    cdef Address peer
    cdef char peer_text[46]
    cdef ProxyHeader *told      # by the PROXY protocol; NULL: the socket's own ends
    cdef uint8_t peer_length
    cdef uint8_t state
    cdef uint8_t in_framing
    cdef bint body_lost         # body bytes were overwritten: no rewind
    cdef bint body_complete     # all of the body was decoded
    cdef bint processing
    cdef bint again
    cdef bint interim           # a 1xx is on its way out, and nothing else
    cdef bint served            # has had an answer
    cdef bint counted           # stands in the acceptor's per_client
    cdef bint plain_on_tls      # speaks plain HTTP where TLS is spoken: one answer says so
    cdef bint shake_waits       # counted in Context.shakes_waiting
    cdef char *trailer
    cdef size_t trailer_size

    cdef void _begin_tls(self) noexcept
    cdef void _shake(self, bint waited) noexcept
    cdef bint _identify(self) noexcept
    cdef void _shaken(self, int outcome) noexcept
    cdef void _tell_failed(self) noexcept
    cdef void _run(self) noexcept
    cdef bint _introduced(self) noexcept
    cdef void _name_peer(self) noexcept
    cdef bint _process(self) noexcept
    cdef bint _body(self) noexcept
    cdef bint _make_room(self) noexcept
    cdef bint _grow(self, size_t size, bint required) noexcept
    cdef void _broken(self) noexcept
    cdef void _overloaded(self) noexcept
    cdef void _timed_out(self, const char *reason) noexcept
    cdef int _queued(self) noexcept
    cdef void _stalled(self) noexcept
    cdef bint _send_unbuffered(self, const char *head, size_t head_size, const char *body, size_t size) noexcept
    cdef bint _send_now(self, const char *head, size_t head_size, const char *body, size_t size) noexcept
    cdef void _reset(self) noexcept
    cdef void cut_off(self) noexcept
    cdef void _begin_body(self) noexcept
    cdef void _read_ahead(self) noexcept
    cdef void _refuse(self, int status, uint8_t error) noexcept
    cdef void _wait_for_client(self) noexcept
    cdef void _end_of_input(self, bint clean) noexcept
    cdef void _linger(self) noexcept
    cdef void _drain_input(self) noexcept
    cdef void _next_request(self) noexcept
    cdef void _close(self) noexcept
    cdef void _drop_exchange(self) noexcept
    cdef void close_if_idle(self) noexcept
