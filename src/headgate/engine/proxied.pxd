"""Connections that begin with a PROXY protocol header: reading it from a client's socket, and what a backend is told."""
from libc.stdint cimport uint8_t

from headgate.engine.address cimport Address
from headgate.engine.connection cimport Connection
from headgate.engine.context cimport Context
from headgate.engine.model cimport Listener
from headgate.engine.proxy_protocol cimport PROXY_HEADER_ROOM, ProxyHeader
from headgate.engine.stream cimport Stream

cdef struct Prelude:            # what a connection to a backend begins with
    int size
    char bytes[PROXY_HEADER_ROOM]

# Reads the header that the connection begins with, and not one byte more. > 0: it is complete; 0: more is to come; < 0: -ProxyError.
cdef int proxy_take(Connection connection, ProxyHeader *header) noexcept
# Somebody was refused: said, but not for everybody who tries.
cdef void report_refused(Context ctx, Listener listener, const char *peer, int peer_length, int error) noexcept
# The two ends of a socket.
cdef void socket_ends(int fd, ProxyHeader *out) noexcept
# What a backend is told about the client of this exchange; free() it. NULL: no memory.
cdef Prelude *prelude_for(Stream down, const Address *client, bint by_header, int version) noexcept
cdef bint prelude_send(int fd, const Prelude *prelude) noexcept
