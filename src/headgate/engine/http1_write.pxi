# Heads to bytes. A part of http1.pyx.

cdef struct Out:
    char *at
    size_t room
    bint full


cdef inline void put(Out *out, const char *text, size_t size) noexcept nogil:
    """Appends, or notes that there is no room."""
    if size > out.room:
        out.full = True
        out.room = 0                            # nothing more fits after a hole
        return
    memcpy(out.at, text, size)
    out.at += size
    out.room -= size


cdef inline void put_number(Out *out, uint64_t number) noexcept nogil:
    cdef char digits[20]                        # 2**64 has 20
    cdef int n = 20
    while True:
        n -= 1
        digits[n] = <char>(c'0' + number % 10)
        number //= 10
        if number == 0:
            break
    put(out, digits + n, 20 - n)


cdef inline void put_line(Out *out, const char *name, size_t name_size, const char *value,
                          size_t value_size) noexcept nogil:
    """`name` with its ": ", the value, CRLF."""
    put(out, name, name_size)
    put(out, value, value_size)
    put(out, b"\r\n", 2)


cdef inline uint32_t bit(uint8_t id) noexcept nogil:
    return <uint32_t>1 << id                    # ids are below 32


cdef inline uint32_t put_fields(Out *out, Head *head, uint32_t skipped) noexcept nogil:
    """Copies the field lines that go on, run by run, as they came. Returns the ids that did, as bits."""
    cdef uint16_t i = 0, count = head.field_count
    cdef uint32_t kept = 0, start, end
    cdef Field *field
    while i < count:
        field = &head.fields[i]                 # i < field_count
        i += 1
        if field.drop or skipped >> field.id & 1:
            continue
        start = field.name_off
        kept |= bit(field.id)
        end = head.length - 2                   # where the last field line ends
        while i < count:
            field = &head.fields[i]
            if field.drop or skipped >> field.id & 1:
                end = field.name_off            # lines follow each other without a gap
                break
            kept |= bit(field.id)
            i += 1
        put(out, head.base + start, end - start)
    return kept


cdef void put_joined(Out *out, Head *head, uint8_t id) noexcept nogil:
    """All values of a field as one list."""
    cdef uint16_t i
    cdef Field *field
    cdef bint first = True
    for i in range(head.field_count):
        field = &head.fields[i]                 # i < field_count
        if field.id != id or field.value_len == 0:
            continue
        if not first:
            put(out, b", ", 2)
        put(out, head.base + field.value_off, field.value_len)
        first = False


cdef bint has_value(Head *head, uint8_t id) noexcept nogil:
    cdef uint16_t i
    for i in range(head.field_count):
        if head.fields[i].id == id and head.fields[i].value_len != 0:       # i < field_count
            return True
    return False


cdef bint goes_on(Head *head, const char *name, uint16_t size) noexcept nogil:
    """Is there a field of this (lower-case) name that goes on?"""
    cdef uint16_t i
    for i in range(head.field_count):
        if head.fields[i].name_len == size and not head.fields[i].drop and is_name(<const uint8_t *>head.base + head.fields[i].name_off, name, size):
            return True
    return False


cdef inline void put_via(Out *out, Head *head, const char *via, size_t size) noexcept nogil:
    """Our own Via line behind those that came (RFC 9110 section 7.6.3): the version is that of the message received."""
    if via != NULL and size != 0:
        put_line(out, b"Via: 1.1 " if head.minor_version else b"Via: 1.0 ", 9, via, size)


cdef void put_upgrade(Out *out, Head *head) noexcept nogil:
    put(out, b"Connection: upgrade\r\nUpgrade: ", 30)
    put_joined(out, head, FIELD_UPGRADE)
    put(out, b"\r\n", 2)


cdef inline void put_content_length(Out *out, Head *head) noexcept nogil:
    """One line, one number, whatever the sender wrote."""
    if head.content_length >= 0:
        put(out, b"Content-Length: ", 16)
        put_number(out, <uint64_t>head.content_length)
        put(out, b"\r\n", 2)


cdef void put_forwarded_for(Out *out, Head *head, const Forward *forward) noexcept nogil:
    """X-Forwarded-For: a trusted peer's list with the peer appended, else the client alone."""
    if forward.trusted and has_value(head, FIELD_X_FORWARDED_FOR):
        put(out, b"X-Forwarded-For: ", 17)
        put_joined(out, head, FIELD_X_FORWARDED_FOR)
        if forward.peer_length != 0:
            put(out, b", ", 2)
            put(out, forward.peer, forward.peer_length)
        put(out, b"\r\n", 2)
    elif forward.client_length != 0:
        put_line(out, b"X-Forwarded-For: ", 17, forward.client, forward.client_length)


cdef void put_quoted(Out *out, const char *text, size_t size) noexcept nogil:
    """A token as it is, anything else in quotes; a parsed authority holds no quote and no backslash."""
    cdef size_t i
    for i in range(size):
        if not CLASS[<uint8_t>text[i]] & TOKEN:
            put(out, b"\"", 1)
            put(out, text, size)
            put(out, b"\"", 1)
            return
    put(out, text, size)


cdef void put_forwarded(Out *out, Head *head, const Forward *forward, bint continued) noexcept nogil:
    """Our own element (RFC 7239): of the client, or of the trusted peer whose lines it continues. An IPv6 address stands in quotes there."""
    cdef const char *node = forward.peer if continued else forward.client
    cdef size_t size = forward.peer_length if continued else forward.client_length
    if size == 0 or (size == 4 and memcmp(node, b"unix", 4) == 0):
        put(out, b"Forwarded: for=unknown", 22)
    elif memchr(node, c':', size) != NULL:
        put(out, b"Forwarded: for=\"[", 17)
        put(out, node, size)
        put(out, b"]\"", 2)
    else:
        put(out, b"Forwarded: for=", 15)
        put(out, node, size)
    if forward.form != FORM_X and head.authority.len != 0:
        put(out, b";host=", 6)
        put_quoted(out, head.base + head.authority.off, head.authority.len)
    put(out, b";proto=", 7)
    if forward.tls:
        put(out, b"https\r\n", 7)
    else:
        put(out, b"http\r\n", 6)


cdef int64_t write_request(char *out, size_t capacity, Head *head, const Forward *forward) noexcept nogil:
    """See http1.pxd."""
    cdef Out to
    cdef uint32_t skipped, kept
    cdef bint upgrade = forward.keep_upgrade and head.flags & HEAD_UPGRADE
    to.at = out
    to.room = capacity
    to.full = False
    put(&to, head.base + head.method_text.off, head.method_text.len)
    put(&to, b" ", 1)
    put(&to, head.base + head.path.off, head.path.len)
    put(&to, b" HTTP/1.1\r\nHost: ", 17)
    if forward.host != NULL:
        put(&to, forward.host, forward.host_length)
    else:
        put(&to, head.base + head.authority.off, head.authority.len)
    put(&to, b"\r\n", 2)
    skipped = bit(FIELD_HOST) | bit(FIELD_CONTENT_LENGTH) | bit(FIELD_X_FORWARDED_FOR)
    if head.max_forwards >= 0:
        skipped |= bit(FIELD_MAX_FORWARDS)
    if forward.framing != FRAMING_CHUNKED:
        skipped |= bit(FIELD_TRAILER)           # no trailer section without chunks
    if forward.client_length != 0:
        skipped |= bit(FIELD_X_REAL_IP)
    if not forward.trusted:
        skipped |= (bit(FIELD_X_FORWARDED_PROTO) | bit(FIELD_X_FORWARDED_HOST) | bit(FIELD_X_FORWARDED_PORT)
                    | bit(FIELD_X_FORWARDED_OTHER) | bit(FIELD_X_REAL_IP) | bit(FIELD_X_REQUEST_ID)
                    | bit(FIELD_FORWARDED) | bit(FIELD_X_CLIENT_CERT))
    elif forward.extra != NULL:
        skipped |= bit(FIELD_X_CLIENT_CERT)     # it has shown us a certificate itself
    if forward.form != FORM_X:
        if forward.form == FORM_RFC7239:
            skipped |= (bit(FIELD_X_FORWARDED_PROTO) | bit(FIELD_X_FORWARDED_HOST) | bit(FIELD_X_FORWARDED_PORT)
                        | bit(FIELD_X_FORWARDED_OTHER))
        if forward.contradicted:
            skipped |= bit(FIELD_FORWARDED)
    kept = put_fields(&to, head, skipped)
    if forward.form != FORM_RFC7239:
        put_forwarded_for(&to, head, forward)
        if not kept & bit(FIELD_X_FORWARDED_PROTO):
            if forward.tls:
                put(&to, b"X-Forwarded-Proto: https\r\n", 26)
            else:
                put(&to, b"X-Forwarded-Proto: http\r\n", 25)
        if not kept & bit(FIELD_X_FORWARDED_HOST) and head.authority.len != 0:
            put_line(&to, b"X-Forwarded-Host: ", 18, head.base + head.authority.off, head.authority.len)
    if forward.client_length != 0:
        put_line(&to, b"X-Real-IP: ", 11, forward.client, forward.client_length)
    if not kept & bit(FIELD_X_REQUEST_ID) and forward.request_id_length != 0:
        put_line(&to, b"X-Request-ID: ", 14, forward.request_id, forward.request_id_length)
    if kept & bit(FIELD_FORWARDED) or forward.form != FORM_X:
        put_forwarded(&to, head, forward, kept & bit(FIELD_FORWARDED))
    put_via(&to, head, forward.via, forward.via_length)
    if head.max_forwards >= 0:
        put(&to, b"Max-Forwards: ", 14)
        put_number(&to, <uint64_t>max(head.max_forwards - 1, 0))
        put(&to, b"\r\n", 2)
    if forward.framing == FRAMING_CHUNKED:
        put(&to, b"Transfer-Encoding: chunked\r\n", 28)
    elif forward.framing == FRAMING_LENGTH:
        put_content_length(&to, head)
    if forward.keep_expect and head.flags & HEAD_EXPECT_CONTINUE:
        put(&to, b"Expect: 100-continue\r\n", 22)
    if upgrade:
        put_upgrade(&to, head)
    elif head.flags & HEAD_TE_TRAILERS:
        put(&to, b"Connection: TE\r\nTE: trailers\r\n", 30)
    if forward.trace != NULL:
        put(&to, forward.trace, forward.trace_length)
    if forward.extra != NULL:
        put(&to, forward.extra, forward.extra_length)
    put(&to, b"\r\n", 2)
    return -1 if to.full else <int64_t>(to.at - out)


cdef int64_t write_response(char *out, size_t capacity, Head *head, const Answer *answer) noexcept nogil:
    """See http1.pxd."""
    cdef Out to
    cdef uint32_t skipped, kept
    cdef char digits[3]
    cdef bint final = head.status >= 200
    # An HTTP/1.0 client does not know the coding: to it the body ends with the connection.
    cdef bint chunked = answer.framing == FRAMING_CHUNKED and answer.minor_version != 0
    digits[0] = <char>(c'0' + head.status // 100)           # 100..599 when parsed
    digits[1] = <char>(c'0' + head.status // 10 % 10)
    digits[2] = <char>(c'0' + head.status % 10)
    to.at = out
    to.room = capacity
    to.full = False
    put(&to, b"HTTP/1.1 ", 9)
    put(&to, digits, 3)
    put(&to, b" ", 1)
    put(&to, head.base + head.reason.off, head.reason.len)
    put(&to, b"\r\n", 2)
    skipped = bit(FIELD_CONTENT_LENGTH)
    if not chunked:
        skipped |= bit(FIELD_TRAILER)
    kept = put_fields(&to, head, skipped)
    put_via(&to, head, answer.via, answer.via_length)
    if final:
        if not kept & bit(FIELD_DATE) and answer.date != NULL:
            put_line(&to, b"Date: ", 6, answer.date, 29)
        if chunked:
            put(&to, b"Transfer-Encoding: chunked\r\n", 28)
        elif answer.framing == FRAMING_LENGTH or (answer.framing == FRAMING_NONE and head.status != 204):
            put_content_length(&to, head)       # of an answer without body: to HEAD, or 304
        if answer.close or (answer.framing in (FRAMING_CHUNKED, FRAMING_CLOSE) and not chunked):
            put(&to, b"Connection: close\r\n", 19)
        elif answer.minor_version == 0:
            put(&to, b"Connection: keep-alive\r\n", 24)
        if answer.hsts != NULL and not goes_on(head, b"strict-transport-security", 25):
            put(&to, answer.hsts, answer.hsts_length)
        if answer.extra != NULL:
            put(&to, answer.extra, answer.extra_length)
    elif answer.keep_upgrade and head.status == 101:
        put_upgrade(&to, head)
        if answer.extra != NULL:
            put(&to, answer.extra, answer.extra_length)
    put(&to, b"\r\n", 2)
    return -1 if to.full else <int64_t>(to.at - out)
