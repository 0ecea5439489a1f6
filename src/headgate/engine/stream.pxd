"""The two ends of an exchange, and what they may call on it. Versions of HTTP meet here and nowhere else.

A `Stream` is one message exchange on one side: an HTTP/1 connection has one at a time, an HTTP/2 connection many.
Downstream streams call request_*() on their exchange, upstream streams call response_*(); the exchange answers by
calling send_*() and resume() on the other stream. Everything is push with backpressure: who offers bytes is told how many
were taken, keeps the rest in its own buffer, stops reading, and offers again when resume() is called.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from headgate.engine.head cimport Head
from headgate.engine.http1 cimport Answer, Forward
from headgate.engine.proxy_protocol cimport ProxyHeader
from headgate.engine.reactor cimport Handler

cdef enum:
    SEND_BROKEN = -1            # the connection cannot take bytes any more

cdef class ExchangeBase(Handler):
    # from the downstream side
    cdef void request_head(self) noexcept
    cdef int64_t request_body(self, const char *data, size_t size, bint last) noexcept     # bytes taken
    cdef bint request_end(self, const char *trailer, size_t trailer_size) noexcept         # False: not now, say it again on resume()
    cdef void client_writable(self) noexcept                # what was waiting has been sent
    cdef void client_gone(self, int kind) noexcept          # the client went away, or broke the rules mid-body
    # from the upstream side
    cdef void upstream_connected(self) noexcept
    cdef void upstream_writable(self) noexcept
    cdef bint response_head(self, Head *head, bint more) noexcept      # more: body bytes are in hand. False: this stream is not wanted any more
    cdef int64_t response_body(self, const char *data, size_t size, bint last) noexcept    # bytes taken
    cdef bint can_splice_response(self) noexcept
    cdef int64_t response_pipe(self, int pipe_fd, size_t size, bint last) noexcept         # response_body, the bytes in a pipe
    cdef void response_end(self, const char *trailer, size_t trailer_size) noexcept
    cdef void upstream_failed(self, int kind) noexcept
    # from the waiting room
    cdef void place_offered(self) noexcept                  # it is its turn: begin an attempt, or wait again

cdef class Stream(Handler):
    cdef ExchangeBase exchange
    # to a client / to a backend
    cdef int send_response(self, Head *head, const Answer *answer) noexcept     # buffered until flush() or send_body(); 0 or SEND_BROKEN
    cdef int send_request(self, Head *head, const Forward *forward) noexcept
    cdef int64_t send_body(self, const char *data, size_t size, bint last) noexcept    # bytes taken, or SEND_BROKEN
    cdef int send_end(self, const char *trailer, size_t trailer_size) noexcept
    cdef int flush(self) noexcept               # 1 = all out, 0 = waiting for writability, SEND_BROKEN
    cdef bint discard_unsent(self) noexcept     # takes back what was buffered; False when some of it is out already
    cdef void resume(self) noexcept             # the other side can take more: offer again, then read on
    cdef void write_failed(self) noexcept       # SEND_BROKEN was returned: read what the peer may still have said
    cdef void begin_tunnel(self) noexcept       # bytes from here on are opaque, both ways
    cdef void abort(self) noexcept              # visibly incomplete: reset or close, never a clean end
    # downstream: an answer of our own (JSON); it may be followed by complete()
    cdef void send_local(self, int status, const char *fields, const char *content_type, const char *body, size_t size, bint close) noexcept
    # downstream: start the request body again for another attempt; False when bytes of it are gone
    cdef bint rewind(self) noexcept
    # downstream: all of the request body was sent by an earlier attempt that goes on; takes back a rewind()
    cdef void skip_body(self) noexcept
    # downstream: who is connected, and to what address
    cdef void ends(self, ProxyHeader *out) noexcept
    # downstream: the exchange is over, the stream may begin the next one
    cdef void complete(self, bint keep) noexcept
    # zero copy: may body bytes go from a pipe straight to this stream now (plain socket, raw framing, nothing waiting)?
    cdef bint can_splice(self) noexcept
    cdef int64_t splice_body(self, int pipe_fd, size_t size) noexcept       # bytes taken, or SEND_BROKEN
