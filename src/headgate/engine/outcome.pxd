"""What policy is told when an attempt ends."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

cdef class Outcome:
    # Owned. Numbers as Python objects, so that they are made once and not at every look.
    cdef PyObject *kind
    cdef PyObject *verdict
    cdef PyObject *status
    cdef PyObject *first_byte_s
    cdef PyObject *total_s
    cdef PyObject *retry_after_s
    cdef PyObject *ok

# One that says this, until outcome_take_back; nanoseconds, first_byte < 0 = none came.
cdef Outcome outcome_lend(int kind, int verdict, int status, int64_t first_byte, int64_t total, double retry_after_s)
cdef void outcome_take_back(Outcome outcome) noexcept
