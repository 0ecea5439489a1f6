"""One line of the access log: what it is made from, and its making. No I/O, no allocation, no Python object."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

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

cdef struct ClockText:          # the text of the second the last line was written in; zeroed = none yet
    uint64_t second
    char[20] text

# Bytes that always hold the line, whatever has to be escaped: cheap. And the same counted exactly: for a line that
# does not fit by the first measure.
cdef size_t line_bound(const LogEntry *entry) noexcept nogil
cdef size_t line_need(const LogEntry *entry, bint json) noexcept nogil
# Writes the line with its newline and returns its length; `out` holds line_need() bytes.
cdef size_t line_write(char *out, const LogEntry *entry, bint json, ClockText *clock) noexcept nogil
# Fills `entry` from keyword arguments, for Python callers; its pointers are into the values of `fields`.
cdef int line_fields(LogEntry *entry, dict fields) except -1
