"""HTTP/1.1 on the wire: bytes to `Head`, `Head` to bytes (RFC 9110, RFC 9112). Strict, incremental, no allocation.

How it is shaped:

* The verdict on a message depends on its bytes alone, never on how they were cut: an error is told when the line that
  holds it is complete, and nothing beyond `limits.head` bytes is ever looked at.
* A line is read in one pass over class tables. When it turns out to be incomplete, later calls only search the new
  bytes for its end (`Head.scanned`), so a head that comes byte by byte costs linear time.
* What two readers could understand differently is refused, not repaired: bare CR or LF, folded lines, whitespace before
  the colon, Content-Length with Transfer-Encoding, a second Host. That is what request smuggling lives on.
* Writing copies runs of untouched field lines as they came. They passed the same checks, so they are strict.

Every index below is bounded either by `n`, the number of bytes that may be looked at, or by a test just above it; where
that is not plain to see, a comment says why.
"""
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove

from headgate.engine.address cimport Address, address_parse
from headgate.engine.head cimport *

# What bounds a head besides the Limits given.
cdef enum:
    MAX_EMPTY_LINES = 4             # before a request line: one is usual (RFC 9112 section 2.2), more is a sick client
    MAX_NAME = 65535                # Field.name_len has 16 bits

# A length that still can be added to offsets and other lengths without a thought about overflow.
cdef int64_t MAX_LENGTH = 0x7FFFFFFFFFF00000

# What parsing has seen so far. These live in Head.flags beside the HeadFlags, and only while a head is incomplete.
cdef enum:
    SEEN_HOST = 512
    SEEN_CLOSE = 1024               # Connection: close
    SEEN_KEEP_ALIVE = 2048          # Connection: keep-alive
    SEEN_UPGRADE_OPTION = 4096      # Connection: upgrade
    SEEN_UPGRADE_FIELD = 8192
    SEEN_NOMINATION = 16384         # Connection names some other field
    PUBLIC_FLAGS = 511

include "http1_scan.pxi"
include "http1_names.pxi"
include "http1_start.pxi"
include "http1_fields.pxi"


cdef void head_init(Head *head, Field *fields, uint16_t capacity) noexcept nogil:
    """Gives `head` its field array, which the caller owns, and makes it ready for a message."""
    head.fields = fields
    head.field_capacity = capacity
    head_reset(head)


cdef void head_reset(Head *head) noexcept nogil:
    """Makes `head` ready for the next message."""
    cdef Span nothing
    nothing.off = 0
    nothing.len = 0
    head.base = NULL
    head.field_count = 0
    head.position = 0
    head.scanned = 0
    head.line = 0
    head.length = 0
    head.method = METHOD_OTHER
    head.minor_version = 1
    head.status = 0
    head.method_text = nothing
    head.target = nothing
    head.path = nothing
    head.authority = nothing
    head.host = nothing
    head.reason = nothing
    head.framing = FRAMING_NONE
    head.error = PARSE_OK
    head.flags = 0
    head.max_forwards = -1
    head.content_length = -1
    head.keep_alive_timeout = 0


cdef Field *find_field(Head *head, uint8_t field_id) noexcept nogil:
    """The first field with this id, or NULL."""
    cdef uint16_t i
    for i in range(head.field_count):
        if head.fields[i].id == field_id:       # i < field_count <= field_capacity
            return &head.fields[i]
    return NULL


cdef int refuse(Head *head, int error) noexcept nogil:
    """-status for an error in a request."""
    head.error = <uint8_t>error
    if error == PARSE_VERSION_NOT_SUPPORTED:
        return -505
    if error == PARSE_UNKNOWN_TRANSFER_CODING:
        return -501
    if error == PARSE_REQUEST_LINE_TOO_LONG:
        return -414
    if error == PARSE_HEAD_TOO_LARGE or error == PARSE_TOO_MANY_HEADERS:
        return -431
    if error == PARSE_METHOD_NOT_ALLOWED:
        return -405
    return -400


cdef const char *parse_error_text(uint8_t error) noexcept nogil:
    """One sentence for the client and the log."""
    if error == PARSE_BAD_REQUEST_LINE:
        return b"malformed request line"
    if error == PARSE_BAD_TARGET:
        return b"malformed request target"
    if error == PARSE_BAD_VERSION:
        return b"malformed HTTP version"
    if error == PARSE_VERSION_NOT_SUPPORTED:
        return b"HTTP version not supported"
    if error == PARSE_BAD_FIELD:
        return b"malformed header field"
    if error == PARSE_BARE_CR_OR_LF:
        return b"bare CR or LF"
    if error == PARSE_OBS_FOLD:
        return b"folded header line"
    if error == PARSE_BAD_HOST:
        return b"Host is missing, repeated or malformed"
    if error == PARSE_BAD_CONTENT_LENGTH:
        return b"malformed or contradictory Content-Length"
    if error == PARSE_BAD_TRANSFER_ENCODING:
        return b"malformed Transfer-Encoding"
    if error == PARSE_UNKNOWN_TRANSFER_CODING:
        return b"transfer coding not supported"
    if error == PARSE_LENGTH_AND_CHUNKED:
        return b"Content-Length together with Transfer-Encoding"
    if error == PARSE_REQUEST_LINE_TOO_LONG:
        return b"request line too long"
    if error == PARSE_HEAD_TOO_LARGE:
        return b"header section too large"
    if error == PARSE_TOO_MANY_HEADERS:
        return b"too many header fields"
    if error == PARSE_BAD_STATUS_LINE:
        return b"malformed status line"
    if error == PARSE_UNSOLICITED_UPGRADE:
        return b"upgrade that was not asked for"
    if error == PARSE_BAD_UNDERSCORE:
        return b"header field name with an underscore"
    if error == PARSE_BAD_CHUNK:
        return b"malformed chunk"
    if error == PARSE_CHUNK_EXTENSION_TOO_LONG:
        return b"chunk extensions too long"
    if error == PARSE_TRAILER_TOO_LARGE:
        return b"trailer section too large"
    if error == PARSE_METHOD_NOT_ALLOWED:
        return b"method not allowed"
    return b""


cdef int read_fields(Head *head, const uint8_t *data, uint32_t n, const Limits *limits, bint response) noexcept nogil:
    """Field lines up to the empty one. Negative ParseError, 0 for "incomplete", 1 for "all read"."""
    cdef uint32_t at = head.position, i, name_end, value, end
    cdef uint8_t byte_class, classes
    cdef int error
    cdef Field *field
    while True:
        if head.scanned > at:
            # This line was found incomplete before: only its end is of interest until it comes.
            if memchr(data + head.scanned, c'\n', n - head.scanned) == NULL:        # scanned <= n
                break
        if at >= n:
            break
        i = at
        if data[i] == c'\r':
            if n - i < 2:
                break
            if data[i + 1] == c'\n':
                head.position = i + 2
                head.length = i + 2
                return 1
            error = PARSE_BARE_CR_OR_LF
        elif is_space(data[i]):
            error = PARSE_OBS_FOLD
        else:
            error = PARSE_OK
            classes = 0                         # of letters, digits and "-" none matters
            i = skip_name(data, i, n)
            while i < n:
                byte_class = CLASS[data[i]]
                if not byte_class & TOKEN:
                    break
                classes |= byte_class
                i += 1
            if i == n:
                break
            if data[i] == c':' and i != at:
                name_end = i
                i += 1
                while i < n and is_space(data[i]):
                    i += 1
                value = i
                i = skip_value(data, i, n)
                if n - i < 2:
                    if i == n or data[i] == c'\r':
                        break
                    error = PARSE_BARE_CR_OR_LF if data[i] == c'\n' else PARSE_BAD_FIELD
                elif data[i] != c'\r':
                    error = PARSE_BARE_CR_OR_LF if data[i] == c'\n' else PARSE_BAD_FIELD
                elif data[i + 1] != c'\n':
                    error = PARSE_BARE_CR_OR_LF
            else:
                error = PARSE_BARE_CR_OR_LF if data[i] == c'\n' or data[i] == c'\r' else PARSE_BAD_FIELD
        if error != PARSE_OK:
            # Told when the line is complete, so that the verdict does not depend on how the bytes were cut.
            if memchr(data + at, c'\n', n - at) == NULL:
                break
            return -error
        if head.field_count >= limits.headers or head.field_count >= head.field_capacity:
            return -PARSE_TOO_MANY_HEADERS
        if name_end - at > MAX_NAME:
            return -PARSE_HEAD_TOO_LARGE
        end = i
        while end > value and is_space(data[end - 1]):
            end -= 1
        field = &head.fields[head.field_count]          # field_count < field_capacity, tested above
        field.name_off = at
        field.name_len = <uint16_t>(name_end - at)
        field.value_off = value
        field.value_len = end - value
        field.drop = 0
        field.id = field_id(data + at, name_end - at)
        head.field_count += 1
        at = i + 2                                      # n - i >= 2
        head.position = at
        head.line += 1
        error = note_response_field(head, data, field) if response else note_request_field(head, data, field, classes)
        if error != PARSE_OK:
            return -error
    head.scanned = n
    return 0


cdef int parse_request(Head *head, const char *data, size_t size, const Limits *limits) noexcept nogil:
    """See http1.pxd. `data` is the caller's receive buffer: an absolute-form target may be rewritten in it."""
    cdef uint8_t *text = <uint8_t *>data
    # Nothing past limits.head is looked at, so a full buffer of that size always gets a verdict.
    cdef uint32_t n = <uint32_t>min(size, <size_t>limits.head)
    cdef int result, error
    cdef uint16_t flags
    head.base = data
    if head.line == 0:
        result = read_request_line(head, text, n, limits)
        if result <= 0:
            if result == 0 and n >= limits.head:
                result = -PARSE_REQUEST_LINE_TOO_LONG
            return refuse(head, -result) if result < 0 else 0
    result = read_fields(head, text, n, limits, False)
    if result == 0 and n >= limits.head:
        result = -PARSE_HEAD_TOO_LARGE
    if result <= 0:
        return refuse(head, -result) if result < 0 else 0
    flags = head.flags
    if not flags & SEEN_HOST and head.minor_version == 1:
        return refuse(head, PARSE_BAD_HOST)
    if flags & SEEN_NOMINATION:
        error = drop_nominated(head, text, limits)
        if error != PARSE_OK:
            return refuse(head, error)
    if head.framing != FRAMING_CHUNKED and head.content_length >= 0:
        head.framing = FRAMING_LENGTH
    note_keep_alive(head)
    if head.framing == FRAMING_CHUNKED or head.content_length > 0:
        # The bytes after the head are a body and cannot be the new protocol's too.
        head.flags &= <uint16_t>~HEAD_WEBSOCKET
        if head.minor_version == 0:
            head.flags &= <uint16_t>~HEAD_EXPECT_CONTINUE       # ignored in HTTP/1.0 (RFC 9110 section 10.1.1)
    else:
        head.flags &= <uint16_t>~HEAD_EXPECT_CONTINUE           # nothing to wait for
        if (head.minor_version == 1 and flags & SEEN_UPGRADE_OPTION and flags & SEEN_UPGRADE_FIELD
                and not flags & HEAD_H2C):
            head.flags |= HEAD_UPGRADE
    if not head.flags & HEAD_UPGRADE or head.method != METHOD_GET:
        head.flags &= <uint16_t>~HEAD_WEBSOCKET                 # RFC 6455 section 4.1
    head.flags &= PUBLIC_FLAGS
    return <int>head.length


cdef int parse_response(Head *head, const char *data, size_t size, const Limits *limits,
                        uint8_t request_method, uint16_t request_flags) noexcept nogil:
    """See http1.pxd. Framing is that of RFC 9112 section 6.3."""
    cdef const uint8_t *text = <const uint8_t *>data
    cdef uint32_t n = <uint32_t>min(size, <size_t>limits.head)
    cdef int result = 1, error
    cdef uint16_t flags
    cdef bint chunked
    head.base = data
    if head.line == 0:
        result = read_status_line(head, text, n)
    if result > 0:
        result = read_fields(head, text, n, limits, True)
    if result == 0 and n >= limits.head:
        result = -PARSE_HEAD_TOO_LARGE
    if result <= 0:
        if result < 0:
            head.error = <uint8_t>-result
            return -502
        return 0
    if head.flags & SEEN_NOMINATION:
        error = drop_nominated(head, text, limits)
        if error != PARSE_OK:
            head.error = <uint8_t>error
            return -502
    note_keep_alive(head)
    flags = head.flags
    chunked = head.framing == FRAMING_CHUNKED
    if head.status == 101:
        # Only to a protocol that was offered (RFC 9110 section 7.8). Of the offer the flags alone are known here.
        if (not request_flags & HEAD_UPGRADE or head.minor_version == 0 or not flags & SEEN_UPGRADE_OPTION
                or not flags & SEEN_UPGRADE_FIELD or flags & HEAD_H2C
                or (request_flags & HEAD_WEBSOCKET and not flags & HEAD_WEBSOCKET)):
            head.error = PARSE_UNSOLICITED_UPGRADE
            return -502
        head.framing = FRAMING_TUNNEL
        head.flags = (flags | HEAD_UPGRADE) & <uint16_t>~HEAD_KEEP_ALIVE
    elif head.status < 200 or head.status == 204:
        head.framing = FRAMING_NONE
        if chunked or head.content_length > 0:
            head.flags &= <uint16_t>~HEAD_KEEP_ALIVE            # a body may follow that must not be taken for an answer
        head.content_length = -1
    elif head.status == 304 or request_method == METHOD_HEAD:
        head.framing = FRAMING_NONE
    elif chunked:
        head.framing = FRAMING_CHUNKED
    elif head.content_length >= 0:
        head.framing = FRAMING_LENGTH
    else:
        head.framing = FRAMING_CLOSE
        head.flags &= <uint16_t>~HEAD_KEEP_ALIVE
    if chunked and head.content_length >= 0:
        # Transfer-Encoding overrides, and whoever sends both is not to be trusted with another message.
        head.content_length = -1
        head.flags &= <uint16_t>~HEAD_KEEP_ALIVE
    if head.status != 101:
        head.flags &= <uint16_t>~HEAD_WEBSOCKET
    head.flags &= PUBLIC_FLAGS
    return <int>head.length


include "http1_chunked.pxi"
include "http1_write.pxi"

# For health checks, in Python

cdef enum:
    RESPONSE_FIELDS = 256           # of an answer to a health check
    RESPONSE_HEAD = 65536           # bytes of its head: twice what a listener takes from clients


cdef class ResponseHead:
    """The head of one response.

    `headers` are the field lines in their order, names as they came, values trimmed. `framing` is "none", "length",
    "chunked", "close" or "tunnel" (RFC 9112 section 6.3), `content_length` is -1 where it does not apply, `length`
    counts the bytes of the head itself, so the body starts at `data[length:]`.
    """
    cdef readonly int status
    cdef readonly bytes reason
    cdef readonly list headers
    cdef readonly int length
    cdef readonly str framing
    cdef readonly object content_length
    cdef readonly int minor_version
    cdef readonly bint keep_alive

    def __repr__(self) -> str:
        return f"ResponseHead(status={self.status}, framing={self.framing!r}, length={self.length})"


cdef tuple FRAMING_NAMES = ("none", "length", "chunked", "close", "tunnel")


def parse_response_head(bytes data not None, bint head_request=False):
    """The head of the response in `data`, or None while it is incomplete; `head_request` = it answers a HEAD.

    1xx answers are heads of their own: read on behind them. Raises ValueError, with the reason, when it is malformed
    or beyond 64 KiB or 256 fields.
    """
    cdef Field fields[RESPONSE_FIELDS]
    cdef Head head
    cdef Limits limits
    cdef Field *field
    cdef ResponseHead made
    cdef const char *text = data
    cdef int i, result
    limits.head = RESPONSE_HEAD
    limits.request_line = RESPONSE_HEAD
    limits.headers = RESPONSE_FIELDS
    head_init(&head, fields, RESPONSE_FIELDS)
    result = parse_response(&head, text, len(data), &limits, METHOD_HEAD if head_request else METHOD_GET, 0)
    if result == 0:
        return None
    if result < 0:
        raise ValueError(parse_error_text(head.error).decode())
    made = ResponseHead.__new__(ResponseHead)
    made.status = head.status
    made.reason = text[head.reason.off:head.reason.off + head.reason.len]
    made.headers = []
    for i in range(head.field_count):
        field = &fields[i]                      # i < field_count <= RESPONSE_FIELDS
        made.headers.append((text[field.name_off:field.name_off + field.name_len],
                             text[field.value_off:field.value_off + field.value_len]))
    made.length = result
    made.framing = FRAMING_NAMES[head.framing]
    made.content_length = head.content_length
    made.minor_version = head.minor_version
    made.keep_alive = (head.flags & HEAD_KEEP_ALIVE) != 0
    return made
