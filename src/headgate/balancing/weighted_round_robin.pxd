"""What weighted_round_robin.py is when compiled; see latency.pxd."""
import cython
from libc.stdint cimport int64_t

cdef class _Turn:
    cdef public object backend
    cdef public double share
    cdef public double current
    cdef public double phase
    cdef public int64_t count

cdef class WeightedRoundRobin:
    cdef public list _turns
    cdef public list _heap
    cdef public double _time
    cdef public double _total
    @cython.locals(turn=_Turn)
    cpdef object pick(self, object request, object tried)
    @cython.locals(turn=_Turn, best=_Turn, highest=double, total=double, share=double, current=double)
    cpdef object _pick_smooth(self, list turns)
    cpdef void _take(self, _Turn turn) except *
