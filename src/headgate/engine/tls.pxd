"""TLS below one connection: ciphertext on its socket, plain bytes in the engine's buffers."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from headgate.engine.buffers cimport Buffer, BufferPool
from headgate.engine.libc_net cimport iovec

cdef enum:
    TLS_DONE = 1                    # the handshake is complete
    TLS_WAIT = 0                    # more has to come from the peer
    TLS_GONE = -1                   # the peer left, or the socket broke
    TLS_FAILED = -2                 # it cannot be agreed on: see `reason`; the peer was told
    TLS_NO_BUFFER = -3
    TLS_PLAIN = -4                  # server side: what came is no TLS, and stands in `raw`

cdef class Window:
    cdef char *at
    cdef Py_ssize_t size

cdef class TlsDesk:
    cdef object incoming            # ssl.MemoryBIO: OpenSSL reads ciphertext here
    cdef object outgoing            # and puts it there; both are empty whenever nobody is at work
    cdef Window window
    cdef char *stage                # parts of a message are brought together in here
    cdef bint dirty                 # something may have stayed in a BIO
    cdef void clear(self) noexcept

cdef class Tls:
    cdef TlsDesk desk
    cdef object session_object      # ssl.SSLObject; it knows the certificates and the session
    cdef object core                # what does the work in it
    cdef Buffer *raw                # ciphertext that came and was not worked on; NULL when there is none
    cdef uint32_t raw_pos
    cdef uint32_t raw_end
    cdef bytes unsent               # ciphertext that the kernel did not take
    cdef Py_ssize_t unsent_pos
    cdef bint server
    cdef bint greeted               # client side: our hello is out; server side: something came that may be one
    cdef bint established
    cdef bint drained               # the last read emptied the socket; new bytes bring a new edge
    cdef bint ended                 # the kernel has told of FIN, and tells no more: read until it comes
    cdef bint holding               # OpenSSL may hold plain bytes of the last record
    cdef bint over                  # the peer's close_notify came behind bytes that were given away first
    cdef bint broken                # no more TLS on this connection, not even close_notify
    cdef bint closed                # our close_notify is out
    cdef bint close_later           # it is due once OpenSSL holds nothing any more
    cdef bint verify_failed         # the peer's certificate was refused
    cdef bint by_alert              # the peer refused, by an alert
    cdef bint keep_session          # client side: the session is still to be fetched
    cdef bytes reason               # why it failed, in words; None = it did not
    cdef object identity            # what `Listener.identify` said
    cdef bytes identity_lines       # and the header lines for backends; None = it was not asked

    cdef int handshake(self, int fd, BufferPool *buffers) noexcept
    # > 0 bytes; 0 = close_notify; -1 = nothing now; -2 = broken, or ended without close_notify; -3 = no buffer
    cdef int64_t receive(self, int fd, BufferPool *buffers, char *into, size_t space) noexcept
    cdef bint more(self) noexcept                   # may receive() have something although the socket says nothing?
    # Plain bytes taken, added to *counted, too; fewer than there are: the socket is full. < 0: broken.
    cdef int64_t write(self, int fd, iovec *parts, int count, uint64_t *counted) noexcept
    cdef int push(self, int fd) noexcept            # 1 = nothing is unsent, 0 = the socket is full, -1 = broken
    cdef bint notify_close(self, int fd) noexcept   # close_notify, where one can be sent. False: it is not out yet
    cdef void drop(self, BufferPool *buffers) noexcept
    cdef bint _feed(self, bint all) noexcept
    cdef int _read(self, char *into, size_t space) noexcept
    cdef int _fill(self, int fd, BufferPool *buffers, size_t want) noexcept
    cdef int _send_outgoing(self, int fd) noexcept
    cdef void _failed(self, object error) noexcept
    cdef void _release(self, BufferPool *buffers) noexcept

cdef Tls tls_begin(TlsDesk desk, object context, bint server, object server_name, object session)
