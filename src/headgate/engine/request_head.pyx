"""Request heads in Python: the engine's own codec, for a server of ours that is not on the data path (the admin API).

One parser reads every request that any part of this program answers, so no two of them can disagree about where one
ends. The parser keeps its place: a head that comes byte by byte is scanned once.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from headgate.engine.head cimport *
from headgate.engine.http1 cimport head_init, Limits, parse_error_text, parse_request

cdef tuple FRAMINGS = ("none", "length", "chunked", "close", "tunnel")


class BadRequestHead(ValueError):
    """A head that is refused. `status` is what to answer: 400, 405, 414, 431, 501 or 505."""

    def __init__(self, int status, str text):
        super().__init__(text)
        self.status = status


cdef inline bytes part_of(const Head *head, Span part):
    return head.base[part.off:part.off + part.len]


cdef class RequestHead:
    """The head of one request; see the stub for its fields."""
    cdef readonly str method
    cdef readonly bytes path
    cdef readonly bytes authority
    cdef readonly list headers
    cdef readonly str framing
    cdef readonly object content_length
    cdef readonly bint expects_continue
    cdef readonly int minor_version

    def values(self, bytes name not None) -> list:
        cdef bytes lower = name.lower()
        return [value for key, value in self.headers if key.lower() == lower]

    def __repr__(self) -> str:
        return f"RequestHead({self.method} {self.path!r}, framing={self.framing!r})"


cdef class RequestParser:
    """Fed with bytes until the head is complete."""
    cdef Head head
    cdef Limits limits
    cdef Field *fields
    cdef char *buffer
    cdef size_t size
    cdef bint over
    cdef readonly bytes rest

    def __cinit__(self, *, int head_limit, int headers_limit):
        if not (0 < head_limit <= 1 << 20 and 0 < headers_limit <= 10_000):
            raise ValueError("limits: 1 to 1048576 bytes, 1 to 10000 fields")
        self.limits.head = head_limit
        self.limits.request_line = head_limit
        self.limits.headers = headers_limit
        self.fields = <Field *>malloc(headers_limit * sizeof(Field))
        self.buffer = <char *>malloc(head_limit + 1)    # one more: a head beyond the limit is seen as such
        if self.fields == NULL or self.buffer == NULL:
            raise MemoryError
        head_init(&self.head, self.fields, headers_limit)
        self.rest = b""

    def __dealloc__(self):
        free(self.fields)
        free(self.buffer)

    def feed(self, bytes data not None):
        cdef size_t taken
        cdef int i, result
        cdef Field *field
        cdef RequestHead made
        if self.over:
            raise ValueError("this head is over")
        taken = min(<size_t>len(data), self.limits.head + 1 - self.size)
        memcpy(self.buffer + self.size, <const char *>data, taken)     # size + taken <= head_limit + 1
        self.size += taken
        result = parse_request(&self.head, self.buffer, self.size, &self.limits)
        if result == 0 and self.size <= self.limits.head:
            return None
        self.over = True
        if result <= 0:
            raise BadRequestHead(-result if result < 0 else 431, parse_error_text(self.head.error).decode())
        made = RequestHead.__new__(RequestHead)
        made.method = part_of(&self.head, self.head.method_text).decode("ascii")
        made.path = part_of(&self.head, self.head.path)
        made.authority = part_of(&self.head, self.head.authority)
        made.headers = []
        for i in range(self.head.field_count):
            field = &self.fields[i]                     # i < field_count <= headers_limit
            made.headers.append((self.buffer[field.name_off:field.name_off + field.name_len],
                                 self.buffer[field.value_off:field.value_off + field.value_len]))
        made.framing = FRAMINGS[self.head.framing]
        made.content_length = self.head.content_length
        made.expects_continue = (self.head.flags & HEAD_EXPECT_CONTINUE) != 0
        made.minor_version = self.head.minor_version
        self.rest = self.buffer[result:self.size] + data[taken:]
        return made
