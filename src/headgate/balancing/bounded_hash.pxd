"""What bounded_hash.py is when compiled; see latency.pxd."""
import cython
from libc.stdint cimport int64_t, uint64_t

from headgate.engine.reading cimport hashed, in_flight
from headgate.engine.tables cimport Circle

cdef class Load:
    cdef public object backend
    cdef public int64_t active
    cdef public double part

cdef class BoundedHash:
    cdef public object _key
    cdef public double _bound
    cdef public object _hash64
    cdef public object _ring
    cdef public Circle _circle
    cdef public dict _loads
    cdef public list _by_place
    cdef public list _in_turn
    cdef public Py_ssize_t _turn
    cdef public int64_t _total
    cdef public dict _orders
    @cython.locals(value=uint64_t, owner=Load)
    cpdef object pick(self, object request, object tried)
    @cython.locals(active=int64_t)
    cpdef void _look(self, Load load) except *
    cpdef bint _has_room(self, Load load) except -1
    @cython.locals(order=list, at=Py_ssize_t, load=Load)
    cpdef object _pick_other(self, uint64_t value, Load owner)
    @cython.locals(load=Load)
    cpdef void done(self, object backend, object outcome) except *
