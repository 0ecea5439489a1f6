# Bodies in chunked coding (RFC 9112 section 7.1). A part of http1.pyx.

# What a peer can make us do.
cdef enum:
    MAX_CHUNK_DIGITS = 32           # 16 significant ones; some senders pad with zeros
    MAX_CHUNK_LINE = 1024           # extensions of one chunk; no known sender comes near
    CHUNK_ALLOWANCE = 16            # bytes of chunk line that every chunk may cost besides as many as its payload
    MAX_CHUNK_OVERHEAD = 16384      # what may be spent beyond that in a body (CVE-2023-39326)
    MAX_TRAILER_SIZE = 8192
    MAX_TRAILER_FIELDS = 64

cdef enum:
    CHUNK_START                 # first digit of a size
    CHUNK_SIZE
    CHUNK_SPACE                 # whitespace before ";"
    EXTENSION_START             # after ";"
    EXTENSION_NAME
    EXTENSION_NAME_END          # whitespace after it
    EXTENSION_VALUE_START       # after "="
    EXTENSION_VALUE
    EXTENSION_QUOTED
    EXTENSION_ESCAPED
    EXTENSION_QUOTED_END
    EXTENSION_VALUE_END         # whitespace after it
    CHUNK_LF
    CHUNK_DATA
    CHUNK_DATA_CR
    CHUNK_DATA_LF
    TRAILER_START
    TRAILER_NAME
    TRAILER_VALUE
    TRAILER_LF
    TRAILER_END_LF
    CHUNK_DONE


cdef void chunk_init(ChunkDecoder *decoder) noexcept nogil:
    """Ready for the first byte of a body."""
    decoder.remaining = 0
    decoder.overhead = 0
    decoder.trailer_size = 0
    decoder.state = CHUNK_START
    decoder.error = PARSE_OK
    decoder.done = 0
    decoder.trailer_fields = 0


cdef bint starts_with(const uint8_t *name, uint32_t size, const char *prefix, uint32_t length) noexcept nogil:
    return size >= length and is_name(name, prefix, length)


cdef bint is_trailer_allowed(const uint8_t *line, uint32_t size) noexcept nogil:
    """May this field line stand in a trailer section? (RFC 9110 section 6.5.1)

    No framing, routing, request modifiers, authentication, response control data, nothing about how to read the
    content, nothing the engine acts on: whoever merges trailers into the header section must not be misled by them.
    """
    cdef const uint8_t *colon = <const uint8_t *>memchr(line, c':', size)
    cdef uint8_t name[32]
    cdef uint32_t length, i
    if colon == NULL:
        return False
    length = <uint32_t>(colon - line)
    if dashed_id(line, length) != FIELD_OTHER:
        return False
    length = min(length, 32)                    # the longest name below has 25 bytes
    for i in range(length):                     # i < 32
        name[i] = c'-' if line[i] == c'_' else line[i]
    if (starts_with(name, length, b"content-", 8) or starts_with(name, length, b"if-", 3)
            or starts_with(name, length, b"proxy-", 6) or starts_with(name, length, b"sec-", 4)
            or starts_with(name, length, b"access-control-", 15) or starts_with(name, length, b"x-forwarded", 11)
            or starts_with(name, length, b"cross-origin-", 13)):
        return False
    if length == 3 and is_name(name, b"age", 3):
        return False
    if length == 4 and (is_name(name, b"vary", 4) or is_name(name, b"from", 4) or is_name(name, b"link", 4)):
        return False
    if length == 5 and (is_name(name, b"range", 5) or is_name(name, b"allow", 5)):
        return False
    if length == 6 and (is_name(name, b"pragma", 6) or is_name(name, b"accept", 6) or is_name(name, b"origin", 6)):
        return False
    if length == 7 and (is_name(name, b"expires", 7) or is_name(name, b"warning", 7) or is_name(name, b"alt-svc", 7)
                        or is_name(name, b"referer", 7) or is_name(name, b"refresh", 7)):
        return False
    if length == 8 and is_name(name, b"location", 8):
        return False
    if length == 10 and is_name(name, b"user-agent", 10):
        return False
    if length == 13 and (is_name(name, b"authorization", 13) or is_name(name, b"cache-control", 13)
                         or is_name(name, b"accept-ranges", 13) or is_name(name, b"last-modified", 13)):
        return False
    if length == 16 and is_name(name, b"www-authenticate", 16):
        return False
    if length == 25 and is_name(name, b"strict-transport-security", 25):
        return False
    return True


cdef inline int end_chunk_line(ChunkDecoder *decoder) noexcept nogil:
    """The size line is complete: accounts for it. trailer_size holds its length, `remaining` the size."""
    cdef uint64_t allowance = CHUNK_ALLOWANCE + decoder.remaining       # remaining < 2**63: no overflow
    decoder.overhead += decoder.trailer_size                            # <= 16384 + 1024 + 32
    decoder.overhead = 0 if decoder.overhead <= allowance else decoder.overhead - <uint32_t>allowance
    if decoder.overhead > MAX_CHUNK_OVERHEAD:
        return PARSE_CHUNK_EXTENSION_TOO_LONG
    decoder.trailer_size = 0
    decoder.state = CHUNK_DATA if decoder.remaining != 0 else TRAILER_START
    return PARSE_OK


cdef inline int step_chunk_line(ChunkDecoder *decoder, uint8_t byte) noexcept nogil:
    """One byte of a size line (RFC 9112 section 7.1). Returns a ParseError."""
    cdef uint8_t state = decoder.state
    cdef uint8_t classes = CLASS[byte]
    decoder.trailer_size += 1                   # bytes of this line; the trailer itself comes later
    if state == CHUNK_START or state == CHUNK_SIZE:
        if HEX[byte] != NO_HEX:
            if decoder.remaining >> 59 or decoder.trailer_size > MAX_CHUNK_DIGITS:      # would pass 2**63 - 1
                return PARSE_BAD_CHUNK
            decoder.remaining = decoder.remaining << 4 | HEX[byte]
            decoder.state = CHUNK_SIZE
            return PARSE_OK
        if state == CHUNK_START:
            return PARSE_BAD_CHUNK
        if byte == c'\r':
            decoder.state = CHUNK_LF
        elif byte == c';':
            decoder.state = EXTENSION_START
        elif is_space(byte):
            decoder.state = CHUNK_SPACE
        else:
            return PARSE_BAD_CHUNK
        return PARSE_OK
    if state == CHUNK_LF:
        return end_chunk_line(decoder) if byte == c'\n' else PARSE_BAD_CHUNK
    if decoder.trailer_size > MAX_CHUNK_LINE:
        return PARSE_CHUNK_EXTENSION_TOO_LONG
    if state == EXTENSION_NAME or state == EXTENSION_VALUE:
        if classes & TOKEN:
            return PARSE_OK
        if byte == c'\r':
            decoder.state = CHUNK_LF
        elif byte == c';':
            decoder.state = EXTENSION_START
        elif is_space(byte):
            decoder.state = EXTENSION_NAME_END if state == EXTENSION_NAME else EXTENSION_VALUE_END
        elif byte == c'=' and state == EXTENSION_NAME:
            decoder.state = EXTENSION_VALUE_START
        else:
            return PARSE_BAD_CHUNK
        return PARSE_OK
    if state == EXTENSION_QUOTED:
        if classes & QUOTED:
            return PARSE_OK
        if byte == c'"':
            decoder.state = EXTENSION_QUOTED_END
        elif byte == c'\\':
            decoder.state = EXTENSION_ESCAPED
        else:
            return PARSE_BAD_CHUNK              # CR too: a quoted string ends on its line
        return PARSE_OK
    if state == EXTENSION_ESCAPED:
        decoder.state = EXTENSION_QUOTED
        return PARSE_OK if classes & VALUE else PARSE_BAD_CHUNK
    if state == EXTENSION_QUOTED_END and byte == c'\r':
        decoder.state = CHUNK_LF
        return PARSE_OK
    if is_space(byte):
        if state == EXTENSION_QUOTED_END:
            decoder.state = EXTENSION_VALUE_END
        return PARSE_OK                         # "bad whitespace": allowed around ";" and "="
    if state == EXTENSION_START and classes & TOKEN:
        decoder.state = EXTENSION_NAME
    elif state == EXTENSION_VALUE_START and classes & TOKEN:
        decoder.state = EXTENSION_VALUE
    elif state == EXTENSION_VALUE_START and byte == c'"':
        decoder.state = EXTENSION_QUOTED
    elif state == EXTENSION_NAME_END and byte == c'=':
        decoder.state = EXTENSION_VALUE_START
    elif byte == c';' and state in (CHUNK_SPACE, EXTENSION_NAME_END, EXTENSION_QUOTED_END, EXTENSION_VALUE_END):
        decoder.state = EXTENSION_START
    else:
        return PARSE_BAD_CHUNK
    return PARSE_OK


cdef inline int step_trailer(ChunkDecoder *decoder, uint8_t byte) noexcept nogil:
    """One byte of the trailer section (RFC 9112 section 7.1.2). Returns a ParseError."""
    cdef uint8_t state = decoder.state
    decoder.trailer_size += 1
    if decoder.trailer_size > MAX_TRAILER_SIZE:
        return PARSE_TRAILER_TOO_LARGE
    if state == TRAILER_START:
        if byte == c'\r':
            decoder.state = TRAILER_END_LF
        elif CLASS[byte] & TOKEN:
            if decoder.trailer_fields >= MAX_TRAILER_FIELDS:
                return PARSE_TRAILER_TOO_LARGE
            decoder.trailer_fields += 1
            decoder.state = TRAILER_NAME
        elif byte == c'\n':
            return PARSE_BARE_CR_OR_LF
        else:
            return PARSE_OBS_FOLD if is_space(byte) else PARSE_BAD_FIELD
    elif state == TRAILER_NAME:
        if byte == c':':
            decoder.state = TRAILER_VALUE
        elif not CLASS[byte] & TOKEN:
            return PARSE_BARE_CR_OR_LF if byte == c'\r' or byte == c'\n' else PARSE_BAD_FIELD
    elif state == TRAILER_VALUE:
        if byte == c'\r':
            decoder.state = TRAILER_LF
        elif not CLASS[byte] & VALUE:
            return PARSE_BARE_CR_OR_LF if byte == c'\n' else PARSE_BAD_FIELD
    else:
        if byte != c'\n':
            return PARSE_BARE_CR_OR_LF
        decoder.state = TRAILER_START if state == TRAILER_LF else CHUNK_DONE
    return PARSE_OK


cdef int64_t chunk_decode(ChunkDecoder *decoder, char *data, size_t size, size_t *payload,
                          char *trailer, size_t trailer_capacity, size_t *trailer_length) noexcept nogil:
    """See http1.pxd. A trailer line that is not complete yet stands behind trailer[:*trailer_length] until it is."""
    cdef size_t i = 0, out = 0, run, at
    cdef int error = PARSE_OK
    cdef uint8_t state, byte
    while i < size and error == PARSE_OK:
        state = decoder.state
        if state == CHUNK_DATA:
            run = <size_t>min(decoder.remaining, <uint64_t>(size - i))
            if out != i:
                memmove(data + out, data + i, run)      # out < i, and i + run <= size
            out += run
            i += run
            decoder.remaining -= run
            if decoder.remaining == 0:
                decoder.state = CHUNK_DATA_CR
            continue
        if state == CHUNK_DONE:
            break
        byte = <uint8_t>data[i]
        i += 1
        if state < CHUNK_DATA:
            error = step_chunk_line(decoder, byte)
        elif state == CHUNK_DATA_CR:
            decoder.state = CHUNK_DATA_LF
            if byte != c'\r':
                error = PARSE_BAD_CHUNK
        elif state == CHUNK_DATA_LF:
            decoder.state = CHUNK_START
            if byte != c'\n':
                error = PARSE_BAD_CHUNK
        else:
            error = step_trailer(decoder, byte)
            if error != PARSE_OK or state == TRAILER_END_LF or decoder.state == TRAILER_END_LF:
                continue
            # The line is gathered behind the kept ones; `remaining` counts its bytes, whether they fit or not.
            at = trailer_length[0] + <size_t>decoder.remaining if trailer_capacity != 0 else 0
            if at < trailer_capacity:
                trailer[at] = <char>byte
            decoder.remaining += 1
            if decoder.state == TRAILER_START:
                if at < trailer_capacity and is_trailer_allowed(<const uint8_t *>trailer + trailer_length[0],
                                                                <uint32_t>decoder.remaining):
                    trailer_length[0] += <size_t>decoder.remaining
                decoder.remaining = 0
    payload[0] = out
    if error != PARSE_OK:
        decoder.error = <uint8_t>error
        return -1
    decoder.done = decoder.state == CHUNK_DONE
    return <int64_t>i


cdef int chunk_head(char *out, uint64_t size) noexcept nogil:
    """The size line of a chunk; `size` = 0 makes the last chunk's."""
    cdef const char *digits = b"0123456789abcdef"
    cdef int shift = 60, n = 0
    while shift > 0 and (size >> shift) == 0:
        shift -= 4
    while shift >= 0:                           # at most 16 digits, and CRLF: 18 bytes
        out[n] = digits[(size >> shift) & 15]   # & 15: within the 16 digits
        n += 1
        shift -= 4
    out[n] = c'\r'
    out[n + 1] = c'\n'
    return n + 2
