"""What least_time.py is when compiled; see latency.pxd."""
import cython

from headgate.balancing.latency cimport Estimate, Learning
from headgate.engine.draws cimport Draws
from headgate.engine.reading cimport in_flight, remaining

cdef double SAMPLE_WEIGHT

cdef class LeastTime(Learning):
    cdef public double _soon
    cdef public Draws _draws
    cdef public list _scan
    cdef public list _lots
    cdef public Estimate _left_over
    cpdef void sampled(self, Estimate estimate, double sample, double now) except *
    @cython.locals(scan=list, estimate=Estimate, best=Estimate, other=Estimate, left_over=Estimate, now=double, lowest=double, found=double, third=double)
    cpdef object pick(self, object request, object tried)
