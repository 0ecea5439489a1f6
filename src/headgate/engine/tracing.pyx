"""The trace of an exchange: taken over from the client, or begun here (`trace.pyx` has the format and the rules)."""
from libc.stdint cimport uint16_t, uint8_t, uint64_t

from headgate.engine.context cimport Context
from headgate.engine.exchange cimport Exchange
from headgate.engine.hashing cimport random_next
from headgate.engine.head cimport Field, Head
from headgate.engine.trace cimport TRACE_RANDOM, TRACE_SAMPLED, TRACING_CREATE, trace_parse


cdef inline bint _named(const char *text, const char *name, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        if (<uint8_t>text[i] | 0x20) != <uint8_t>name[i]:      # a token holds no control byte that this would make a letter
            return False
    return True


cdef void trace_begin(Exchange x) noexcept:
    cdef Head *head = &x.request
    cdef Context ctx = x.ctx
    cdef Field *field
    cdef Field *parent = NULL
    cdef uint16_t i
    cdef int parents = 0
    cdef bint states = False
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.name_len == 11 and _named(head.base + field.name_off, b"traceparent", 11):
            parent = field
            parents += 1
        elif field.name_len == 10 and _named(head.base + field.name_off, b"tracestate", 10):
            states = True
    if parents == 1 and trace_parse(&x.trace, head.base + parent.value_off, parent.value_len):
        x.traced = True
        parent.drop = 1                 # ours goes instead; tracestate goes on as it came
    else:
        if parents or states:
            for i in range(head.field_count):
                field = &head.fields[i]
                if ((field.name_len == 11 and _named(head.base + field.name_off, b"traceparent", 11))
                        or (field.name_len == 10 and _named(head.base + field.name_off, b"tracestate", 10))):
                    field.drop = 1
        if ctx.tracing != TRACING_CREATE:
            return
        x.traced = True
        x.trace.high = random_next(ctx.random)
        x.trace.low = random_next(ctx.random)
        if (x.trace.high | x.trace.low) == 0:
            x.trace.low = 1
        x.trace.parent = 0
        x.trace.flags = TRACE_RANDOM
        if random_next(ctx.random) < ctx.trace_share:
            x.trace.flags |= TRACE_SAMPLED
    # Attempts have the numbers behind it, so there must be room for some, and none of them may be zero.
    x.trace.span = (random_next(ctx.random) & ~<uint64_t>0xFFFF) | 0x100
    if x.trace.flags & TRACE_SAMPLED:
        x.recorded = True
