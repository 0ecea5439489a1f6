"""Client addresses: text and networks, for X-Forwarded-For, trusted_proxies and status_allow."""
from libc.stdint cimport uint8_t, uint16_t
from headgate.engine.head cimport Head

cdef struct Address:            # IPv4 is held as ::ffff:a.b.c.d, so that both families compare alike
    uint8_t bytes[16]
    uint8_t known               # 0: a unix socket or not an address

cdef class Networks:
    """A list of networks ("10.0.0.0/8", "::1", "unix"); raises ValueError for text that is none."""
    cdef Address *_address
    cdef uint8_t *_prefix
    cdef int _count
    cdef bint _unix
    cdef bint contains(self, const Address *address) noexcept

cdef void map_ipv4(uint8_t *bytes) noexcept nogil       # the prefix ::ffff:0:0/96, before four octets that the caller sets
cdef bint is_mapped(const Address *address) noexcept nogil
cdef bint parse_ipv4(uint8_t *out, const uint8_t *text, size_t size) noexcept nogil     # `out` holds 4 bytes
cdef bint parse_ipv6(uint8_t *out, const uint8_t *text, size_t size) noexcept nogil     # `out` holds 16 bytes
cdef bint address_parse(Address *out, const char *text, size_t size) noexcept nogil     # "1.2.3.4", "::1", "[::1]:80", "1.2.3.4:80"
cdef int address_format(const Address *address, char *out) noexcept nogil                # out holds 46 bytes; ::ffff: unmapped; returns length
cdef void address_from_sockaddr(Address *out, const void *sockaddr, int size) noexcept nogil
# The rightmost address of X-Forwarded-For that is not trusted; the peer's own when there is none.
cdef void resolve_client(Address *out, Head *head, const Address *peer, Networks trusted) noexcept
