"""What least_connections.py is when compiled; see latency.pxd."""
import cython
from libc.stdint cimport int64_t

from headgate.engine.reading cimport in_flight

cdef int64_t MANY

cdef class _Place:
    cdef public object backend
    cdef public double share
    cdef public int64_t count
    cdef public list after

cdef class _Buckets:
    cdef public dict _buckets
    cdef public list _loads
    @cython.locals(load=double)
    cpdef void add(self, _Place place) except *
    cpdef void remove(self, _Place place) except *
    cpdef void move(self, _Place place, int64_t count) except *
    @cython.locals(loads=list, place=_Place, active=int64_t)
    cpdef object lowest(self)

cdef class LeastConnections:
    cdef public list _places
    cdef public dict _place
    cdef public list _scan
    cdef public bint _equal
    cdef public _Buckets _buckets
    cdef public Py_ssize_t _looked
    @cython.locals(scan=list, place=_Place, best=_Place, active=int64_t, fewest=int64_t, load=double, lowest=double)
    cpdef object pick(self, object request, object tried)
    @cython.locals(place=_Place, count=int64_t)
    cpdef void _ended(self, object backend, object outcome) except *
    @cython.locals(places=list, place=_Place, looked=Py_ssize_t, count=int64_t, aside=list)
    cpdef object _pick_from(self, _Buckets buckets, object tried)
