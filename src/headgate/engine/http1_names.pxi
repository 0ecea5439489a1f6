# Bytes and names: what class a byte is of, which field or method a name is, where a value ends, lists.
# A part of http1.pyx.

cdef enum:
    TOKEN = 1           # tchar (RFC 9110 section 5.6.2)
    TARGET = 2          # may stand in a request target
    VALUE = 4           # may stand in a field value: HTAB, SP, VCHAR, obs-text (RFC 9110 section 5.5)
    REG_NAME = 8        # unreserved or sub-delims (RFC 3986 section 3.2.2); "%" is looked at apart
    UNDERSCORE = 16
    QUOTED = 32         # qdtext (RFC 9110 section 5.6.4)
    FIRST = 64          # may be the first byte of a request: of a method, or CR of an empty line before it
    NO_HEX = 255

cdef uint8_t CLASS[256]
cdef uint8_t HEX[256]               # value of a hexadecimal digit, else NO_HEX


def _fill_tables() -> None:
    alphanumeric = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    cdef int byte
    for byte in range(256):
        CLASS[byte] = 0             # byte is 0..255
        HEX[byte] = NO_HEX
        # Bytes above 0x7E are refused in a target (RFC 3986 has none, and readers disagree on their charset, so a path
        # could match one route here and another there), as is "#": a fragment is never sent. Other characters that
        # RFC 3986 leaves out, as | or {, come from real browsers, mean one thing, and pass unchanged.
        if 0x21 <= byte <= 0x7E and byte != 0x23:
            CLASS[byte] |= TARGET
        if byte == 0x09 or (byte >= 0x20 and byte != 0x7F):
            CLASS[byte] |= VALUE
            if byte not in b'"\\':
                CLASS[byte] |= QUOTED
    for byte in alphanumeric + b"!#$%&'*+-.^_`|~":
        CLASS[byte] |= TOKEN | FIRST
    for byte in alphanumeric + b"-._~!$&'()*+,;=":
        CLASS[byte] |= REG_NAME
    CLASS[0x5F] |= UNDERSCORE
    CLASS[0x0D] |= FIRST
    for byte in range(10):
        HEX[0x30 + byte] = byte
    for byte in range(6):
        HEX[0x41 + byte] = 10 + byte
        HEX[0x61 + byte] = 10 + byte


_fill_tables()

cdef uint8_t field_id(const uint8_t *name, uint32_t size) noexcept nogil:
    """FieldId of a name that is a token."""
    if size == 4:
        if is_name(name, b"host", 4):
            return FIELD_HOST
        if is_name(name, b"date", 4):
            return FIELD_DATE
    elif size == 6:
        if is_name(name, b"cookie", 6):
            return FIELD_COOKIE
        if is_name(name, b"server", 6):
            return FIELD_SERVER
        if is_name(name, b"expect", 6):
            return FIELD_EXPECT
    elif size == 10:
        if is_name(name, b"connection", 10):
            return FIELD_CONNECTION
        if is_name(name, b"keep-alive", 10):
            return FIELD_KEEP_ALIVE
        if is_name(name, b"set-cookie", 10):
            return FIELD_SET_COOKIE
    elif size == 14:
        if is_name(name, b"content-length", 14):
            return FIELD_CONTENT_LENGTH
        if is_name(name, b"http2-settings", 14):
            return FIELD_HTTP2_SETTINGS
    elif size == 17:
        if is_name(name, b"transfer-encoding", 17):
            return FIELD_TRANSFER_ENCODING
        if is_name(name, b"x-forwarded-proto", 17):
            return FIELD_X_FORWARDED_PROTO
        if is_name(name, b"sec-websocket-key", 17):
            return FIELD_SEC_WEBSOCKET_KEY
    elif size == 2:
        if is_name(name, b"te", 2):
            return FIELD_TE
    elif size == 3:
        if is_name(name, b"via", 3):
            return FIELD_VIA
    elif size == 5:
        if is_name(name, b"proxy", 5):
            return FIELD_PROXY
    elif size == 7:
        if is_name(name, b"upgrade", 7):
            return FIELD_UPGRADE
        if is_name(name, b"trailer", 7):
            return FIELD_TRAILER
    elif size == 9:
        if is_name(name, b"forwarded", 9):
            return FIELD_FORWARDED
        if is_name(name, b"x-real-ip", 9):
            return FIELD_X_REAL_IP
    elif size == 11:
        if is_name(name, b"retry-after", 11):
            return FIELD_RETRY_AFTER
    elif size == 12:
        if is_name(name, b"x-request-id", 12):
            return FIELD_X_REQUEST_ID
        if is_name(name, b"max-forwards", 12):
            return FIELD_MAX_FORWARDS
    elif size == 15:
        if is_name(name, b"x-forwarded-for", 15):
            return FIELD_X_FORWARDED_FOR
    elif size == 16:
        if is_name(name, b"proxy-connection", 16):
            return FIELD_PROXY_CONNECTION
        if is_name(name, b"x-forwarded-host", 16):
            return FIELD_X_FORWARDED_HOST
        if is_name(name, b"x-forwarded-port", 16):
            return FIELD_X_FORWARDED_PORT
    elif size == 18:
        if is_name(name, b"proxy-authenticate", 18):
            return FIELD_PROXY_AUTHENTICATE
    elif size == 19:
        if is_name(name, b"proxy-authorization", 19):
            return FIELD_PROXY_AUTHORIZATION
    if size > 12:
        # By their third letter: most names are of neither family.
        if name[2] | 0x20 == c'f':
            if is_name(name, b"x-forwarded-", 12):              # -Server, -Prefix, -Ssl ...: believed by some framework
                return FIELD_X_FORWARDED_OTHER
        elif name[2] | 0x20 == c'c' and size > 14 and is_name(name, b"x-client-cert-", 14):
            return FIELD_X_CLIENT_CERT
    return FIELD_OTHER


cdef uint8_t dashed_id(const uint8_t *name, uint32_t size) noexcept nogil:
    """FieldId of a name once its underscores are dashes, as CGI and WSGI programs will see it."""
    cdef uint8_t twin[24]
    cdef uint32_t i, used = min(size, 24)       # the longest name known has 19 bytes; of longer ones 12 matter
    for i in range(used):                       # i < 24
        twin[i] = c'-' if name[i] == c'_' else name[i]
    return field_id(twin, used)


cdef uint8_t method_id(const char *text, uint32_t size) noexcept nogil:
    """Methods are case-sensitive (RFC 9110 section 9.1)."""
    if size == 3:
        if memcmp(text, b"GET", 3) == 0:
            return METHOD_GET
        if memcmp(text, b"PUT", 3) == 0:
            return METHOD_PUT
    elif size == 4:
        if memcmp(text, b"POST", 4) == 0:
            return METHOD_POST
        if memcmp(text, b"HEAD", 4) == 0:
            return METHOD_HEAD
    elif size == 5:
        if memcmp(text, b"PATCH", 5) == 0:
            return METHOD_PATCH
        if memcmp(text, b"TRACE", 5) == 0:
            return METHOD_TRACE
    elif size == 6:
        if memcmp(text, b"DELETE", 6) == 0:
            return METHOD_DELETE
    elif size == 7:
        if memcmp(text, b"OPTIONS", 7) == 0:
            return METHOD_OPTIONS
        if memcmp(text, b"CONNECT", 7) == 0:
            return METHOD_CONNECT
    return METHOD_OTHER


cdef inline uint32_t skip_value(const uint8_t *data, uint32_t i, uint32_t n) noexcept nogil:
    """Index of the first byte from `i` on that may not stand in a field value, or `n`."""
    while True:
        i = skip_text(data, i, n)
        while i < n and CLASS[data[i]] & VALUE:     # a byte is always below 256
            i += 1
            if data[i - 1] == c'\t':
                break                           # a tab stopped the fast loop: go back to it
        else:
            return i


cdef inline bint next_element(const uint8_t *value, uint32_t size, uint32_t *at,
                              uint32_t *start, uint32_t *length) noexcept nogil:
    """The next element of a comma-separated list, trimmed; empty ones too. False at the end."""
    cdef uint32_t i = at[0], end
    if i > size:
        return False
    while i < size and is_space(value[i]):
        i += 1
    start[0] = i
    while i < size and value[i] != c',':
        i += 1
    at[0] = i + 1
    end = i
    while end > start[0] and is_space(value[end - 1]):      # end - 1 >= start >= 0
        end -= 1
    length[0] = end - start[0]
    return True
