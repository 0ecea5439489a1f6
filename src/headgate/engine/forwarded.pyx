"""The Forwarded field (RFC 7239) as trusted proxies send it.

Each proxy appends an element, `for=192.0.2.1;proto=https`. Elements are read from the right end, as those of X-Forwarded-For are,
since what stands on the left may have come from anybody: so a quote that somebody left open there hides nothing that was
appended behind it. Read strictly: an element that is not exactly by the grammar of section 4 says nothing.
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from headgate.engine.address cimport Address, Networks, address_parse, resolve_client
from headgate.engine.head cimport Field, FIELD_FORWARDED, Head
from headgate.engine.http1 cimport FORM_BOTH, FORM_RFC7239, find_field

cdef enum:
    # An IPv6 address in brackets, with a port and an escape before each character: what is longer is none.
    NODE_MOST = 128


cdef inline bint is_space(char byte) noexcept nogil:
    return byte == c' ' or byte == c'\t'


cdef bint is_token(uint8_t byte) noexcept nogil:
    """tchar of RFC 9110 section 5.6.2."""
    if c'0' <= byte <= c'9' or c'a' <= (byte | 0x20) <= c'z':
        return True
    return byte in (c'!', c'#', c'$', c'%', c'&', c"'", c'*', c'+', c'-', c'.', c'^', c'_', c'`', c'|', c'~')


cdef uint32_t element_start(const char *value, uint32_t end) noexcept nogil:
    """Where the element that ends at `end` begins: behind the nearest comma to the left that does not stand in quotes."""
    cdef uint32_t i = end, back
    cdef bint quoted = False
    while i > 0:
        if value[i - 1] == c'"':
            back = i - 1
            while back > 0 and value[back - 1] == c'\\':
                back -= 1
            if (i - 1 - back) & 1 == 0:         # an even number of backslashes: the quote is not escaped
                quoted = not quoted
        elif value[i - 1] == c',' and not quoted:
            return i
        i -= 1
    return 0


cdef int read_node(Address *out, const char *text, uint32_t size) noexcept nogil:
    """A node (section 6): 1 = an address; 0 = none: unknown, an obfuscated identifier, or nonsense."""
    cdef uint32_t colon = size, i
    while colon > 0 and text[colon - 1] != c':':
        colon -= 1
    if colon > 0 and colon < size and text[colon] == c'_':
        # An obfuscated port, "192.0.2.1:_x": it says nothing about the address.
        for i in range(colon, size):
            if not is_token(<uint8_t>text[i]):
                return 0
        size = colon - 1
    return 1 if address_parse(out, text, size) else 0


cdef int element_for(Address *out, const char *text, uint32_t size) noexcept nogil:
    """The `for` of one element: 1 = an address; 0 = the element does not say who it was, or is malformed."""
    cdef char node[NODE_MOST]
    cdef uint32_t i = 0, name, name_size, node_size
    cdef bint found = False, wanted
    cdef int known = 0
    while True:
        while i < size and is_space(text[i]):
            i += 1
        name = i
        while i < size and is_token(<uint8_t>text[i]):
            i += 1
        name_size = i - name
        if name_size == 0:
            if i < size and text[i] == c';':
                i += 1                          # an empty pair
                continue
            return known if i == size else 0
        if i == size or text[i] != c'=':
            return 0
        i += 1
        wanted = (name_size == 3 and text[name] | 0x20 == c'f' and text[name + 1] | 0x20 == c'o' and text[name + 2] | 0x20 == c'r')
        if wanted and found:
            return 0                            # each parameter once (section 4)
        node_size = 0
        if i < size and text[i] == c'"':
            i += 1
            while True:
                if i == size:
                    return 0
                if text[i] == c'"':
                    i += 1
                    break
                if text[i] == c'\\':
                    i += 1
                    if i == size:
                        return 0
                if wanted:
                    if node_size == NODE_MOST:
                        return 0
                    node[node_size] = text[i]   # node_size < NODE_MOST
                    node_size += 1
                i += 1
        else:
            # Brackets and colons ask for quotes; many a proxy leaves them out, and there is one way to read that.
            while i < size and (is_token(<uint8_t>text[i]) or text[i] in (c'[', c']', c':')):
                if wanted:
                    if node_size == NODE_MOST:
                        return 0
                    node[node_size] = text[i]
                    node_size += 1
                i += 1
        if wanted:
            found = True
            known = read_node(out, node, node_size)
        while i < size and is_space(text[i]):
            i += 1
        if i == size:
            return known
        if text[i] != c';':
            return 0
        i += 1


cdef bint client_by_fields(Address *out, Head *head, const Address *peer, Networks trusted, uint8_t form) noexcept:
    """See forwarded.pxd."""
    cdef Address other
    if form == FORM_RFC7239:
        resolve_forwarded(out, head, peer, trusted)
        return False
    resolve_client(out, head, peer, trusted)
    if form != FORM_BOTH or find_field(head, FIELD_FORWARDED) == NULL:
        return False
    resolve_forwarded(&other, head, peer, trusted)
    return other.known != out.known or (other.known and memcmp(other.bytes, out.bytes, 16) != 0)


cdef void resolve_forwarded(Address *out, Head *head, const Address *peer, Networks trusted) noexcept:
    """See forwarded.pxd. An element that names no address ends the walk with the peer's own: what is left of it cannot be believed."""
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
        if field.id != FIELD_FORWARDED or field.drop:
            continue
        value = head.base + field.value_off
        end = field.value_len
        while end > 0:
            stop = end
            start = element_start(value, end)
            end = start - 1 if start > 0 else 0
            while start < stop and is_space(value[start]):
                start += 1
            while start < stop and is_space(value[stop - 1]):
                stop -= 1
            if start == stop:
                continue                        # an empty list element (RFC 9110 section 5.6.1)
            if not element_for(&found, value + start, stop - start):
                return
            if not trusted.contains(&found):
                out[0] = found
                return
