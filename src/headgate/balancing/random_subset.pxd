"""What random_subset.py is when compiled; see latency.pxd."""
import cython

from headgate.balancing.lots cimport Lot
from headgate.engine.draws cimport Draws
from headgate.engine.reading cimport in_flight

cdef class RandomSubset:
    cdef public object _balancer
    cdef public object _balancers
    cdef public object _size
    cdef public Draws _draws
    cdef public object _hash64
    cdef public list _ring
    cdef public list _parts
    cdef public list _lots
    @cython.locals(lots=list, first=Lot, second=Lot)
    cpdef object pick(self, object request, object tried)
