"""What p2c.py is when compiled; see latency.pxd."""
import cython

from headgate.balancing.lots cimport Lot
from headgate.engine.draws cimport Draws
from headgate.engine.reading cimport in_flight

cdef class PowerOfTwoChoices:
    cdef public object _context
    cdef public Draws _draws
    cdef public list _backends
    cdef public list _lots
    @cython.locals(backends=list, one=Lot, other=Lot)
    cpdef object pick(self, object request, object tried)
