"""What of an exchange is kept among the decisions."""
from headgate.engine.context cimport Context
from headgate.engine.exchange cimport Exchange
from headgate.engine.model cimport Backend

cdef void note_attempt(Exchange x, Backend backend, int kind) noexcept       # an attempt ended, and not well
cdef void record_decision(Exchange x, int kind) noexcept    # the exchange is over
cdef void next_sample(Context ctx) noexcept
