"""What maglev.py is when compiled; see latency.pxd."""
import cython

from headgate.engine.reading cimport hashed
from headgate.engine.tables cimport Maglev as Table

cdef class Maglev:
    cdef public object _key
    cdef public object _hash64
    cdef public object _size
    cdef public list _backends
    cdef public Table _table
    @cython.locals(key=bytes, found=cython.longlong)
    cpdef object pick(self, object request, object tried)
    @cython.locals(left=list)
    cpdef object _pick_untried(self, bytes key, object tried)
