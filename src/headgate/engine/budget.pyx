"""The retry budget, in tokens: each request pays in a share of a retry, a retry takes out a whole one.

Retries help against a fault of one backend and harm against a fault of all: each backend then gets the load several times
over, just when it can bear least. So a pool may send again only a share (20 %) of what it was sent in the last 10 seconds.
The form is Finagle's `RetryBudget` (also linkerd's and tower's), with ten slots of a second.

A small pool could not retry at all on a fifth of its few requests, so there is a reserve besides. It fills with what expires
unspent; and in a second in which requests paid in less than a tenth of the reserve, time pays the difference. So

    retries in any interval <= reserve + sum over its seconds of max(ratio * requests, reserve / 10)

and where traffic pays more than that tenth, time adds nothing: a storm costs exactly the ratio once the reserve is spent.

All is O(1): a deposit is three additions, a second's end and a retry look at ten slots at most. A worker has its own
budget with its part of the reserve; nothing is shared.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef int64_t _RETRY = 1000000
cdef int64_t _SLOT_NS = 1000000000


cdef void budget_configure(Budget *budget, double ratio, int64_t reserve, int workers) noexcept nogil:
    """Other settings for a budget that goes on (a new one is all zero). What is in the reserve moves with its size."""
    cdef int64_t most = reserve * _RETRY // workers
    budget.unlimited = ratio < 0
    budget.per_request = 0 if ratio < 0 else <int64_t>(ratio * _RETRY + 0.5)
    budget.reserve += most - budget.reserve_most
    budget.reserve_most = most
    if budget.reserve < 0:
        budget.reserve = 0


cdef void budget_turn(Budget *budget, int64_t now) noexcept nogil:
    """Seconds have passed: what is ten of them old moves to the reserve."""
    cdef int64_t gained
    cdef int turned = 0
    if budget.slot_ends == 0:
        budget.slot_ends = now + _SLOT_NS
        return
    while now >= budget.slot_ends and turned < BUDGET_SLOTS:
        turned += 1
        gained = budget.reserve_most // BUDGET_SLOTS - budget.deposited
        if gained < 0:
            gained = 0
        budget.deposited = 0
        budget.current = (budget.current + 1) % BUDGET_SLOTS
        gained += budget.slot[budget.current]
        budget.window -= budget.slot[budget.current]
        budget.slot[budget.current] = 0
        budget.reserve += gained
        if budget.reserve > budget.reserve_most:
            budget.reserve = budget.reserve_most
        budget.slot_ends += _SLOT_NS
    if now >= budget.slot_ends:
        # Longer at rest than everything lasts.
        budget.reserve = budget.reserve_most
        budget.slot_ends = now + _SLOT_NS


cdef bint budget_withdraw(Budget *budget, int64_t now) noexcept nogil:
    cdef int64_t due = _RETRY, part
    cdef int i, at
    if budget.unlimited:
        return True
    if now >= budget.slot_ends:
        budget_turn(budget, now)
    if budget.window + budget.reserve < due:
        return False
    for i in range(1, BUDGET_SLOTS + 1):
        # The oldest first: it expires first.
        at = (budget.current + i) % BUDGET_SLOTS
        part = budget.slot[at] if budget.slot[at] < due else due
        budget.slot[at] -= part
        budget.window -= part
        due -= part
        if due == 0:
            return True
    budget.reserve -= due
    return True


cdef void budget_refund(Budget *budget) noexcept nogil:
    if not budget.unlimited:
        budget.slot[budget.current] += _RETRY
        budget.window += _RETRY


cdef class RetryBudget:
    """The same for tests and simulations: `ratio` None is no limit, times are seconds and do not go back."""
    cdef Budget budget

    def __cinit__(self, ratio: float | None, int64_t reserve, int workers=1):
        memset(&self.budget, 0, sizeof(Budget))
        self.configure(ratio, reserve, workers)

    def configure(self, ratio: float | None, int64_t reserve, int workers=1) -> None:
        """Other settings, in place."""
        budget_configure(&self.budget, -1.0 if ratio is None else ratio, reserve, workers)

    def deposit(self, double now) -> None:
        """A request came."""
        budget_deposit(&self.budget, <int64_t>(now * 1e9))

    def withdraw(self, double now) -> bool:
        """May one be sent again? Then it is paid for."""
        return budget_withdraw(&self.budget, <int64_t>(now * 1e9))

    def refund(self) -> None:
        """The one that was paid for last was not sent."""
        budget_refund(&self.budget)

    @property
    def tokens(self) -> float:
        """Retries that are paid for, as of the last call."""
        return (self.budget.window + self.budget.reserve) / 1e6
