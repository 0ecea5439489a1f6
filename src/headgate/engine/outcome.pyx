"""What policy is told when an attempt ends: one object for all attempts, unless somebody keeps it."""
from libc.stdint cimport int64_t

from headgate.errors import Kind, Verdict

cdef extern from *:
    """
    #define HG_SHARED(object) (Py_REFCNT(object) > 1)
    """
    bint HG_SHARED(object)


cdef class Outcome:
    """How an attempt ended: `kind` (`headgate.errors.Kind`), `status` (0 = no answer), `verdict` (`headgate.errors.Verdict`: what it
    says about the backend), seconds to the first byte (-1 = none) and in all, and seconds that a 429 or 503 asked for by Retry-After (-1 = none)."""

    def __deepcopy__(self, memo):
        return self     # it never changes once somebody has it (explain/picking.py copies strategies, and what they remember)

    def __repr__(self) -> str:
        return f"<Outcome {Kind(self.kind).name} status={self.status} first_byte_s={self.first_byte_s:.6f} total_s={self.total_s:.6f}>"


cdef Outcome _spare = None
cdef int SUCCESS = int(Verdict.SUCCESS)


cdef Outcome outcome_lend(int kind, int verdict, int status, int64_t first_byte, int64_t total, double retry_after_s):
    """To be told; a call may lead to the end of another attempt, which gets one of its own."""
    global _spare
    cdef Outcome outcome = _spare
    _spare = None
    if outcome is None:
        outcome = Outcome.__new__(Outcome)
    outcome.kind = kind
    outcome.verdict = verdict
    outcome.status = status
    outcome.first_byte_s = first_byte / 1e9 if first_byte >= 0 else -1.0
    outcome.total_s = total / 1e9
    outcome.retry_after_s = retry_after_s
    outcome.ok = verdict == SUCCESS
    return outcome


cdef void outcome_take_back(Outcome outcome) noexcept:
    """Somebody who kept it has it for good, and it says what it said."""
    global _spare
    if not HG_SHARED(outcome):
        _spare = outcome
