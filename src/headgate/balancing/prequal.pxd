"""What prequal.py is when compiled; see latency.pxd."""
import cython

from headgate.balancing.latency cimport Estimate, Learning
from headgate.engine.draws cimport Draws
from headgate.engine.reading cimport in_flight, remaining

cdef double COLD
cdef double STEP
cdef double SAMPLE_WEIGHT

cdef class Prequal(Learning):
    cdef public double _soon
    cdef public Draws _draws
    cdef public list _scan
    cdef public list _lots
    cdef public Estimate _left_over
    cdef public double _one
    cdef public double _limit
    cpdef void sampled(self, Estimate estimate, double sample, double now) except *
    @cython.locals(scan=list, best=Estimate, first=Estimate, second=Estimate, left_over=Estimate, now=double)
    cpdef object pick(self, object request, object tried)
    @cython.locals(estimate=Estimate, best=Estimate, coolest=Estimate, limit=double, step=double, up=double, down=double, hot=double, count=double, load=double, latency=double, lowest_latency=double, lowest_load=double)
    cpdef Estimate _choose(self, object sample, Estimate left_over=*)
