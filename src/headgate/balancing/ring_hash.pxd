"""What ring_hash.py is when compiled; see latency.pxd."""
import cython
from libc.stdint cimport int64_t, uint64_t

from headgate.engine.reading cimport hashed

cdef class RingHash:
    cdef public object _key
    cdef public object _hash64
    cdef public object _hash
    cdef public object _ring
    cdef public object _find
    @cython.locals(value=uint64_t, found=int64_t)
    cpdef object pick(self, object request, object tried)
