"""The engine as Python sees it."""
from libc.stdint cimport int64_t, uint64_t

from headgate.engine.accesslog cimport AccessLog
from headgate.engine.context cimport Context
from headgate.engine.reactor cimport Handler, Timer

cdef class Engine(Context):
    cdef public object on_generation
    cdef readonly int64_t cut_off           # exchanges that a drain's deadline ended
    cdef dict _watchers
    cdef list _acceptors
    cdef list _periodic
    cdef object _drained
    cdef uint64_t _generation
    cdef uint64_t _logged
    cdef Handler _log_flush
    cdef Handler _deadline
    cdef AccessLog _counting_log        # counts what it drops in our part of the segment
    cdef Handler _idle_end
    cdef Handler _descriptors
    cdef Handler _wake
    cdef bint _reported_drained

cdef class Watcher(Handler):
    cdef object callback
    cdef Engine engine

cdef class Periodic(Handler):
    cdef object callback
    cdef Engine engine
    cdef double interval_s
    cdef Timer timer
    cdef bint once
    cdef void start(self) noexcept

cdef class Waker(Handler):
    cdef Engine engine

cdef class DescriptorWaiter(Handler):
    cdef Engine engine
