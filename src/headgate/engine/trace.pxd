"""W3C Trace Context."""
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    TRACING_OFF = 0
    TRACING_FORWARD
    TRACING_CREATE
    TRACE_SAMPLED = 1
    TRACE_RANDOM = 2
    TRACE_LINE = 13 + 55 + 2    # "traceparent: ", the value, CRLF

cdef struct Trace:
    uint64_t high               # trace-id
    uint64_t low
    uint64_t parent             # parent-id as it came; 0 = the trace begins here
    uint64_t span               # ours: the exchange; attempt n is span + n
    uint8_t flags               # of TRACE_*, those that go on

# "00-<32 hex>-<16 hex>-<2 hex>" (and what a later version may put behind it) into `trace`. False when it is not valid.
cdef bint trace_parse(Trace *trace, const char *text, size_t size) noexcept nogil
# The trace-id, 32 bytes.
cdef void trace_id_text(char *out, const Trace *trace) noexcept nogil
# The complete field line, TRACE_LINE bytes.
cdef void trace_line(char *out, const Trace *trace, uint64_t span) noexcept nogil
