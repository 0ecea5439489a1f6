"""An exchange's line in the access log."""
from headgate.engine.exchange cimport Exchange

cdef void log_exchange(Exchange x, int kind) noexcept   # it is over
