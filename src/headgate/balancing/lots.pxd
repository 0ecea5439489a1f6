"""What lots.py is when compiled; see latency.pxd."""

cdef class Lot:
    cdef public object backend
    cdef public double share
