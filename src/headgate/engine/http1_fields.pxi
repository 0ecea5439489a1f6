# Fields that mean something to the engine. A part of http1.pyx.
#
# These return PARSE_OK or the ParseError. `value` holds `size` bytes, trimmed; next_element keeps each element within
# them, so start + length <= size.


cdef int read_content_length(Head *head, const uint8_t *value, uint32_t size) noexcept nogil:
    """Digits, or a list of the same number (RFC 9112 section 6.3); every line must say the same."""
    cdef uint32_t at = 0, start = 0, length = 0, i
    cdef int64_t number = 0
    cdef int digit
    if head.content_length < 0 and 0 < size < 16:
        # As nearly all of them come: one number, short enough that it cannot overflow.
        while at < size and c'0' <= value[at] <= c'9':
            number = number * 10 + (value[at] - c'0')
            at += 1
        if at == size:
            head.content_length = number
            return PARSE_OK
        at = 0
    while next_element(value, size, &at, &start, &length):
        if length == 0:
            return PARSE_BAD_CONTENT_LENGTH
        number = 0
        for i in range(start, start + length):      # within value: next_element keeps start + length <= size
            if not c'0' <= value[i] <= c'9':
                return PARSE_BAD_CONTENT_LENGTH
            digit = value[i] - c'0'
            if number > (MAX_LENGTH - digit) // 10:
                return PARSE_BAD_CONTENT_LENGTH
            number = number * 10 + digit
        if head.content_length >= 0 and head.content_length != number:
            return PARSE_BAD_CONTENT_LENGTH
        head.content_length = number
    return PARSE_OK


cdef int read_transfer_encoding(Head *head, const uint8_t *value, uint32_t size) noexcept nogil:
    """Only `chunked`, once. Any other coding is unknown to us (501); what is no list of codings is malformed."""
    cdef uint32_t at = 0, start = 0, length = 0, i
    cdef bint unknown = False, malformed = False
    if head.minor_version == 0 or head.framing == FRAMING_CHUNKED:
        # RFC 9112 section 6.1: in HTTP/1.0 the framing is faulty; chunked is never applied twice.
        return PARSE_BAD_TRANSFER_ENCODING
    while next_element(value, size, &at, &start, &length):
        i = start
        while i < start + length and CLASS[value[i]] & TOKEN:
            i += 1
        if length == 0 or i != start + length:
            malformed = True
        elif length != 7 or not is_name(value + start, b"chunked", 7):
            unknown = True
        elif head.framing == FRAMING_CHUNKED:
            malformed = True
        else:
            head.framing = FRAMING_CHUNKED
    if malformed:
        return PARSE_BAD_TRANSFER_ENCODING
    return PARSE_UNKNOWN_TRANSFER_CODING if unknown else PARSE_OK


cdef void read_connection(Head *head, const uint8_t *value, uint32_t size) noexcept nogil:
    """Notes the options that mean something; the fields that others name are dropped when all fields are known."""
    cdef uint32_t at = 0, start = 0, length = 0
    while next_element(value, size, &at, &start, &length):
        if length == 0:
            continue
        if length == 5 and is_name(value + start, b"close", 5):
            head.flags |= SEEN_CLOSE
        elif length == 10 and is_name(value + start, b"keep-alive", 10):
            head.flags |= SEEN_KEEP_ALIVE
        elif length == 7 and is_name(value + start, b"upgrade", 7):
            head.flags |= SEEN_UPGRADE_OPTION
        else:
            head.flags |= SEEN_NOMINATION


cdef void read_upgrade(Head *head, const uint8_t *value, uint32_t size) noexcept nogil:
    """HEAD_WEBSOCKET when "websocket" is all that is offered, HEAD_H2C when some HTTP is (RFC 9113 section 3.1)."""
    cdef uint32_t at = 0, start = 0, length = 0, i
    if head.flags & SEEN_UPGRADE_FIELD:
        head.flags &= <uint16_t>~HEAD_WEBSOCKET
    elif size == 9 and is_name(value, b"websocket", 9):
        head.flags |= HEAD_WEBSOCKET
    while next_element(value, size, &at, &start, &length):
        if length == 0:
            continue
        head.flags |= SEEN_UPGRADE_FIELD
        i = 0
        while i < length and value[start + i] != c'/':          # protocol-name ["/" version]
            i += 1
        if ((i == 3 and is_name(value + start, b"h2c", 3)) or (i == 2 and is_name(value + start, b"h2", 2))
                or (i == 4 and is_name(value + start, b"http", 4))):
            head.flags |= HEAD_H2C


cdef int read_max_forwards(Head *head, const uint8_t *value, uint32_t size) noexcept nogil:
    """A number, cut off at what the field holds: the largest we support (RFC 9110 section 7.6.2)."""
    cdef uint32_t i
    cdef int number = 0
    if size == 0 or head.max_forwards >= 0:
        return PARSE_BAD_FIELD
    for i in range(size):
        if not c'0' <= value[i] <= c'9':
            return PARSE_BAD_FIELD
        number = min(number * 10 + (value[i] - c'0'), 32767)
    head.max_forwards = <int16_t>number
    return PARSE_OK


cdef bint read_expect(Head *head, const uint8_t *value, uint32_t size) noexcept nogil:
    """True when the field says nothing but 100-continue, so that we can answer for it."""
    cdef uint32_t at = 0, start = 0, length = 0
    cdef bint only = True
    while next_element(value, size, &at, &start, &length):
        if length == 12 and is_name(value + start, b"100-continue", 12):
            head.flags |= HEAD_EXPECT_CONTINUE
        elif length != 0:
            only = False
    return only


cdef void read_te(Head *head, const uint8_t *value, uint32_t size) noexcept nogil:
    cdef uint32_t at = 0, start = 0, length = 0
    while next_element(value, size, &at, &start, &length):
        if length == 8 and is_name(value + start, b"trailers", 8):
            head.flags |= HEAD_TE_TRAILERS


cdef void read_keep_alive(Head *head, const uint8_t *value, uint32_t size) noexcept nogil:
    """timeout=N of a response: how long the backend says it keeps an idle connection, in seconds."""
    cdef uint32_t at = 0, start = 0, length = 0, i, number
    while next_element(value, size, &at, &start, &length):
        if length <= 8 or not is_name(value + start, b"timeout", 7) or value[start + 7] != c'=':
            continue
        number = 0
        i = start + 8
        while i < start + length and c'0' <= value[i] <= c'9':
            number = min(number * 10 + (value[i] - c'0'), 65535)
            i += 1
        if i == start + length:
            head.keep_alive_timeout = <uint16_t>number


cdef int note_request_field(Head *head, const uint8_t *data, Field *field, uint8_t classes) noexcept nogil:
    """What a request field means for the exchange; classes = the classes its name's bytes have together."""
    cdef const uint8_t *value = data + field.value_off
    cdef uint32_t size = field.value_len
    cdef Span authority, host
    cdef uint8_t id = field.id
    if id == FIELD_OTHER:
        # A twin with underscores is one name with the real field in CGI and WSGI programs: nobody sends it in honesty.
        if classes & UNDERSCORE and dashed_id(data + field.name_off, field.name_len) != FIELD_OTHER:
            field.drop = 1
    elif id == FIELD_X_FORWARDED_OTHER:
        if classes & UNDERSCORE:
            field.drop = 1
    elif id == FIELD_HOST:
        if head.flags & SEEN_HOST:
            return PARSE_BAD_HOST
        head.flags |= SEEN_HOST
        authority = head.authority
        host = head.host
        if not read_authority(head, data, field.value_off, size):
            return PARSE_BAD_HOST
        if head.flags & HEAD_ABSOLUTE:          # the target's authority wins (RFC 9112 section 3.2.2)
            head.authority = authority
            head.host = host
    elif id == FIELD_CONNECTION:
        field.drop = 1
        read_connection(head, value, size)
    elif id == FIELD_CONTENT_LENGTH:
        if head.framing == FRAMING_CHUNKED:
            return PARSE_LENGTH_AND_CHUNKED
        return read_content_length(head, value, size)
    elif id == FIELD_TRANSFER_ENCODING:
        field.drop = 1
        if head.content_length >= 0:
            return PARSE_LENGTH_AND_CHUNKED
        return read_transfer_encoding(head, value, size)
    elif id == FIELD_UPGRADE:
        field.drop = 1
        read_upgrade(head, value, size)
    elif id == FIELD_EXPECT:
        if read_expect(head, value, size):
            field.drop = 1
    elif id == FIELD_TE:
        field.drop = 1
        read_te(head, value, size)
    elif id == FIELD_MAX_FORWARDS:
        if head.method == METHOD_TRACE or head.method == METHOD_OPTIONS:
            return read_max_forwards(head, value, size)
    elif id in (FIELD_KEEP_ALIVE, FIELD_PROXY_CONNECTION, FIELD_HTTP2_SETTINGS, FIELD_PROXY, FIELD_PROXY_AUTHENTICATE,
                FIELD_PROXY_AUTHORIZATION):
        field.drop = 1
    return PARSE_OK


cdef int note_response_field(Head *head, const uint8_t *data, Field *field) noexcept nogil:
    """The same for a response."""
    cdef const uint8_t *value = data + field.value_off
    cdef uint32_t size = field.value_len
    cdef uint8_t id = field.id
    if id == FIELD_OTHER:
        pass
    elif id == FIELD_CONTENT_LENGTH:
        return read_content_length(head, value, size)
    elif id == FIELD_TRANSFER_ENCODING:
        field.drop = 1
        return read_transfer_encoding(head, value, size)
    elif id == FIELD_CONNECTION:
        field.drop = 1
        read_connection(head, value, size)
    elif id == FIELD_KEEP_ALIVE:
        field.drop = 1
        read_keep_alive(head, value, size)
    elif id == FIELD_UPGRADE:
        field.drop = 1
        read_upgrade(head, value, size)
    elif id in (FIELD_PROXY_CONNECTION, FIELD_TE, FIELD_HTTP2_SETTINGS, FIELD_PROXY_AUTHENTICATE,
                FIELD_PROXY_AUTHORIZATION):
        field.drop = 1
    return PARSE_OK


cdef bint same_name(const uint8_t *a, const uint8_t *b, uint32_t size) noexcept nogil:
    """Equal but for the case of letters; both are `size` bytes long."""
    cdef uint32_t i
    cdef uint8_t lower
    for i in range(size):
        if a[i] != b[i]:
            lower = a[i] | 0x20
            if (a[i] ^ b[i]) != 0x20 or not c'a' <= lower <= c'z':
                return False
    return True


cdef inline bint is_protected(uint8_t id) noexcept nogil:
    """Fields that Connection cannot take away: routing, framing, and what we set ourselves (CVE-2024-45410)."""
    return id in (FIELD_HOST, FIELD_CONTENT_LENGTH, FIELD_TRANSFER_ENCODING, FIELD_VIA, FIELD_MAX_FORWARDS,
                  FIELD_FORWARDED, FIELD_X_FORWARDED_FOR, FIELD_X_FORWARDED_PROTO, FIELD_X_FORWARDED_HOST,
                  FIELD_X_FORWARDED_PORT, FIELD_X_FORWARDED_OTHER, FIELD_X_CLIENT_CERT, FIELD_X_REAL_IP, FIELD_X_REQUEST_ID)


cdef int drop_nominated(Head *head, const uint8_t *data, const Limits *limits) noexcept nogil:
    """Drops the fields that Connection lines name (RFC 9110 section 7.6.1)."""
    cdef uint32_t at, start = 0, length = 0, options = 0
    cdef uint16_t i, k
    cdef Field *line
    cdef Field *field
    cdef const uint8_t *value
    for i in range(head.field_count):
        line = &head.fields[i]                  # i, and k below, < field_count <= field_capacity
        if line.id != FIELD_CONNECTION:
            continue
        value = data + line.value_off
        at = 0
        while next_element(value, line.value_len, &at, &start, &length):
            if length == 0:
                continue
            options += 1
            if options > limits.headers:        # more names than there can be fields: only there to cost time
                return PARSE_TOO_MANY_HEADERS
            for k in range(head.field_count):
                field = &head.fields[k]
                if (field.name_len == length and not field.drop
                        and same_name(data + field.name_off, value + start, length) and not is_protected(field.id)):
                    field.drop = 1
    return PARSE_OK


cdef inline void note_keep_alive(Head *head) noexcept nogil:
    """RFC 9112 section 9.3."""
    if not head.flags & SEEN_CLOSE and (head.minor_version == 1 or head.flags & SEEN_KEEP_ALIVE):
        head.flags |= HEAD_KEEP_ALIVE
