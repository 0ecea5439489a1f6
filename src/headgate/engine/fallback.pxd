"""What serves a request when its pool has nobody left."""
from headgate.engine.exchange cimport Exchange

cdef class StaticAnswer:
    cdef readonly int status
    cdef bytes content_type
    cdef bytes fields           # complete lines
    cdef bytes body

cdef bint degrade(Exchange x, int kind) noexcept       # True: somebody else serves it, or has
