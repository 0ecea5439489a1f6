"""Connections that begin with a PROXY protocol header.

From a client: the header is read byte-exactly (peeked at, then taken), since what follows may be a TLS handshake that is read from the
socket by somebody else. That is two system calls more for each connection, and only on listeners with `proxy_protocol`.

To a backend: the header leaves on its own, before anything else, so that a TLS handshake can follow it. It names one client, so such a
connection serves one request and is closed (proxy-protocol.txt, section 2: never on multiplexed connections).
"""
import logging

from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.stdlib cimport malloc
from libc.string cimport memset

from headgate.engine.address cimport Address, address_from_sockaddr
from headgate.engine.buffers cimport SMALL_BUFFER, buffer_acquire
from headgate.engine.connection cimport Connection
from headgate.engine.context cimport Context
from headgate.engine.libc_net cimport (
    AF_INET, AF_INET6, EAGAIN, EINTR, MSG_MORE, MSG_NOSIGNAL, MSG_PEEK, errno, getpeername, getsockname, recv, send, sockaddr,
    sockaddr_storage, socklen_t,
)
from headgate.engine.model cimport Listener
from headgate.engine.proxy_protocol cimport (
    PROXY_CUT, PROXY_NO_BUFFER, ProxyHeader, proxy_error_text, proxy_parse, proxy_write,
)
from headgate.engine.stream cimport Stream

logger = logging.getLogger("headgate.engine")

cdef enum:
    # What any host must take in one segment (section 2): almost every header is seen whole at the first look.
    GLANCE = 536

# A port scan or a proxy that was forgotten in the list must not fill the log.
cdef int64_t REFUSAL_SAID_EVERY_NS = 10000000000


cdef int proxy_take(Connection connection, ProxyHeader *header) noexcept:
    """See proxied.pxd. A header that is not complete waits in inbuf; a parsed one leaves nothing there."""
    cdef ssize_t got, taken
    cdef size_t wanted
    cdef char *at
    cdef int length
    if connection.inbuf == NULL:
        connection.inbuf = buffer_acquire(&connection.ctx.buffers, SMALL_BUFFER)
        if connection.inbuf == NULL:
            return -PROXY_NO_BUFFER
        connection.in_pos = connection.in_end = 0
    while True:
        # There is room: the codec refuses a header that a small buffer does not hold.
        wanted = min(<size_t>GLANCE, <size_t>connection.inbuf.capacity - connection.in_end)
        at = connection.inbuf.data + connection.in_end
        got = recv(connection.fd, at, wanted, MSG_PEEK)
        if got < 0 and errno == EINTR:
            continue
        if got < 0 and errno == EAGAIN:
            connection.readable = False
            if connection.in_end == 0:
                connection.release_in()
            return 0
        if got <= 0:
            return -PROXY_CUT
        length = proxy_parse(header, connection.inbuf.data, connection.in_end + <size_t>got)
        if length < 0:
            return length
        wanted = <size_t>got if length == 0 else <size_t>length - connection.in_end
        taken = recv(connection.fd, at, wanted, 0)
        if taken != <ssize_t>wanted:
            return -PROXY_CUT           # what was seen a moment ago is there, unless the connection broke
        if length > 0:
            connection.release_in()
            return length
        connection.in_end += <size_t>taken


cdef void report_refused(Context ctx, Listener listener, const char *peer, int peer_length, int error) noexcept:
    """See proxied.pxd."""
    cdef object more
    ctx.counters.refused_connections += 1
    if listener.refusal_said and ctx.now - listener.refusal_said < REFUSAL_SAID_EVERY_NS:
        listener.refusals += 1
        return
    try:
        more = f" (and {listener.refusals} more since the last such line)" if listener.refusals else ""
        logger.warning("listener %s: refused a connection from %s: %s%s", listener.bind, (<bytes>peer[:peer_length]).decode("latin-1"),
                       (<bytes>proxy_error_text(error)).decode(), more)
    except BaseException as exception:
        ctx.error("the warning of a refused connection", exception)
    listener.refusal_said = ctx.now
    listener.refusals = 0


cdef uint16_t port_of(const sockaddr *name) noexcept:
    """It stands at the same place in both internet families."""
    cdef const uint8_t *bytes = <const uint8_t *>name
    return <uint16_t>(bytes[2] << 8 | bytes[3]) if name.sa_family == AF_INET or name.sa_family == AF_INET6 else 0


cdef void socket_ends(int fd, ProxyHeader *out) noexcept:
    """See proxied.pxd."""
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)
    memset(out, 0, sizeof(ProxyHeader))
    out.relayed = 1
    if getpeername(fd, <sockaddr *>&name, &size) == 0:
        address_from_sockaddr(&out.source, &name, <int>size)
        out.source_port = port_of(<sockaddr *>&name)
    size = sizeof(name)
    if getsockname(fd, <sockaddr *>&name, &size) == 0:
        address_from_sockaddr(&out.destination, &name, <int>size)
        out.destination_port = port_of(<sockaddr *>&name)


cdef Prelude *prelude_for(Stream down, const Address *client, bint by_header, int version) noexcept:
    """See proxied.pxd. by_header: a trusted proxy's header field names the client, so that its port is not known."""
    cdef ProxyHeader header
    cdef Prelude *prelude = <Prelude *>malloc(sizeof(Prelude))
    if prelude == NULL:
        return NULL
    memset(&header, 0, sizeof(header))
    down.ends(&header)
    header.relayed = 1
    if by_header:
        header.source = client[0]
        header.source_port = 0
    prelude.size = proxy_write(prelude.bytes, version, &header)
    return prelude


cdef bint prelude_send(int fd, const Prelude *prelude) noexcept:
    """On a fresh connection the kernel takes so few bytes at once (section 2.1); they leave with what is sent next."""
    cdef ssize_t sent = -1
    while sent < 0:
        sent = send(fd, prelude.bytes, <size_t>prelude.size, MSG_NOSIGNAL | MSG_MORE)
        if sent < 0 and errno != EINTR:
            return False
    return sent == prelude.size
