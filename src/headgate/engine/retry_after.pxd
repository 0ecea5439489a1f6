"""Retry-After: how long a backend asks to be left alone."""
from libc.stdint cimport int64_t

cdef double retry_after_s(const char *value, size_t size, int64_t wall_s) noexcept nogil    # -1 = not a Retry-After
