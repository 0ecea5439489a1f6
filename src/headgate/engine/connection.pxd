"""What both kinds of HTTP/1 connection share: a non-blocking socket, an input and an output buffer, framing of what is sent."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from headgate.engine.buffers cimport Buffer
from headgate.engine.context cimport Context
from headgate.engine.libc_net cimport iovec
from headgate.engine.stream cimport Stream
from headgate.engine.tls cimport Tls

cdef class Connection(Stream):
    cdef Context ctx
    cdef Buffer *inbuf              # NULL while nothing is in flight
    cdef uint32_t in_pos            # first byte not consumed
    cdef uint32_t in_end
    cdef Buffer *outbuf             # bytes the kernel did not take yet, or that wait for company
    cdef uint32_t out_pos
    cdef uint32_t out_end
    cdef uint64_t chunk_left        # payload still owed to the chunk whose size was announced
    cdef uint64_t out_total         # bytes of the current message that the kernel took
    cdef uint8_t out_framing
    cdef bint readable              # edge-triggered: true until a read finds nothing more
    cdef bint writable
    cdef bint hung_up               # the peer sent FIN, RST or worse
    cdef bint end_output            # send FIN once outbuf is empty (tunnels)
    cdef bint half_closed           # we sent FIN
    cdef Tls tls                    # None = plain

    cdef int reserve_out(self, size_t size) noexcept
    cdef void release_in(self) noexcept
    cdef int64_t receive(self, size_t want) noexcept       # > 0 bytes; 0 = end; -1 = nothing now; -2 = broken; -3 = no buffer
    cdef int64_t _write(self, iovec *parts, int count) noexcept
    cdef int64_t _receive_tls(self, size_t space) noexcept
    cdef int64_t _write_tls(self, iovec *parts, int count) noexcept
    cdef int _push(self) noexcept
    cdef bint all_sent(self) noexcept                      # nothing waits for the kernel
    cdef int end_writing(self) noexcept                    # FIN, and what TLS says before; -1 = the connection is gone
    cdef void _flushed(self) noexcept
    cdef void reset_on_close(self) noexcept
    cdef void shut(self) noexcept                          # descriptor and buffers given back
