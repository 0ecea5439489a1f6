"""What round_robin.py is when compiled; see latency.pxd."""
from headgate.balancing.weighted_round_robin cimport WeightedRoundRobin

cdef class RoundRobin:
    cdef public list _order
    cdef public list _lap
    cdef public object _turns
    cdef public Py_ssize_t _first
    cdef public WeightedRoundRobin _weighted
    cpdef object pick(self, object request, object tried)
    cpdef object _next_lap(self, object request, object tried)
