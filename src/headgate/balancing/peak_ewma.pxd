"""What peak_ewma.py is when compiled; see latency.pxd."""
import cython

from headgate.balancing.latency cimport Estimate, Learning
from headgate.engine.draws cimport Draws
from headgate.engine.reading cimport in_flight, remaining

cdef class PeakEwma(Learning):
    cdef public Draws _draws
    cdef public list _lots
    cpdef void sampled(self, Estimate estimate, double sample, double now) except *
    @cython.locals(lots=list, first=Estimate, second=Estimate, now=double)
    cpdef object pick(self, object request, object tried)
