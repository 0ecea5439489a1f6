"""A second attempt while the first is still under way."""
from libc.stdint cimport int64_t, uint64_t

from headgate.engine.exchange cimport Exchange
from headgate.engine.head cimport Head
from headgate.engine.model cimport Backend
from headgate.engine.reactor cimport Timer
from headgate.engine.stream cimport ExchangeBase
from headgate.engine.upstream cimport BackendConnection

cdef class Hedge(ExchangeBase):
    cdef Exchange x
    cdef BackendConnection up
    cdef Backend backend
    cdef Head response
    cdef Timer timer                # first byte
    cdef int64_t attempt_started
    cdef uint64_t bytes_received    # of the request's body, when all of it had been sent
    cdef bint connected
    cdef void _account(self, int kind, int status, double retry_after) noexcept
    cdef void _drop(self) noexcept

cdef void hedge_arm(Exchange x) noexcept                    # an attempt begins
cdef void hedge_due(Exchange x) noexcept                    # it has taken long enough
cdef void hedge_back(Exchange x) noexcept                   # the second attempt is over: the first goes on alone
cdef void hedge_cancel(Exchange x, int kind) noexcept       # the first attempt is over, and ended so
