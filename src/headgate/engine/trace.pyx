"""W3C Trace Context (Level 1, Recommendation of 23 November 2021; Level 2's random flag): the field `traceparent`.

Rules that hold here, by the sections of Level 1:

- 3.2.2 A value is version "-" trace-id "-" parent-id "-" flags, in lower-case hexadecimal; all zeros are no trace-id and
  no parent-id, and "ff" is no version.
- 3.2.2.1 and 4.3: of a higher version the first 55 bytes are read as version 00, and behind them stands nothing or "-...".
  What is sent is always version 00.
- 3.2.2.5 Flags that are not known are not passed on. Level 2 adds the second bit (the trace-id is random); it is.
- 4.2 (mutating): parent-id becomes that of our own span, the trace-id stays.
- 4.3: where traceparent is not valid, tracestate is not looked at and not passed on; several traceparent fields are none.
- tracestate is somebody else's, and goes on as it came.
"""
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef const char *DIGITS = b"0123456789abcdef"


cdef bint _read(uint64_t *out, const char *text, int digits) noexcept nogil:
    cdef int i
    cdef uint8_t c
    out[0] = 0
    for i in range(digits):
        c = <uint8_t>text[i]
        if c'0' <= c <= c'9':
            c -= c'0'
        elif c'a' <= c <= c'f':
            c -= c'a' - 10
        else:
            return False                # upper case is not valid (section 3.2.2)
        out[0] = out[0] << 4 | c
    return True


cdef bint trace_parse(Trace *trace, const char *text, size_t size) noexcept nogil:
    cdef uint64_t version, flags
    if size < 55 or text[2] != c'-' or text[35] != c'-' or text[52] != c'-':
        return False
    if not _read(&version, text, 2) or version == 255:
        return False
    if size > 55 and (version == 0 or text[55] != c'-'):
        return False
    if not (_read(&trace.high, text + 3, 16) and _read(&trace.low, text + 19, 16) and _read(&trace.parent, text + 36, 16) and _read(&flags, text + 53, 2)):
        return False
    if (trace.high | trace.low) == 0 or trace.parent == 0:
        return False
    trace.flags = <uint8_t>(flags & (TRACE_SAMPLED | TRACE_RANDOM))
    return True


cdef void _write(char *out, uint64_t number, int digits) noexcept nogil:
    while digits > 0:
        digits -= 1
        out[digits] = DIGITS[number & 15]
        number >>= 4


cdef void trace_id_text(char *out, const Trace *trace) noexcept nogil:
    _write(out, trace.high, 16)
    _write(out + 16, trace.low, 16)


cdef void trace_line(char *out, const Trace *trace, uint64_t span) noexcept nogil:
    memcpy(out, b"traceparent: 00-", 16)
    _write(out + 16, trace.high, 16)
    _write(out + 32, trace.low, 16)
    out[48] = c'-'
    _write(out + 49, span, 16)
    out[65] = c'-'
    _write(out + 66, trace.flags, 2)
    memcpy(out + 68, b"\r\n", 2)


def read_traceparent(bytes value not None):
    """(trace-id, parent-id, flags) of a value, the ids in hexadecimal; None when it is not valid. For tests."""
    cdef Trace trace
    cdef char line[TRACE_LINE]
    if not trace_parse(&trace, value, len(value)):
        return None
    trace_line(line, &trace, trace.parent)
    text = line[:TRACE_LINE].decode("ascii")
    return text[16:48], text[49:65], trace.flags
