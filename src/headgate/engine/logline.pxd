"""One line of the access log: what it is made from, and its making. No I/O, no allocation, no Python object."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum Style:
    QUOTED                      # text between quotes
    BARE                        # text between spaces
    JSON

cdef enum:
    ENTRY_HEADERS = 16
    ENTRY_FAILED = 6

cdef struct LogText:
    const char *data
    uint32_t length

cdef struct LogEntry:           # all text is raw bytes from the wire: the formatter escapes it
    uint64_t time_ns            # CLOCK_REALTIME at which the request's head was complete
    const char *client
    const char *method
    const char *target
    const char *host
    const char *pool            # NULL where none was chosen
    const char *backend         # URL; NULL where none was chosen
    const char *request_id
    const char *word            # Kind's log word; NULL or "ok" = nothing to say
    uint32_t client_length
    uint32_t method_length
    uint32_t target_length
    uint32_t host_length
    uint32_t pool_length
    uint32_t backend_length
    uint32_t request_id_length
    uint32_t word_length
    uint16_t status
    uint16_t attempts
    uint8_t minor_version
    uint64_t bytes_sent         # body bytes to the client
    uint64_t bytes_received
    int64_t first_byte_ns       # from the complete request head to the first response byte; -1 = none
    int64_t total_ns
    int64_t queued_ns           # how long it waited in the pool's queue; -1 = it did not
    # From here on only for a log with a plan (logplan.pyx).
    const char *listener
    const char *route
    uint32_t listener_length
    uint32_t route_length
    const char *trace_id        # NULL where it is in no trace
    uint32_t trace_id_length
    bint tls
    uint8_t failed_count
    LogText[ENTRY_FAILED] failed        # URLs of the backends whose attempts failed, the first ones
    LogText[ENTRY_FAILED] failed_word   # and how
    LogText[ENTRY_HEADERS] header       # those of the plan

cdef struct ClockText:          # the text of the second the last line was written in; zeroed = none yet
    uint64_t second
    char[20] text

# Bytes that always hold the line, whatever has to be escaped: cheap. And the same counted exactly: for a line that
# does not fit by the first measure.
cdef size_t line_bound(const LogEntry *entry) noexcept nogil
cdef size_t line_need(const LogEntry *entry, bint json) noexcept nogil
# Writes the line with its newline and returns its length; `out` holds line_need() bytes.
cdef size_t line_write(char *out, const LogEntry *entry, bint json, ClockText *clock) noexcept nogil
# Parts of a line, for who writes others; each returns where the next one begins.
cdef char *put(char *out, const char *text, size_t size) noexcept nogil
cdef char *put_digits(char *out, unsigned number, int count) noexcept nogil
cdef char *put_escaped(char *out, const char *data, uint32_t length, Style style) noexcept nogil     # writes up to 8 bytes more
cdef char *put_number(char *out, uint64_t number) noexcept nogil
cdef char *put_seconds(char *out, int64_t ns, const char *unknown, size_t unknown_size) noexcept nogil
cdef char *put_time(char *out, uint64_t time_ns, ClockText *clock) noexcept nogil
cdef size_t escaped_size(const char *data, uint32_t length, Style style) noexcept nogil
cdef bint has_error(const LogEntry *entry) noexcept nogil
# Fills `entry` from keyword arguments, for Python callers; its pointers are into the values of `fields`.
# headers: names, in the order of a plan's.
cdef int line_fields(LogEntry *entry, dict fields, list headers=*) except -1
