"""Requests that the balancer answers by itself."""
from headgate.engine.exchange cimport Exchange

cdef bint answer_own_page(Exchange x) noexcept          # True when it did
cdef void redirect_to_https(Exchange x) noexcept
