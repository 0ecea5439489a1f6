"""Client addresses: text to bytes and back, networks, and who the client is behind trusted proxies.

IPv4 is held as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), so one comparison serves both families. Parsing is strict:
decimal octets without leading zeros (some readers take those as octal), hexadecimal groups of one to four digits, one
"::" at most, no zone identifier. What is not an address is not guessed at.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy, memset

from headgate.engine.head cimport Field, FIELD_X_FORWARDED_FOR, Head

cdef extern from "<sys/socket.h>" nogil:
    cdef enum:
        AF_INET
        AF_INET6
    ctypedef unsigned short sa_family_t
    cdef struct sockaddr_head "sockaddr":
        sa_family_t sa_family

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct sockaddr_in:
        in_addr sin_addr
    cdef struct in6_addr:
        uint8_t s6_addr[16]
    cdef struct sockaddr_in6:
        in6_addr sin6_addr


cdef void map_ipv4(uint8_t *bytes) noexcept nogil:
    """The ::ffff:0:0/96 prefix in front of four octets that the caller sets."""
    memset(bytes, 0, 10)
    bytes[10] = 0xFF
    bytes[11] = 0xFF


cdef bint parse_ipv4(uint8_t *out, const uint8_t *text, size_t size) noexcept nogil:
    """Exactly four decimal octets; `out` holds 4 bytes."""
    cdef size_t i = 0, start
    cdef int octet = 0
    cdef uint32_t value
    while True:
        start = i
        value = 0
        # i < size <= what the caller owns; at most three digits are taken, so value <= 999
        while i < size and i - start < 3 and c'0' <= text[i] <= c'9':
            value = value * 10 + (text[i] - c'0')
            i += 1
        if i == start or value > 255 or (i - start > 1 and text[start] == c'0'):
            return False
        out[octet] = <uint8_t>value         # octet is 0..3: the loop ends at the fourth
        octet += 1
        if octet == 4:
            return i == size
        if i >= size or text[i] != c'.':
            return False
        i += 1


cdef inline int hex_digit(uint8_t byte) noexcept nogil:
    if c'0' <= byte <= c'9':
        return byte - c'0'
    byte |= 0x20
    if c'a' <= byte <= c'f':
        return byte - c'a' + 10
    return -1


cdef bint parse_ipv6(uint8_t *out, const uint8_t *text, size_t size) noexcept nogil:
    """RFC 4291 section 2.2, all three forms; `out` holds 16 bytes."""
    cdef uint16_t groups[8]
    cdef int count = 0              # groups read
    cdef int gap = -1               # where "::" stands
    cdef size_t i = 0, start
    cdef uint32_t value
    cdef int digit, k, tail
    cdef uint8_t octets[4]
    if size < 2:
        return False
    if text[0] == c':':
        if text[1] != c':':
            return False
        gap = 0
        i = 2
    while i < size:
        if count == 8:
            return False
        start = i
        value = 0
        while i < size and i - start < 4:
            digit = hex_digit(text[i])
            if digit < 0:
                break
            value = (value << 4) | <uint32_t>digit      # four digits at most: fits 16 bits
            i += 1
        if i < size and text[i] == c'.':
            # the last 32 bits in dotted decimals
            if count > 6 or not parse_ipv4(octets, text + start, size - start):
                return False
            groups[count] = <uint16_t>(octets[0] << 8 | octets[1])      # count <= 6: both indexes below 8
            groups[count + 1] = <uint16_t>(octets[2] << 8 | octets[3])
            count += 2
            i = size
            break
        if i == start:
            return False
        groups[count] = <uint16_t>value                 # count < 8, tested above
        count += 1
        if i == size:
            break
        if text[i] != c':':
            return False
        i += 1
        if i == size:
            return False                                # a single colon at the end
        if text[i] == c':':
            if gap >= 0:
                return False
            gap = count
            i += 1
    if gap < 0:
        if count != 8:
            return False
        gap = 8
    elif count == 8:
        return False                                    # "::" stands for one group at least (RFC 5952 section 4.2.2)
    tail = count - gap if gap < 8 else 0
    memset(out, 0, 16)
    for k in range(min(gap, count)):                    # k < 8
        out[2 * k] = <uint8_t>(groups[k] >> 8)
        out[2 * k + 1] = <uint8_t>groups[k]
    for k in range(tail):                               # 8 - tail + k < 8 and gap + k < count <= 8
        out[2 * (8 - tail + k)] = <uint8_t>(groups[gap + k] >> 8)
        out[2 * (8 - tail + k) + 1] = <uint8_t>groups[gap + k]
    return True


cdef bint is_port(const uint8_t *text, size_t size) noexcept nogil:
    cdef uint32_t value = 0
    cdef size_t i
    if size == 0 or size > 5:
        return False
    for i in range(size):
        if not c'0' <= text[i] <= c'9':
            return False
        value = value * 10 + (text[i] - c'0')
    return value <= 65535


cdef bint address_parse(Address *out, const char *text, size_t size) noexcept nogil:
    """An address, with or without port, the IPv6 one in brackets when it has a port."""
    cdef const uint8_t *p = <const uint8_t *>text
    cdef const uint8_t *mark
    out.known = 0
    if size == 0:
        return False
    if p[0] == c'[':
        mark = <const uint8_t *>memchr(p, c']', size)
        if mark == NULL or not parse_ipv6(out.bytes, p + 1, mark - p - 1):
            return False
        size -= <size_t>(mark + 1 - p)
        if size != 0 and (mark[1] != c':' or not is_port(mark + 2, size - 1)):      # size bytes follow the bracket
            return False
        out.known = 1
        return True
    mark = <const uint8_t *>memchr(p, c':', size)
    if mark != NULL and memchr(mark + 1, c':', size - <size_t>(mark + 1 - p)) != NULL:
        out.known = parse_ipv6(out.bytes, p, size)
        return out.known
    if mark != NULL:
        if not is_port(mark + 1, size - <size_t>(mark + 1 - p)):
            return False
        size = mark - p
    map_ipv4(out.bytes)
    out.known = parse_ipv4(out.bytes + 12, p, size)     # bytes 12..15 of 16
    return out.known


cdef int put_decimal(char *out, uint32_t value) noexcept nogil:
    cdef int n = 0
    if value >= 100:
        out[n] = <char>(c'0' + value // 100)
        n += 1
    if value >= 10:
        out[n] = <char>(c'0' + value // 10 % 10)
        n += 1
    out[n] = <char>(c'0' + value % 10)
    return n + 1


cdef int address_format(const Address *address, char *out) noexcept nogil:
    """RFC 5952 text: lower case, no leading zeros, the longest run of zero groups (the first of equals) as "::"."""
    cdef const char *digits = b"0123456789abcdef"
    cdef int n = 0, k, run = 0, best = -1, best_run = 1, shift
    cdef uint32_t group
    cdef bint begun
    if not address.known:
        return 0
    if is_mapped(address):
        for k in range(12, 16):
            if k > 12:
                out[n] = c'.'
                n += 1
            n += put_decimal(out + n, address.bytes[k])     # k < 16
        return n
    for k in range(8):
        if address.bytes[2 * k] == 0 and address.bytes[2 * k + 1] == 0:
            run += 1
            if run > best_run:
                best_run = run
                best = k - run + 1
        else:
            run = 0
    k = 0
    while k < 8:                                            # at most 8 * 4 digits and 7 colons: 39 bytes
        if k == best:
            out[n] = c':'
            out[n + 1] = c':'
            n += 2
            k += best_run
            continue
        if n > 0 and out[n - 1] != c':':
            out[n] = c':'
            n += 1
        group = <uint32_t>address.bytes[2 * k] << 8 | address.bytes[2 * k + 1]
        begun = False
        for shift in range(12, -1, -4):
            if begun or shift == 0 or (group >> shift) != 0:
                begun = True
                out[n] = digits[(group >> shift) & 15]      # & 15: within the 16 digits
                n += 1
        k += 1
    return n


cdef bint is_mapped(const Address *address) noexcept nogil:
    cdef int k
    for k in range(10):
        if address.bytes[k] != 0:
            return False
    return address.bytes[10] == 0xFF and address.bytes[11] == 0xFF


cdef void address_from_sockaddr(Address *out, const void *sockaddr, int size) noexcept nogil:
    """From what accept() or getpeername() gave. Anything but the internet families is unknown."""
    out.known = 0
    if size < <int>sizeof(sa_family_t):
        return
    if (<const sockaddr_head *>sockaddr).sa_family == AF_INET and size >= <int>sizeof(sockaddr_in):
        map_ipv4(out.bytes)
        memcpy(out.bytes + 12, &(<const sockaddr_in *>sockaddr).sin_addr, 4)
        out.known = 1
    elif (<const sockaddr_head *>sockaddr).sa_family == AF_INET6 and size >= <int>sizeof(sockaddr_in6):
        memcpy(out.bytes, &(<const sockaddr_in6 *>sockaddr).sin6_addr, 16)
        out.known = 1


cdef class Networks:
    """A list of networks, as in `trusted_proxies`: "10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "::1", "unix".

    A plain address is a network of one. Bits behind the prefix are ignored. "unix" stands for peers on unix sockets.
    Raises ValueError for any text that is none of these.
    """

    def __cinit__(self, networks=()):
        cdef list texts = list(networks)
        cdef bytes text
        cdef int slash, full
        cdef object prefix
        self._address = <Address *>malloc(max(1, len(texts)) * sizeof(Address))
        self._prefix = <uint8_t *>malloc(max(1, len(texts)))
        if self._address == NULL or self._prefix == NULL:
            raise MemoryError
        self._count = 0
        self._unix = False
        for item in texts:
            if item == "unix":
                self._unix = True
                continue
            if not isinstance(item, str) or not item.isascii():
                raise ValueError(f"{item!r} is not a network")
            text = item.encode()
            slash = text.find(b"/")
            head = text if slash < 0 else text[:slash]
            # no port here: "10.0.0.1:80" and "[::1]" are addresses elsewhere, not networks
            if b"[" in head or head.count(b":") == 1 or not address_parse(&self._address[self._count], head, len(head)):
                raise ValueError(f"{item!r} is not a network")
            full = 128 if b":" in head else 32
            prefix = b"%d" % full if slash < 0 else text[slash + 1:]
            if not prefix.isdigit() or len(prefix) > 3 or int(prefix) > full:
                raise ValueError(f"{item!r}: the prefix length must be 0 to {full}")
            # self._count < len(texts): one entry per text at most
            self._prefix[self._count] = int(prefix) + (128 - full)
            self._count += 1

    def __dealloc__(self):
        free(self._address)
        free(self._prefix)

    cdef bint contains(self, const Address *address) noexcept:
        cdef int k, whole, rest, i
        cdef const uint8_t *network
        if not address.known:
            return self._unix
        for k in range(self._count):
            network = self._address[k].bytes
            whole = self._prefix[k] >> 3        # prefix <= 128: whole <= 16
            rest = self._prefix[k] & 7
            i = 0
            while i < whole and network[i] == address.bytes[i]:
                i += 1
            # rest > 0 only where whole < 16
            if i == whole and (rest == 0 or (network[i] ^ address.bytes[i]) >> (8 - rest) == 0):
                return True
        return False


cdef void resolve_client(Address *out, Head *head, const Address *peer, Networks trusted) noexcept:
    """Who the client is: walk X-Forwarded-For from its right end while the addresses are trusted ones.

    Text that is no address ends the walk with the peer's own address: what stands to its left cannot be believed.
    """
    cdef Field *field
    cdef const char *value
    cdef uint32_t end, start, stop
    cdef int index
    cdef Address found
    out[0] = peer[0]
    if trusted is None or not trusted.contains(peer):
        return
    for index in range(head.field_count - 1, -1, -1):
        field = &head.fields[index]             # index < field_count
        if field.id != FIELD_X_FORWARDED_FOR or field.drop:
            continue
        value = head.base + field.value_off
        end = field.value_len
        while end > 0:
            start = end
            while start > 0 and value[start - 1] != c',':
                start -= 1
            stop = end
            end = start - 1 if start > 0 else 0
            while start < stop and (value[start] == c' ' or value[start] == c'\t'):
                start += 1
            while start < stop and (value[stop - 1] == c' ' or value[stop - 1] == c'\t'):
                stop -= 1
            if start == stop:
                continue                        # an empty list element (RFC 9110 section 5.6.1)
            if not address_parse(&found, value + start, stop - start):
                return
            if not trusted.contains(&found):
                out[0] = found
                return
