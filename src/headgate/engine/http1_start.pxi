# Start lines. A part of http1.pyx.
#
# These return the negative ParseError, 0 for "incomplete" and 1 for "read".


cdef bint read_authority(Head *head, const uint8_t *data, uint32_t off, uint32_t size) noexcept nogil:
    """host [":" port] by RFC 3986 section 3.2, without userinfo, into head.authority and head.host."""
    cdef uint32_t i = off, end = off + size     # end <= n: the text lies within a complete line
    cdef uint32_t port = 0
    cdef const uint8_t *bracket
    cdef Address address
    if size != 0 and data[i] == c'[':
        bracket = <const uint8_t *>memchr(data + i, c']', size)
        if bracket == NULL:
            return False
        i = <uint32_t>(bracket - data) + 1
        # IPvFuture has never been given a meaning (RFC 3986 section 3.2.2), so only IPv6 is a host
        if not address_parse(&address, <const char *>data + off, i - off):
            return False
    else:
        i = skip_name(data, i, end)
        while i < end:
            if CLASS[data[i]] & REG_NAME:
                i += 1
            elif data[i] == c'%':
                if end - i < 3 or HEX[data[i + 1]] == NO_HEX or HEX[data[i + 2]] == NO_HEX:
                    return False
                i += 3
            else:
                break
    head.host.off = off
    head.host.len = i - off
    head.authority.off = off
    head.authority.len = size
    if i == end:
        return True
    if data[i] != c':' or i == off:             # no port without a host
        return False
    i += 1
    while i < end:
        if not c'0' <= data[i] <= c'9':
            return False
        port = port * 10 + (data[i] - c'0')     # below 65536 before, so no overflow
        if port > 65535:
            return False
        i += 1
    return True


cdef int read_absolute_target(Head *head, uint8_t *data, uint32_t start, uint32_t end) noexcept nogil:
    """http://authority/path?query: takes authority and path out of it.

    The path that is forwarded may not stand in the buffer: "http://h" means "/", with OPTIONS even "*" (RFC 9112
    section 3.2.4), and "http://h?q" means "/?q". The first is made of the slash before the authority. For the others
    the scheme, which nobody needs any more, gives the room: they are written in place.
    """
    cdef uint32_t authority, i
    cdef uint32_t size = end - start
    if size > 7 and is_name(data + start, b"http", 4) and memcmp(data + start + 4, b"://", 3) == 0:
        authority = start + 7
    elif size > 8 and is_name(data + start, b"https", 5) and memcmp(data + start + 5, b"://", 3) == 0:
        authority = start + 8
    else:
        return -PARSE_BAD_TARGET
    i = authority
    while i < end and data[i] != c'/' and data[i] != c'?':
        i += 1
    if i == authority or not read_authority(head, data, authority, i - authority):
        return -PARSE_BAD_TARGET
    head.flags |= HEAD_ABSOLUTE
    if i < end and data[i] == c'/':
        head.path.off = i
        head.path.len = end - i
    elif i == end:
        head.path.off = authority - 1           # the second slash of "://"
        head.path.len = 1
        if head.method == METHOD_OPTIONS:
            data[authority - 1] = c'*'
            head.flags |= HEAD_ASTERISK
    else:
        memmove(data + authority - 1, data + authority, i - authority)      # one to the left, over that slash
        data[i - 1] = c'/'                      # i > authority > 0
        head.authority.off -= 1
        head.host.off -= 1
        head.path.off = i - 1
        head.path.len = end - i + 1
    return 1


cdef int read_version(Head *head, const uint8_t *text) noexcept nogil:
    """"HTTP/1.1", exactly; `text` holds 8 bytes. A higher minor version is read as our own (RFC 9110 section 2.5)."""
    if memcmp(text, b"HTTP/", 5) != 0 or text[6] != c'.':
        return -PARSE_BAD_VERSION
    if not c'0' <= text[5] <= c'9' or not c'0' <= text[7] <= c'9':
        return -PARSE_BAD_VERSION
    if text[5] != c'1':
        return -PARSE_VERSION_NOT_SUPPORTED
    head.minor_version = 0 if text[7] == c'0' else 1
    return 1


cdef int read_request_line(Head *head, uint8_t *data, uint32_t n, const Limits *limits) noexcept nogil:
    cdef const uint8_t *newline
    cdef uint32_t start, end, i, version
    cdef int result
    while True:
        start = head.position                   # <= n: the last line read ended there
        if start == n:
            return 0
        if not CLASS[data[start]] & FIRST:
            # Not HTTP, say a TLS handshake: no line end will come, so this is told at once.
            return -PARSE_BARE_CR_OR_LF if data[start] == c'\n' else -PARSE_BAD_REQUEST_LINE
        i = max(start, head.scanned)
        newline = <const uint8_t *>memchr(data + i, c'\n', n - i)
        if newline == NULL:
            head.scanned = n
            return -PARSE_REQUEST_LINE_TOO_LONG if n - start > limits.request_line + 1 else 0
        end = <uint32_t>(newline - data)        # start <= end < n
        if end - start != 1 or data[start] != c'\r':
            break
        head.position = end + 1                 # an empty line before the request line (RFC 9112 section 2.2)
        if head.position > 2 * MAX_EMPTY_LINES:
            return -PARSE_BAD_REQUEST_LINE
    if end - start > limits.request_line + 1:   # one more for the CR
        return -PARSE_REQUEST_LINE_TOO_LONG
    if end == start or data[end - 1] != c'\r':
        return -PARSE_BARE_CR_OR_LF
    end -= 1
    # method SP target SP version
    i = start
    while CLASS[data[i]] & TOKEN:               # stops at data[end], a CR, at the latest
        i += 1
    if i == start or data[i] != c' ':
        return -PARSE_BARE_CR_OR_LF if data[i] == c'\r' and i < end else -PARSE_BAD_REQUEST_LINE
    head.method_text.off = start
    head.method_text.len = i - start
    head.method = method_id(<const char *>data + start, i - start)
    start = i + 1
    i = skip_target(data, start, n)             # no further than the space before the version, or that CR
    while CLASS[data[i]] & TARGET:              # likewise
        i += 1
    head.target.off = start
    head.target.len = i - start
    if data[i] != c' ':
        if data[i] == c'\r' and i < end:
            return -PARSE_BARE_CR_OR_LF
        return -PARSE_BAD_REQUEST_LINE if i == end else -PARSE_BAD_TARGET
    if i == start:
        return -PARSE_BAD_REQUEST_LINE
    version = i + 1
    if end - version != 8:
        return -PARSE_BAD_VERSION if end - version < 8 else -PARSE_BAD_REQUEST_LINE
    result = read_version(head, data + version)
    if result < 0:
        return result
    if head.method == METHOD_CONNECT:           # a gateway for its own backends opens no tunnels to elsewhere
        return -PARSE_METHOD_NOT_ALLOWED
    if data[start] == c'/':
        head.path = head.target
    elif i - start == 1 and data[start] == c'*':
        if head.method != METHOD_OPTIONS:
            return -PARSE_BAD_TARGET
        head.path = head.target
        head.flags |= HEAD_ASTERISK
    else:
        result = read_absolute_target(head, data, start, i)
        if result < 0:
            return result
    if head.method in (METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_TRACE, METHOD_PUT, METHOD_DELETE):
        head.flags |= HEAD_IDEMPOTENT
    head.position = end + 2                     # end + 1 is the line feed, below n
    head.line = 1
    return 1


cdef int read_status_line(Head *head, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef const uint8_t *newline
    cdef uint32_t end, i
    cdef int result
    if n == 0:
        return 0
    if data[0] != c'H':
        return -PARSE_BAD_STATUS_LINE           # not HTTP: no line end may ever come
    newline = <const uint8_t *>memchr(data + head.scanned, c'\n', n - head.scanned)     # scanned <= n
    if newline == NULL:
        head.scanned = n
        return 0
    end = <uint32_t>(newline - data)            # end >= 1: data[0] is "H"
    if data[end - 1] != c'\r':
        return -PARSE_BARE_CR_OR_LF
    end -= 1
    if end < 12:                                # "HTTP/1.1 200"
        return -PARSE_BAD_STATUS_LINE
    result = read_version(head, data)
    if result < 0:
        return result
    if data[8] != c' ' or not c'1' <= data[9] <= c'5':
        return -PARSE_BAD_STATUS_LINE           # only 100 to 599 have a class (RFC 9110 section 15)
    for i in range(10, 12):
        if not c'0' <= data[i] <= c'9':
            return -PARSE_BAD_STATUS_LINE
    head.status = <uint16_t>((data[9] - c'0') * 100 + (data[10] - c'0') * 10 + (data[11] - c'0'))
    if end > 12:
        if data[12] != c' ' or skip_value(data, 13, end) != end:        # end >= 13
            return -PARSE_BAD_STATUS_LINE
        head.reason.off = 13
        head.reason.len = end - 13
    head.position = end + 2                     # end + 1 is the line feed, below n
    head.line = 1
    return 1
