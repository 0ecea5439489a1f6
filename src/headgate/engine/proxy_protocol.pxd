"""The PROXY protocol, versions 1 and 2: who the client of a connection is, told by the proxy that relays it."""
from libc.stdint cimport uint8_t, uint16_t

from headgate.engine.address cimport Address

cdef struct ProxyHeader:
    Address source              # the client; known = 0: on a unix socket
    Address destination         # where the client connected to
    uint16_t source_port        # 0 = not known
    uint16_t destination_port
    uint8_t relayed             # 1: the above hold. 0: LOCAL, UNKNOWN, UNSPEC: the connection's own ends do
    uint8_t local               # version 2: the proxy speaks for itself (a check)

cdef enum:
    # nginx reads 4 KiB at most, HAProxy one buffer of 16 KiB. A header that tells of a client's certificate (PP2_SUBTYPE_SSL_CLIENT_CERT)
    # is the longest there is, a few KiB; and a buffer of the engine's holds as much.
    PROXY_HEADER_MOST = 16384
    # What the longest header that we write takes, and a zero.
    PROXY_HEADER_ROOM = 108

cdef enum ProxyError:
    PROXY_OK = 0
    PROXY_NO_HEADER             # something else came
    PROXY_BAD_LINE
    PROXY_LINE_TOO_LONG
    PROXY_BAD_ADDRESS
    PROXY_BAD_VERSION
    PROXY_BAD_COMMAND
    PROXY_BAD_FAMILY
    PROXY_TOO_LONG
    PROXY_TOO_SHORT
    PROXY_BAD_TLV
    PROXY_BAD_CHECKSUM
    # for those who read it from a socket
    PROXY_CUT                   # the connection ended before the header did
    PROXY_TIMEOUT
    PROXY_UNLISTED              # whoever is connected may not say who it is
    PROXY_NO_BUFFER

# > 0: the header is complete, so many bytes long. 0: more bytes are needed, and all of those given belong to the header; call again with the
# longer buffer. < 0: -ProxyError.
cdef int proxy_parse(ProxyHeader *out, const char *data, size_t size) noexcept nogil
cdef const char *proxy_error_text(int error) noexcept nogil
# The header as bytes; `out` holds PROXY_HEADER_ROOM. Returns its length. `version` is 1 or 2.
cdef int proxy_write(char *out, int version, const ProxyHeader *header) noexcept nogil
