"""What latency.py is when compiled: the same file, with C numbers in its objects."""
import cython

from headgate.engine.reading cimport good_answer_s, in_flight, remaining

cdef double LEAST_S
cdef double FRESH_S
cdef double FAILURE_WEIGHT
cdef double USUAL_WEIGHT
cdef double USUAL_GROWTH

cdef class Estimate:
    cdef public object backend
    cdef public double latency
    cdef public double failing
    cdef public double at
    cdef public double heard
    cdef public double fresh_until
    cdef public double share
    cdef public double scale
    cdef public double price
    cdef public list after
    cpdef void rescale(self)

cdef class Learning:
    cdef public object _clock
    cdef public double _decay
    cdef public dict _estimates
    cdef public double _usual
    cdef public double _fresh_until
    cpdef double cost(self, Estimate estimate, double now) except? -1.0
    cpdef void fade(self, Estimate estimate, double now) except *
    @cython.locals(estimate=Estimate)
    cpdef void fade_all(self, double now) except *
    cpdef void sampled(self, Estimate estimate, double sample, double now) except *
    @cython.locals(estimate=Estimate, now=double, sample=double)
    cpdef void done(self, object backend, object outcome) except *
    cpdef void _learn_from_failure(self, Estimate estimate, object outcome, double now) except *
