"""What policy is told when an attempt ends."""
from libc.stdint cimport int64_t

cdef class Outcome:
    cdef readonly int kind
    cdef readonly int verdict
    cdef readonly int status
    cdef readonly double first_byte_s
    cdef readonly double total_s
    cdef readonly double retry_after_s
    cdef readonly bint ok

# One that says this, until outcome_take_back; nanoseconds, first_byte < 0 = none came.
cdef Outcome outcome_lend(int kind, int verdict, int status, int64_t first_byte, int64_t total, double retry_after_s)
cdef void outcome_take_back(Outcome outcome) noexcept
