"""What random.py is when compiled; see latency.pxd."""
import cython

from headgate.engine.draws cimport Draws

cdef class Random:
    cdef public Draws _draws
    cdef public list _backends
    cdef public list _lots
    @cython.locals(lots=list)
    cpdef object pick(self, object request, object tried)
