"""Lines of the access log whose fields were chosen, and the formats of Apache and nginx.

    fields = ["time", "client", "status", "header:x-tenant"]
    text    time=2026-11-21T01:02:03.456Z client=127.0.0.1 status=200 header:x-tenant=blue
    json    {"time":"2026-11-21T01:02:03.456Z","client":"127.0.0.1","status":200,"header:x-tenant":"blue"}

    common      127.0.0.1 - - [21/Nov/2026:01:02:03 +0000] "GET /path HTTP/1.1" 200 1234
    combined    ... "https://referring.example/" "curl/8.5"

Escaping is that of logline.pyx: a request is one line, whatever bytes it was made of. Without chosen fields "text" and
"json" are written there, by code that is made for them.
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset
from posix.time cimport time_t

from headgate.engine.head cimport Field, Head
from headgate.engine.libc_net cimport gmtime_r, tm
from headgate.engine.logline cimport (
    BARE, JSON, QUOTED, ClockText, LogEntry, LogText, Style, escaped_size, has_error, line_fields, line_need, line_write, put, put_digits, put_escaped, put_number, put_seconds, put_time,
)

cdef enum LogField:
    AT_TIME
    AT_LISTENER
    AT_CLIENT
    AT_METHOD
    AT_PATH
    AT_HOST
    AT_PROTOCOL
    AT_SCHEME
    AT_STATUS
    AT_BYTES
    AT_BYTES_RECEIVED
    AT_ROUTE
    AT_POOL
    AT_BACKEND
    AT_ATTEMPTS
    AT_FAILED_ATTEMPTS
    AT_FIRST_BYTE
    AT_TOTAL
    AT_QUEUED
    AT_REQUEST_ID
    AT_TRACE_ID
    AT_ERROR
    AT_HEADER

cdef const char **_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

cdef dict _WHAT = {
    "time": AT_TIME, "listener": AT_LISTENER, "client": AT_CLIENT, "method": AT_METHOD, "path": AT_PATH, "host": AT_HOST,
    "protocol": AT_PROTOCOL, "scheme": AT_SCHEME, "status": AT_STATUS, "bytes": AT_BYTES, "bytes_received": AT_BYTES_RECEIVED,
    "route": AT_ROUTE, "pool": AT_POOL, "backend": AT_BACKEND, "attempts": AT_ATTEMPTS, "failed_attempts": AT_FAILED_ATTEMPTS,
    "first_byte_s": AT_FIRST_BYTE, "total_s": AT_TOTAL, "queued_s": AT_QUEUED, "request_id": AT_REQUEST_ID, "trace_id": AT_TRACE_ID,
    "error": AT_ERROR, "user_agent": AT_HEADER, "referer": AT_HEADER,
}

FIELDS = frozenset(_WHAT)

cdef dict _LAYOUTS = {"text": LAYOUT_TEXT, "json": LAYOUT_JSON, "common": LAYOUT_COMMON, "combined": LAYOUT_COMBINED}


cdef bint same_name(const char *sent, const char *wanted, uint16_t length) noexcept nogil:
    """Is a field's name as it was sent this one, which is in lower case?"""
    cdef uint16_t i
    cdef char c
    for i in range(length):
        c = sent[i]
        if c >= b"A" and c <= b"Z":
            c += 32
        if c != wanted[i]:
            return False
    return True


cdef char *put_text(char *out, const char *data, uint32_t length, bint json) noexcept nogil:
    if data == NULL or length == 0:
        return put(out, b"null", 4) if json else put(out, b"-", 1)
    if not json:
        return put_escaped(out, data, length, BARE)
    out = put_escaped(put(out, b'"', 1), data, length, JSON)
    return put(out, b'"', 1)


cdef char *put_quoted(char *out, const char *data, uint32_t length) noexcept nogil:
    """A header field as Apache and nginx show it."""
    out = put(out, b' "', 2)
    out = put_escaped(out, data, length, QUOTED) if length else put(out, b"-", 1)
    return put(out, b'"', 1)


cdef class LogPlan:
    """The plan for `format` ("text", "json", "common", "combined") and the names of fields (headgate.config.log_fields, "header:NAME").

    ValueError for another format or name, and for more than 40 fields or 16 headers.
    """

    def __cinit__(self, str format not None, names=()):
        cdef PlanField *field
        cdef bytes prefix, header
        if format not in _LAYOUTS:
            raise ValueError(f"an access log is text, json, common or combined, not {format!r}")
        self.layout = _LAYOUTS[format]
        self.names = tuple(names)
        self._kept = []
        if self.layout >= LAYOUT_COMMON:
            if self.names:
                raise ValueError(f"the fields of the format {format} are fixed")
            if self.layout == LAYOUT_COMBINED:
                self._header(b"referer")
                self._header(b"user-agent")
            self.fixed = 256
            return
        if not self.names or len(self.names) > PLAN_FIELDS:
            raise ValueError(f"1 to {PLAN_FIELDS} fields, not {len(self.names)}")
        self.fixed = 64
        for name in self.names:
            field = &self.fields[self.count]
            if name.startswith("header:"):
                field.what = AT_HEADER
                field.header = self._header(name[7:].lower().encode("latin-1"))
            elif name in _WHAT:
                field.what = _WHAT[name]
                if field.what == AT_HEADER:
                    field.header = self._header(name.replace("_", "-").encode())
            else:
                raise ValueError(f"an access log has no field {name!r}")
            shown = name.encode("latin-1")
            if self.layout == LAYOUT_JSON:
                prefix = (b"," if self.count else b"{") + b'"' + shown + b'":'
            else:
                prefix = (b" " if self.count else b"") + shown + b"="
            self._kept.append(prefix)
            field.prefix = prefix
            field.prefix_length = <uint16_t>len(prefix)
            self.fixed += len(prefix) + 48      # a number, a time, quotes, "HTTP/1.1"
            self.count += 1

    def _header(self, bytes name not None) -> int:
        if self.header_count == PLAN_HEADERS:
            raise ValueError(f"no more than {PLAN_HEADERS} headers")
        if not name:
            raise ValueError("a header needs a name")
        self._kept.append(name)
        self.headers[self.header_count].name = name
        self.headers[self.header_count].length = <uint16_t>len(name)
        self.header_count += 1
        return self.header_count - 1

    @property
    def header_names(self) -> list:
        """The header fields it looks up, in lower case."""
        return [self.headers[index].name[:self.headers[index].length] for index in range(self.header_count)]

    cdef void look_up(self, Head *head, LogEntry *entry) noexcept:
        cdef int wanted
        cdef uint16_t i
        cdef Field *field
        for wanted in range(self.header_count):
            entry.header[wanted].data = NULL
            entry.header[wanted].length = 0
            for i in range(head.field_count):
                field = &head.fields[i]
                if field.name_len == self.headers[wanted].length and same_name(head.base + field.name_off, self.headers[wanted].name, field.name_len):
                    entry.header[wanted].data = head.base + field.value_off
                    entry.header[wanted].length = field.value_len
                    break

    cdef size_t need(self, const LogEntry *entry) noexcept:
        """Bytes that hold the line: exactly what its texts take, and no less than what the rest does."""
        cdef Style style = JSON if self.layout == LAYOUT_JSON else BARE
        cdef size_t size = self.fixed
        cdef const LogText *header
        cdef int index
        cdef PlanField *field
        if self.layout >= LAYOUT_COMMON:
            size += escaped_size(entry.client, entry.client_length, BARE) + escaped_size(entry.method, entry.method_length, QUOTED)
            size += escaped_size(entry.target, entry.target_length, QUOTED)
            for index in range(self.header_count):
                size += escaped_size(entry.header[index].data, entry.header[index].length, QUOTED)
            return size
        for index in range(self.count):
            field = &self.fields[index]
            if field.what == AT_HEADER:
                header = &entry.header[field.header]
                size += escaped_size(header.data, header.length, style)
            elif field.what == AT_PATH:
                size += escaped_size(entry.target, entry.target_length, style)
            elif field.what == AT_CLIENT:
                size += escaped_size(entry.client, entry.client_length, style)
            elif field.what == AT_METHOD:
                size += escaped_size(entry.method, entry.method_length, style)
            elif field.what == AT_HOST:
                size += escaped_size(entry.host, entry.host_length, style)
            elif field.what == AT_LISTENER:
                size += escaped_size(entry.listener, entry.listener_length, style)
            elif field.what == AT_ROUTE:
                size += escaped_size(entry.route, entry.route_length, style)
            elif field.what == AT_POOL:
                size += escaped_size(entry.pool, entry.pool_length, style)
            elif field.what == AT_BACKEND:
                size += escaped_size(entry.backend, entry.backend_length, style)
            elif field.what == AT_REQUEST_ID:
                size += escaped_size(entry.request_id, entry.request_id_length, style)
            elif field.what == AT_TRACE_ID:
                size += escaped_size(entry.trace_id, entry.trace_id_length, style)
            elif field.what == AT_ERROR:
                size += escaped_size(entry.word, entry.word_length, style)
            elif field.what == AT_FAILED_ATTEMPTS:
                size += self._failed_size(entry, style)
        return size

    cdef size_t _failed_size(self, const LogEntry *entry, Style style) noexcept:
        cdef size_t size = 0
        cdef int index
        for index in range(entry.failed_count):
            size += 40 + escaped_size(entry.failed[index].data, entry.failed[index].length, style) + entry.failed_word[index].length
        return size

    cdef size_t write(self, char *start, const LogEntry *entry) noexcept:
        cdef char *out = start
        cdef PlanField *field
        cdef int index
        if self.layout >= LAYOUT_COMMON:
            out = self._common(out, entry)
        else:
            for index in range(self.count):
                field = &self.fields[index]
                out = put(out, field.prefix, field.prefix_length)
                out = self._value(out, field, entry)
            if self.layout == LAYOUT_JSON:
                out = put(out, b"}", 1)
        out[0] = b"\n"
        return out + 1 - start

    cdef char *_value(self, char *out, PlanField *field, const LogEntry *entry) noexcept:
        cdef bint json = self.layout == LAYOUT_JSON
        cdef const char *unknown = b"null" if json else b"-"
        cdef size_t unknown_size = 4 if json else 1
        cdef int index
        if field.what == AT_HEADER:
            return put_text(out, entry.header[field.header].data, entry.header[field.header].length, json)
        if field.what == AT_TIME:
            if json:
                return put(put_time(put(out, b'"', 1), entry.time_ns, &self.clock), b'"', 1)
            return put_time(out, entry.time_ns, &self.clock)
        if field.what == AT_CLIENT:
            return put_text(out, entry.client, entry.client_length, json)
        if field.what == AT_METHOD:
            return put_text(out, entry.method, entry.method_length, json)
        if field.what == AT_PATH:
            return put_text(out, entry.target, entry.target_length, json)
        if field.what == AT_HOST:
            return put_text(out, entry.host, entry.host_length, json)
        if field.what == AT_STATUS:
            return put_number(out, entry.status) if entry.status else put(out, unknown, unknown_size)
        if field.what == AT_BYTES:
            return put_number(out, entry.bytes_sent)
        if field.what == AT_BYTES_RECEIVED:
            return put_number(out, entry.bytes_received)
        if field.what == AT_LISTENER:
            return put_text(out, entry.listener, entry.listener_length, json)
        if field.what == AT_ROUTE:
            return put_text(out, entry.route, entry.route_length, json)
        if field.what == AT_POOL:
            return put_text(out, entry.pool, entry.pool_length, json)
        if field.what == AT_BACKEND:
            return put_text(out, entry.backend, entry.backend_length, json)
        if field.what == AT_ATTEMPTS:
            return put_number(out, entry.attempts)
        if field.what == AT_FIRST_BYTE:
            return put_seconds(out, entry.first_byte_ns, unknown, unknown_size)
        if field.what == AT_TOTAL:
            return put_seconds(out, entry.total_ns, unknown, unknown_size)
        if field.what == AT_QUEUED:
            return put_seconds(out, entry.queued_ns, unknown, unknown_size)
        if field.what == AT_REQUEST_ID:
            return put_text(out, entry.request_id, entry.request_id_length, json)
        if field.what == AT_TRACE_ID:
            return put_text(out, entry.trace_id, entry.trace_id_length, json)
        if field.what == AT_ERROR:
            return put_text(out, entry.word, entry.word_length if has_error(entry) else 0, json)
        if field.what == AT_SCHEME:
            return put_text(out, b"https" if entry.tls else b"http", 5 if entry.tls else 4, json)
        if field.what == AT_PROTOCOL:
            if entry.method_length == 0 and entry.target_length == 0:
                return put(out, unknown, unknown_size)
            return put_text(out, b"HTTP/1.1" if entry.minor_version else b"HTTP/1.0", 8, json)
        # AT_FAILED_ATTEMPTS
        if not json:
            for index in range(entry.failed_count):
                if index:
                    out = put(out, b",", 1)
                out = put(put_text(out, entry.failed[index].data, entry.failed[index].length, False), b":", 1)
                out = put(out, entry.failed_word[index].data, entry.failed_word[index].length)
            return out if entry.failed_count else put(out, b"-", 1)
        out = put(out, b"[", 1)
        for index in range(entry.failed_count):
            out = put(out, b',{"backend":', 12) if index else put(out, b'{"backend":', 11)
            out = put_text(out, entry.failed[index].data, entry.failed[index].length, True)
            out = put(out, b',"error":"', 10)
            out = put(out, entry.failed_word[index].data, entry.failed_word[index].length)
            out = put(out, b'"}', 2)
        return put(out, b"]", 1)

    cdef char *_common(self, char *out, const LogEntry *entry) noexcept:
        out = put_text(out, entry.client, entry.client_length, False)
        out = put(out, b" - - [", 6)
        out = self._clf_time(out, entry.time_ns)
        out = put(out, b'] "', 3)
        if entry.method_length == 0 and entry.target_length == 0:
            out = put(out, b"-", 1)         # no request line could be read
        else:
            out = put_escaped(out, entry.method, entry.method_length, QUOTED) if entry.method_length else put(out, b"-", 1)
            out = put(out, b" ", 1)
            out = put_escaped(out, entry.target, entry.target_length, QUOTED) if entry.target_length else put(out, b"-", 1)
            out = put(out, b" HTTP/1.1" if entry.minor_version else b" HTTP/1.0", 9)
        out = put(out, b'" ', 2)
        out = put_number(out, entry.status) if entry.status else put(out, b"-", 1)
        out = put(out, b" ", 1)
        out = put_number(out, entry.bytes_sent) if entry.bytes_sent else put(out, b"-", 1)
        if self.layout == LAYOUT_COMBINED:
            out = put_quoted(out, entry.header[0].data, entry.header[0].length)
            out = put_quoted(out, entry.header[1].data, entry.header[1].length)
        return out

    cdef char *_clf_time(self, char *out, uint64_t time_ns) noexcept:
        """21/Nov/2026:01:02:03 +0000"""
        cdef uint64_t second = time_ns // 1000000000
        cdef time_t when
        cdef tm parts
        cdef char *p
        if self.second != second or self.clf[0] == 0:
            when = <time_t>second
            gmtime_r(&when, &parts)
            p = put(put_digits(self.clf, parts.tm_mday, 2), b"/", 1)
            p = put(put(p, _MONTHS[parts.tm_mon], 3), b"/", 1)
            p = put(put_digits(p, parts.tm_year + 1900, 4), b":", 1)
            p = put(put_digits(p, parts.tm_hour, 2), b":", 1)
            p = put(put_digits(p, parts.tm_min, 2), b":", 1)
            put(put_digits(p, parts.tm_sec, 2), b" +0000", 6)
            self.second = second
        return put(out, self.clf, 26)


def log_line(str format not None, names=(), **fields):
    """The line, newline included, that the access log would write for these fields of LogEntry (logline.pxd).

    `format` and `names` as for LogPlan, else ValueError; text fields are bytes or None, times nanoseconds; TypeError for
    a field there is not.
    """
    cdef LogEntry entry
    cdef ClockText clock
    cdef LogPlan plan = None
    cdef size_t length, need
    if names or format not in ("text", "json"):
        plan = LogPlan(format, names)
    memset(&clock, 0, sizeof(clock))
    line_fields(&entry, fields, None if plan is None else plan.header_names)
    cdef bint json = format == "json"
    need = line_need(&entry, json) if plan is None else plan.need(&entry)
    room = bytearray(need)
    if plan is None:
        length = line_write(<char *>room, &entry, json, &clock)
    else:
        length = plan.write(<char *>room, &entry)
    if length > need:
        raise AssertionError(f"a line of {length} bytes in room for {need}")
    return bytes(room[:length])
