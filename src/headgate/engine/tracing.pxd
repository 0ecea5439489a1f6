"""The trace of an exchange."""
from headgate.engine.exchange cimport Exchange

cdef void trace_begin(Exchange x) noexcept      # its head is there
