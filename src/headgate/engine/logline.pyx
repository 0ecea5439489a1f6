"""Formats access-log lines: a request is one line, whatever bytes it was made of.

    2026-11-21T01:02:03.456Z 127.0.0.1 "GET /path HTTP/1.1" 200 1234 pool=web backend=http://127.0.0.1:9001 attempts=1
        ttfb=0.0012 total=0.0015 id=...  [queued=0.0031] [error=word]

(on one line), or as JSON the same with the names spelled out. Text escapes the quote and the backslash with a backslash
and every byte that is not printable ASCII as \\xNN; outside the quotes also the space, so that fields can be split at
spaces. JSON reads the bytes as Latin-1, which loses nothing and is valid whatever they were. Unknown is "-" or null.

All of it is C on plain buffers because it is spent on every request: copying eight bytes at a time as long as none of
them needs escaping, and keeping the text of the current second.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.time cimport time_t

cdef extern from "<time.h>" nogil:
    cdef struct tm:
        int tm_sec
        int tm_min
        int tm_hour
        int tm_mday
        int tm_mon
        int tm_year
    tm *gmtime_r(const time_t *when, tm *result)

cdef extern from *:
    """
    #define HG_ONES (~(uint64_t)0 / 255)
    /* Nonzero if a byte of `word` is below `least`, above 0x7e, a quote or a backslash. */
    static inline uint64_t hg_special(uint64_t word, unsigned least) {
        uint64_t quote = word ^ HG_ONES * '"', slash = word ^ HG_ONES * '\\\\', rubout = word ^ HG_ONES * 0x7f;
        return (word | ((word - HG_ONES * least) & ~word) | ((quote - HG_ONES) & ~quote)
                | ((slash - HG_ONES) & ~slash) | ((rubout - HG_ONES) & ~rubout)) & HG_ONES * 0x80;
    }
    """
    uint64_t special_bytes "hg_special"(uint64_t word, unsigned least) noexcept nogil

cdef enum:
    # What a line has beside its escaped fields: at most 402 bytes in JSON; and the eight bytes that put_escaped may
    # write beyond its end.
    FIXED = 512
    WORST = 6                   # \u00NN


cdef inline bint special(uint8_t byte, Style style) noexcept nogil:
    return byte < 0x20 or byte > 0x7E or byte == b'"' or byte == b"\\" or (byte == b" " and style == BARE)


cdef char *put_escaped(char *out, const char *data, uint32_t length, Style style) noexcept nogil:
    cdef const char *hexits = b"0123456789ABCDEF"
    cdef const char *end = data + length
    cdef const char *stop
    cdef uint64_t word
    cdef uint8_t byte
    cdef unsigned least = 0x21 if style == BARE else 0x20
    while data < end:
        stop = end
        if end - data >= 8:
            memcpy(&word, data, 8)
            if not special_bytes(word, least):
                memcpy(out, data, 8)
                out += 8
                data += 8
                continue
            stop = data + 8
        while data < stop:
            byte = <uint8_t>data[0]
            data += 1
            if not special(byte, style):
                out[0] = <char>byte
                out += 1
            elif byte == b'"' or byte == b"\\":
                out[0] = b"\\"
                out[1] = <char>byte
                out += 2
            elif style == JSON:
                memcpy(out, b"\\u00", 4)
                out[4] = hexits[byte >> 4]
                out[5] = hexits[byte & 15]
                out += 6
            else:
                memcpy(out, b"\\x", 2)
                out[2] = hexits[byte >> 4]
                out[3] = hexits[byte & 15]
                out += 4
    return out


cdef size_t escaped_size(const char *data, uint32_t length, Style style) noexcept nogil:
    cdef size_t size = length
    cdef uint32_t index
    cdef uint8_t byte
    for index in range(length):
        byte = <uint8_t>data[index]
        if special(byte, style):
            size += 1 if byte == b'"' or byte == b"\\" else 5 if style == JSON else 3
    return size


cdef char *put(char *out, const char *text, size_t size) noexcept nogil:
    memcpy(out, text, size)
    return out + size


cdef char *put_number(char *out, uint64_t number) noexcept nogil:
    cdef char[20] digits
    cdef int count = 0
    while True:
        digits[19 - count] = <char>(c'0' + number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    memcpy(out, digits + 20 - count, count)
    return out + count


cdef char *put_digits(char *out, unsigned number, int count) noexcept nogil:
    cdef int index
    for index in range(count - 1, -1, -1):
        out[index] = <char>(c'0' + number % 10)
        number //= 10
    return out + count


cdef char *put_seconds(char *out, int64_t ns, const char *unknown, size_t unknown_size) noexcept nogil:
    """`ns` as seconds with one to six decimals; `unknown` for a negative number."""
    cdef uint64_t us
    cdef char *least
    if ns < 0:
        return put(out, unknown, unknown_size)
    us = (<uint64_t>ns + 500) // 1000
    out = put_number(out, us // 1000000)
    out[0] = b"."
    least = out + 2
    out = put_digits(out + 1, us % 1000000, 6)
    while out > least and (out - 1)[0] == b"0":
        out -= 1
    return out


cdef char *put_time(char *out, uint64_t time_ns, ClockText *clock) noexcept nogil:
    cdef uint64_t second = time_ns // 1000000000
    cdef time_t when
    cdef tm parts
    cdef char *p
    if clock.second != second or clock.text[0] == 0:
        when = second
        gmtime_r(&when, &parts)
        p = put_digits(clock.text, parts.tm_year + 1900, 4)
        p[0] = b"-"
        p = put_digits(p + 1, parts.tm_mon + 1, 2)
        p[0] = b"-"
        p = put_digits(p + 1, parts.tm_mday, 2)
        p[0] = b"T"
        p = put_digits(p + 1, parts.tm_hour, 2)
        p[0] = b":"
        p = put_digits(p + 1, parts.tm_min, 2)
        p[0] = b":"
        p = put_digits(p + 1, parts.tm_sec, 2)
        p[0] = b"."
        clock.second = second
    out = put(out, clock.text, 20)
    out = put_digits(out, time_ns // 1000000 % 1000, 3)
    out[0] = b"Z"
    return out + 1


cdef bint has_error(const LogEntry *entry) noexcept nogil:
    if entry.word == NULL or entry.word_length == 0:
        return False
    return not (entry.word_length == 2 and entry.word[0] == b"o" and entry.word[1] == b"k")


cdef inline char *put_bare(char *out, const char *data, uint32_t length) noexcept nogil:
    if data == NULL or length == 0:
        out[0] = b"-"
        return out + 1
    return put_escaped(out, data, length, BARE)


cdef inline char *put_string(char *out, const char *data, uint32_t length) noexcept nogil:
    if data == NULL or length == 0:
        return put(out, b"null", 4)
    out[0] = b'"'
    out = put_escaped(out + 1, data, length, JSON)
    out[0] = b'"'
    return out + 1


cdef size_t write_text(char *start, const LogEntry *entry, ClockText *clock) noexcept nogil:
    cdef char *out = put_time(start, entry.time_ns, clock)
    out[0] = b" "
    out = put_bare(out + 1, entry.client, entry.client_length)
    out = put(out, b' "', 2)
    if entry.method_length == 0 and entry.target_length == 0:
        out[0] = b"-"           # no request line could be read
        out += 1
    else:
        if entry.method_length:
            out = put_escaped(out, entry.method, entry.method_length, QUOTED)
        else:
            out = put(out, b"-", 1)
        out[0] = b" "
        out += 1
        if entry.target_length:
            out = put_escaped(out, entry.target, entry.target_length, QUOTED)
        else:
            out = put(out, b"-", 1)
        out = put(out, b" HTTP/1.", 8)
        out = put_number(out, entry.minor_version)
    out = put(out, b'" ', 2)
    if entry.status:
        out = put_number(out, entry.status)
    else:
        out = put(out, b"-", 1)
    out[0] = b" "
    out = put_number(out + 1, entry.bytes_sent)
    out = put(out, b" pool=", 6)
    out = put_bare(out, entry.pool, entry.pool_length)
    out = put(out, b" backend=", 9)
    out = put_bare(out, entry.backend, entry.backend_length)
    out = put(out, b" attempts=", 10)
    out = put_number(out, entry.attempts)
    out = put(out, b" ttfb=", 6)
    out = put_seconds(out, entry.first_byte_ns, b"-", 1)
    out = put(out, b" total=", 7)
    out = put_seconds(out, entry.total_ns, b"-", 1)
    out = put(out, b" id=", 4)
    out = put_bare(out, entry.request_id, entry.request_id_length)
    if entry.queued_ns >= 0:
        out = put(out, b" queued=", 8)
        out = put_seconds(out, entry.queued_ns, b"-", 1)
    if has_error(entry):
        out = put(out, b" error=", 7)
        out = put_bare(out, entry.word, entry.word_length)
    out[0] = b"\n"
    return out + 1 - start


cdef size_t write_json(char *start, const LogEntry *entry, ClockText *clock) noexcept nogil:
    cdef char *out = put(start, b'{"time":"', 9)
    out = put_time(out, entry.time_ns, clock)
    out = put(out, b'","client":', 11)
    out = put_string(out, entry.client, entry.client_length)
    out = put(out, b',"method":', 10)
    out = put_string(out, entry.method, entry.method_length)
    out = put(out, b',"path":', 8)
    out = put_string(out, entry.target, entry.target_length)
    out = put(out, b',"host":', 8)
    out = put_string(out, entry.host, entry.host_length)
    out = put(out, b',"status":', 10)
    if entry.status:
        out = put_number(out, entry.status)
    else:
        out = put(out, b"null", 4)
    out = put(out, b',"bytes":', 9)
    out = put_number(out, entry.bytes_sent)
    out = put(out, b',"bytes_received":', 18)
    out = put_number(out, entry.bytes_received)
    out = put(out, b',"pool":', 8)
    out = put_string(out, entry.pool, entry.pool_length)
    out = put(out, b',"backend":', 11)
    out = put_string(out, entry.backend, entry.backend_length)
    out = put(out, b',"attempts":', 12)
    out = put_number(out, entry.attempts)
    out = put(out, b',"first_byte_s":', 16)
    out = put_seconds(out, entry.first_byte_ns, b"null", 4)
    out = put(out, b',"total_s":', 11)
    out = put_seconds(out, entry.total_ns, b"null", 4)
    if entry.queued_ns >= 0:
        out = put(out, b',"queued_s":', 12)
        out = put_seconds(out, entry.queued_ns, b"null", 4)
    out = put(out, b',"request_id":', 14)
    out = put_string(out, entry.request_id, entry.request_id_length)
    out = put(out, b',"error":', 9)
    if has_error(entry):
        out = put_string(out, entry.word, entry.word_length)
    else:
        out = put(out, b"null", 4)
    out = put(out, b"}\n", 2)
    return out - start


cdef size_t line_bound(const LogEntry *entry) noexcept nogil:
    return FIXED + WORST * (
        <size_t>entry.client_length + entry.method_length + entry.target_length + entry.host_length
        + entry.pool_length + entry.backend_length + entry.request_id_length + entry.word_length)


cdef size_t line_need(const LogEntry *entry, bint json) noexcept nogil:
    cdef Style bare = JSON if json else BARE
    cdef Style quoted = JSON if json else QUOTED
    cdef size_t size = FIXED
    size += escaped_size(entry.client, entry.client_length, bare)
    size += escaped_size(entry.method, entry.method_length, quoted)
    size += escaped_size(entry.target, entry.target_length, quoted)
    if json:
        size += escaped_size(entry.host, entry.host_length, JSON)
    size += escaped_size(entry.pool, entry.pool_length, bare)
    size += escaped_size(entry.backend, entry.backend_length, bare)
    size += escaped_size(entry.request_id, entry.request_id_length, bare)
    size += escaped_size(entry.word, entry.word_length, bare)
    return size


cdef size_t line_write(char *out, const LogEntry *entry, bint json, ClockText *clock) noexcept nogil:
    if json:
        return write_json(out, entry, clock)
    return write_text(out, entry, clock)


cdef int line_fields(LogEntry *entry, dict fields, list headers=None) except -1:
    cdef bytes value
    cdef str name
    memset(entry, 0, sizeof(LogEntry))
    entry.first_byte_ns = -1
    entry.total_ns = -1
    entry.queued_ns = -1
    entry.minor_version = 1
    for name, given in fields.items():
        if name == "time_ns":
            entry.time_ns = given
        elif name == "status":
            entry.status = given
        elif name == "attempts":
            entry.attempts = given
        elif name == "minor_version":
            entry.minor_version = given
        elif name == "bytes_sent":
            entry.bytes_sent = given
        elif name == "bytes_received":
            entry.bytes_received = given
        elif name == "first_byte_ns":
            entry.first_byte_ns = given
        elif name == "total_ns":
            entry.total_ns = given
        elif name == "queued_ns":
            entry.queued_ns = given
        elif name == "tls":
            entry.tls = given
        elif name == "failed":
            for index, (url, word) in enumerate(given):
                set_pair(&entry.failed[index], url)
                set_pair(&entry.failed_word[index], word)
            entry.failed_count = len(given)
        elif name == "headers":
            for index, header in enumerate(headers or ()):
                set_pair(&entry.header[index], given.get(header))
        else:
            value = given
            set_text(entry, name, value)
    return 0


cdef int set_pair(LogText *text, bytes value) except -1:
    text.data = <const char *>value if value is not None else NULL
    text.length = len(value) if value is not None else 0
    return 0


cdef int set_text(LogEntry *entry, str name, bytes value) except -1:
    cdef const char *data = <const char *>value if value is not None else NULL
    cdef uint32_t length = len(value) if value is not None else 0
    if name == "client":
        entry.client, entry.client_length = data, length
    elif name == "method":
        entry.method, entry.method_length = data, length
    elif name == "target":
        entry.target, entry.target_length = data, length
    elif name == "host":
        entry.host, entry.host_length = data, length
    elif name == "pool":
        entry.pool, entry.pool_length = data, length
    elif name == "backend":
        entry.backend, entry.backend_length = data, length
    elif name == "listener":
        entry.listener, entry.listener_length = data, length
    elif name == "route":
        entry.route, entry.route_length = data, length
    elif name == "request_id":
        entry.request_id, entry.request_id_length = data, length
    elif name == "trace_id":
        entry.trace_id, entry.trace_id_length = data, length
    elif name == "word":
        entry.word, entry.word_length = data, length
    else:
        raise TypeError(f"an access-log line has no field {name!r}")
    return 0


# Named in logline.pyi, where it is a TypedDict.
LogFields = dict
