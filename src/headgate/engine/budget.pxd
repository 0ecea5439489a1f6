"""The retry budget of one pool in one worker: how many requests may be sent twice."""
from libc.stdint cimport int64_t

cdef enum:
    BUDGET_SLOTS = 10           # of one second each: that is how long a request's deposit lasts

cdef struct Budget:             # amounts are millionths of a retry
    bint unlimited
    int64_t per_request         # what a request pays in
    int64_t reserve_most        # this worker's part of the pool's reserve
    int64_t reserve
    int64_t window              # all slots together
    int64_t slot[BUDGET_SLOTS]  # paid in during this second, and not spent yet
    int64_t deposited           # paid in during the current second, spent or not
    int64_t slot_ends           # ns; 0 = nothing has happened yet
    int current

cdef void budget_configure(Budget *budget, double ratio, int64_t reserve, int workers) noexcept nogil   # ratio < 0: no limit
cdef void budget_turn(Budget *budget, int64_t now) noexcept nogil
cdef bint budget_withdraw(Budget *budget, int64_t now) noexcept nogil      # may one more be sent?
cdef void budget_refund(Budget *budget) noexcept nogil                     # it was not sent after all

cdef inline void budget_deposit(Budget *budget, int64_t now) noexcept nogil:
    if now >= budget.slot_ends:
        budget_turn(budget, now)
    budget.slot[budget.current] += budget.per_request
    budget.window += budget.per_request
    budget.deposited += budget.per_request
