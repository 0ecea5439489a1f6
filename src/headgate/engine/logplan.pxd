"""What a line of the access log has in it, where that is configured: which fields, in which order, in which format."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from headgate.engine.head cimport Head
from headgate.engine.logline cimport ClockText, LogEntry, Style

cdef enum:
    PLAN_FIELDS = 40
    PLAN_HEADERS = 16

cdef enum Layout:
    LAYOUT_TEXT                 # name=value, with spaces between
    LAYOUT_JSON
    LAYOUT_COMMON               # as Apache's Common Log Format has it
    LAYOUT_COMBINED             # with Referer and User-Agent behind

cdef struct PlanField:
    uint8_t what                # LogField in logplan.pyx
    uint8_t header              # which of the plan's headers
    uint16_t prefix_length
    const char *prefix          # what stands before the value: ` pool=`, `,"pool":`

cdef struct PlanHeader:
    const char *name            # lower case
    uint16_t length

cdef class LogPlan:
    cdef readonly tuple names
    cdef Layout layout
    cdef int count
    cdef int header_count
    cdef size_t fixed           # what a line needs beside its texts
    cdef PlanField[PLAN_FIELDS] fields
    cdef PlanHeader[PLAN_HEADERS] headers
    cdef list _kept             # the bytes that all those pointers lead into
    cdef ClockText clock
    cdef uint64_t second        # of clf
    cdef char[32] clf           # the time as the Common Log Format writes it
    # Finds the header fields that the plan has in `head` and notes them in `entry`.
    cdef void look_up(self, Head *head, LogEntry *entry) noexcept
    cdef size_t need(self, const LogEntry *entry) noexcept
    cdef size_t write(self, char *start, const LogEntry *entry) noexcept
    cdef size_t _failed_size(self, const LogEntry *entry, Style style) noexcept
    cdef char *_value(self, char *out, PlanField *field, const LogEntry *entry) noexcept
    cdef char *_common(self, char *out, const LogEntry *entry) noexcept
    cdef char *_clf_time(self, char *out, uint64_t time_ns) noexcept
