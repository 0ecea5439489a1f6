"""The PROXY protocol, versions 1 and 2: bytes to a header and back.

By HAProxy's proxy-protocol.txt (sections are of that text), read as strictly as it allows, since a header says who somebody is:
what is not exactly a header is refused, as soon as that can be seen. The reader is incremental: while it asks for more, every byte
it was given belongs to the header, so that whoever reads from a socket never takes a byte of what follows.

It owns no memory, makes no Python object and needs no lock.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset

from headgate.engine.address cimport Address, address_format, address_from_sockaddr, is_mapped, map_ipv4, parse_ipv4, parse_ipv6

cdef enum:
    TYPE_CRC32C = 3
    NO_CHECKSUM = 0

cdef size_t LINE_MOST = 107         # section 2.1: of any version 1 header, CRLF included
cdef size_t SIGNATURE = 12
cdef size_t FIXED = 16              # what of a version 2 header always is there

cdef const uint8_t *_SIGNATURE = <const uint8_t *>b"\r\n\r\n\x00\r\nQUIT\n"
cdef uint32_t _CRC[256]


def _fill_table() -> None:
    """CRC32C (Castagnoli, RFC 4960 appendix B), least significant bit first."""
    cdef uint32_t value
    cdef int byte, k
    for byte in range(256):
        value = <uint32_t>byte
        for k in range(8):
            value = (value >> 1) ^ (<uint32_t>0x82F63B78 if value & 1 else 0)
        _CRC[byte] = value              # byte is 0..255


_fill_table()


cdef uint32_t crc32c(const uint8_t *data, size_t size, size_t zeroed) noexcept nogil:
    """Of `data`, the four bytes at `zeroed` taken as zeros (section 2.2.3)."""
    cdef uint32_t value = 0xFFFFFFFF
    cdef uint8_t byte
    cdef size_t i
    for i in range(size):
        byte = 0 if zeroed <= i < zeroed + 4 else data[i]
        value = (value >> 8) ^ _CRC[(value ^ byte) & 0xFF]
    return value ^ <uint32_t>0xFFFFFFFF


cdef inline uint16_t number16(const uint8_t *data) noexcept nogil:
    return <uint16_t>(data[0] << 8 | data[1])


# -- version 1 --------------------------------------------------------------------------------------------------

cdef bint read_port(uint16_t *out, const uint8_t *text, size_t size) noexcept nogil:
    """A decimal number up to 65535 without a zero in front."""
    cdef uint32_t value = 0
    cdef size_t i
    if size == 0 or size > 5 or (size > 1 and text[0] == c'0'):
        return False
    for i in range(size):
        if not c'0' <= text[i] <= c'9':
            return False
        value = value * 10 + (text[i] - c'0')
    out[0] = <uint16_t>value
    return value <= 65535


cdef bint read_address(Address *out, const uint8_t *text, size_t size, bint six) noexcept nogil:
    out.known = 1
    if six:
        return parse_ipv6(out.bytes, text, size)
    map_ipv4(out.bytes)
    return parse_ipv4(out.bytes + 12, text, size)       # bytes 12..15 of 16


cdef int parse_words(ProxyHeader *out, const uint8_t *at, const uint8_t *end, bint six) noexcept nogil:
    """Two addresses and two ports with one space between each, up to `end`, where CRLF stands. PROXY_OK or why not."""
    cdef const uint8_t *words[4]
    cdef size_t sizes[4]
    cdef int count = 0
    words[0] = at
    while at <= end:
        if at == end or at[0] == c' ':
            if count == 4:
                return PROXY_BAD_LINE
            sizes[count] = <size_t>(at - words[count])      # count < 4
            count += 1
            if count < 4:
                words[count] = at + 1
        at += 1
    if count != 4:
        return PROXY_BAD_LINE
    if not read_address(&out.source, words[0], sizes[0], six) or not read_address(&out.destination, words[1], sizes[1], six):
        return PROXY_BAD_ADDRESS
    if not read_port(&out.source_port, words[2], sizes[2]) or not read_port(&out.destination_port, words[3], sizes[3]):
        return PROXY_BAD_ADDRESS
    out.relayed = 1
    return PROXY_OK


cdef int parse_line(ProxyHeader *out, const uint8_t *data, size_t size) noexcept nogil:
    """Section 2.1. `data` begins with "P"."""
    cdef size_t i, known
    cdef int error
    known = min(size, <size_t>6)
    if memcmp(data, b"PROXY ", known) != 0:
        return -PROXY_NO_HEADER
    for i in range(known, min(size, LINE_MOST)):
        if data[i] == c'\n':
            # Of the bytes before, none was CR: a line must not end in LF alone.
            return -PROXY_BAD_LINE
        if data[i] != c'\r':
            continue
        if i + 1 == LINE_MOST:
            return -PROXY_LINE_TOO_LONG
        if i + 1 == size:
            return 0
        if data[i + 1] != c'\n':
            return -PROXY_BAD_LINE
        # The line is complete: i is where CRLF begins.
        if i >= 13 and memcmp(data + 6, b"UNKNOWN", 7) == 0:
            # Whatever stands behind it is to be ignored.
            if i > 13 and data[13] != c' ':
                return -PROXY_BAD_LINE
            return <int>i + 2
        if i < 11 or memcmp(data + 6, b"TCP", 3) != 0 or (data[9] != c'4' and data[9] != c'6') or data[10] != c' ':
            return -PROXY_BAD_LINE
        error = parse_words(out, data + 11, data + i, data[9] == c'6')
        return -error if error else <int>i + 2
    return -PROXY_LINE_TOO_LONG if size >= LINE_MOST else 0


# -- version 2 --------------------------------------------------------------------------------------------------

cdef int check_tlvs(const uint8_t *data, size_t at, size_t size) noexcept nogil:
    """The type-length-value vectors from `at` on; only a checksum means something to us. PROXY_OK or why not."""
    cdef size_t length, checksum = NO_CHECKSUM
    cdef uint32_t expected
    while at < size:
        if size - at < 3:
            return PROXY_BAD_TLV
        length = number16(data + at + 1)
        if size - at - 3 < length:
            return PROXY_BAD_TLV
        if data[at] == TYPE_CRC32C:
            if length != 4 or checksum != NO_CHECKSUM:
                return PROXY_BAD_TLV
            checksum = at + 3
        at += 3 + length
    if checksum == NO_CHECKSUM:
        return PROXY_OK
    expected = <uint32_t>number16(data + checksum) << 16 | number16(data + checksum + 2)
    return PROXY_OK if crc32c(data, size, checksum) == expected else PROXY_BAD_CHECKSUM


cdef int parse_binary(ProxyHeader *out, const uint8_t *data, size_t size) noexcept nogil:
    """Section 2.2. `data` begins with CR."""
    cdef uint8_t family, transport
    cdef size_t length, addresses
    cdef int error
    if memcmp(data, _SIGNATURE, min(size, SIGNATURE)) != 0:
        return -PROXY_NO_HEADER
    if size <= 12:
        return 0
    if data[12] >> 4 != 2:
        return -PROXY_BAD_VERSION
    if data[12] & 15 > 1:
        return -PROXY_BAD_COMMAND
    if size <= 13:
        return 0
    out.local = data[12] & 15 == 0
    family = data[13] >> 4
    transport = data[13] & 15
    if out.local:
        # "Discard the protocol block including the family which is ignored."
        family = transport = 0
    elif family > 3 or transport > 2:
        return -PROXY_BAD_FAMILY
    if size < FIXED:
        return 0
    length = number16(data + 14)
    addresses = 0
    if family and transport:
        addresses = 12 if family == 1 else 36 if family == 2 else 216
    if length < addresses:
        return -PROXY_TOO_SHORT
    if FIXED + length > <size_t>PROXY_HEADER_MOST:
        return -PROXY_TOO_LONG
    if size < FIXED + length:
        return 0
    size = FIXED + length
    error = check_tlvs(data, FIXED + addresses, size)
    if error == PROXY_BAD_TLV and addresses == 0:
        # Nothing says what a block of no family holds; addresses that nobody asked for, maybe.
        error = PROXY_OK
    if error:
        return -error
    # Datagrams do not come by a stream: of such a client nothing is known, as of one of no family.
    if transport != 1 or family == 0:
        return <int>size
    out.relayed = 1
    if family == 1:
        out.source.known = out.destination.known = 1
        map_ipv4(out.source.bytes)
        map_ipv4(out.destination.bytes)
        memcpy(out.source.bytes + 12, data + FIXED, 4)
        memcpy(out.destination.bytes + 12, data + FIXED + 4, 4)
        out.source_port = number16(data + FIXED + 8)
        out.destination_port = number16(data + FIXED + 10)
    elif family == 2:
        out.source.known = out.destination.known = 1
        memcpy(out.source.bytes, data + FIXED, 16)
        memcpy(out.destination.bytes, data + FIXED + 16, 16)
        out.source_port = number16(data + FIXED + 32)
        out.destination_port = number16(data + FIXED + 34)
    # else: a unix socket, whose name says nothing about who is there.
    return <int>size


cdef int proxy_parse(ProxyHeader *out, const char *data, size_t size) noexcept nogil:
    """See proxy_protocol.pxd."""
    memset(out, 0, sizeof(ProxyHeader))
    if size == 0:
        return 0
    if data[0] == c'P':
        return parse_line(out, <const uint8_t *>data, size)
    if data[0] == c'\r':
        return parse_binary(out, <const uint8_t *>data, size)
    return -PROXY_NO_HEADER


cdef const char *proxy_error_text(int error) noexcept nogil:
    if error == PROXY_NO_HEADER: return b"no PROXY protocol header came"
    if error == PROXY_BAD_LINE: return b"the PROXY line is malformed"
    if error == PROXY_LINE_TOO_LONG: return b"the PROXY line is longer than 107 bytes"
    if error == PROXY_BAD_ADDRESS: return b"the PROXY line has an address or port that is none"
    if error == PROXY_BAD_VERSION: return b"the PROXY protocol's version is not 2"
    if error == PROXY_BAD_COMMAND: return b"the PROXY header has an unknown command"
    if error == PROXY_BAD_FAMILY: return b"the PROXY header has an unknown address family or transport"
    if error == PROXY_TOO_LONG: return b"the PROXY header is longer than 16 KiB"
    if error == PROXY_TOO_SHORT: return b"the PROXY header is too short for its addresses"
    if error == PROXY_BAD_TLV: return b"the PROXY header's TLVs are malformed"
    if error == PROXY_BAD_CHECKSUM: return b"the PROXY header's checksum is wrong"
    if error == PROXY_CUT: return b"the connection ended within the PROXY header"
    if error == PROXY_TIMEOUT: return b"the PROXY header did not arrive in time"
    if error == PROXY_UNLISTED: return b"its address is not in proxy_protocol"
    if error == PROXY_NO_BUFFER: return b"no buffer was left for the PROXY header"
    return b""


# -- writing ----------------------------------------------------------------------------------------------------

cdef int text_of(char *out, const Address *address, bint six) noexcept nogil:
    """The address as a line of the given family has it, and a zero; `out` holds 47 bytes."""
    cdef int size = 0
    if not address.known:
        size = 2 if six else 7
        memcpy(out, b"::" if six else b"0.0.0.0", size)
    else:
        if six and is_mapped(address):
            memcpy(out, b"::ffff:", 7)
            size = 7
        size += address_format(address, out + size)     # 15 bytes behind the prefix, or 39
    out[size] = 0
    return size


cdef int proxy_write(char *out, int version, const ProxyHeader *header) noexcept nogil:
    """See proxy_protocol.pxd. A client without an address (a unix socket) is UNKNOWN, or of no family."""
    cdef char source[48]
    cdef char destination[48]
    cdef uint8_t *at = <uint8_t *>out
    cdef const Address *target = &header.destination
    cdef bint known = header.relayed and header.source.known and not header.local
    # One family for both ends: what is mapped stays so where the other end is a true IPv6 address.
    cdef bint six = known and not (is_mapped(&header.source) and (not target.known or is_mapped(target)))
    cdef size_t length
    if version == 1:
        if not known:
            memcpy(out, b"PROXY UNKNOWN\r\n", 15)
            return 15
        text_of(source, &header.source, six)
        text_of(destination, target, six)
        return snprintf(out, PROXY_HEADER_ROOM, b"PROXY TCP%c %s %s %u %u\r\n", <int>(c'6' if six else c'4'), source, destination,
                        <unsigned int>header.source_port, <unsigned int>header.destination_port)
    memset(out, 0, FIXED + 36)
    memcpy(out, _SIGNATURE, SIGNATURE)
    at[12] = 0x20 if header.local else 0x21
    if not known:
        return <int>FIXED
    length = 36 if six else 12
    at[13] = 0x21 if six else 0x11
    at[15] = <uint8_t>length
    if six:
        memcpy(at + FIXED, header.source.bytes, 16)
        if target.known:
            memcpy(at + FIXED + 16, target.bytes, 16)
    else:
        memcpy(at + FIXED, header.source.bytes + 12, 4)
        if target.known:
            memcpy(at + FIXED + 4, target.bytes + 12, 4)
    at[FIXED + length - 4] = header.source_port >> 8
    at[FIXED + length - 3] = header.source_port & 0xFF
    at[FIXED + length - 2] = header.destination_port >> 8
    at[FIXED + length - 1] = header.destination_port & 0xFF
    return <int>(FIXED + length)


# -- for Python: what active checks say first --------------------------------------------------------------------

def write(int version, bytes source = None, bytes destination = None, *, bint local = False):
    """A header, as bytes. `source` and `destination` are packed `struct sockaddr` values (`pack_address`); a source that is None or of
    another family than the internet's is told as unknown. local: the connection is our own (version 2 only: version 1 cannot say so)."""
    cdef ProxyHeader header
    cdef char out[PROXY_HEADER_ROOM]
    if version != 1 and version != 2:
        raise ValueError(f"there is no version {version} of the PROXY protocol")
    memset(&header, 0, sizeof(header))
    header.relayed = source is not None
    header.local = local
    if source is not None:
        address_from_sockaddr(&header.source, <const char *>source, <int>len(source))
        header.source_port = _port(source)
    if destination is not None:
        address_from_sockaddr(&header.destination, <const char *>destination, <int>len(destination))
        header.destination_port = _port(destination)
    return out[:proxy_write(out, version, &header)]


cdef uint16_t _port(bytes packed):
    """The port stands at the same place in both internet families."""
    return number16(<const uint8_t *><const char *>packed + 2) if len(packed) >= 16 else 0
