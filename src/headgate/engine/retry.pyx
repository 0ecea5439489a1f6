"""Whether and when a request that failed is sent again: pause, deadline, budget. (What may be sent again at all is
`Exchange._may_retry` and errors.py.)"""
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, strlen

from headgate.engine.budget cimport budget_withdraw
from headgate.engine.exchange cimport Exchange
from headgate.engine.hashing cimport random_next
from headgate.engine.model cimport Pool
from headgate.engine.stats cimport NOT_RETRIED_BUDGET, NOT_RETRIED_DEADLINE

# From the second retry on, full jitter up to 25 ms doubling to 250 ms: retries of many clients must not come in step.
cdef int64_t JITTER_BASE_NS = 25000000
cdef int64_t JITTER_CAP_NS = 250000000
# Steps of a sixteenth, so that a handful of FIFO queues serves all of them.
cdef int JITTER_STEPS = 16


cdef int64_t retry_pause_ns(int retry, uint64_t draw) noexcept nogil:
    """How long the n-th retry of a request waits; 0 for the first. draw: 64 random bits."""
    cdef int64_t span
    if retry <= 1:
        return 0
    span = JITTER_BASE_NS << (retry - 2 if retry < 6 else 4)
    if span > JITTER_CAP_NS:
        span = JITTER_CAP_NS
    return span // JITTER_STEPS * (1 + <int64_t>(draw % JITTER_STEPS))


def pause_s(int retry, uint64_t draw) -> float:
    """`retry_pause_ns` in seconds, for tests."""
    return retry_pause_ns(retry, draw) / 1e9


cdef bint retry_allowed(Exchange x, int retry) noexcept:
    """Is there time for one more attempt, and is it paid for? Asked last: a yes has taken a token.

    Time: with a timeout for the whole request, what is left must hold the pause and what this pool's answers take of late
    (their median). An attempt that would be cut off costs a backend work and nobody gets its answer.
    """
    cdef Pool pool = x.pool
    cdef int64_t expected
    x.pause = retry_pause_ns(retry, random_next(x.ctx.random)) if retry > 1 else 0
    if x.total_timer.queue != NULL and not x.total_timer.suspended:
        expected = pool.expected_first_byte(x.ctx.now)
        if x.ctx.now + x.pause + expected >= x.total_timer.deadline - x.total_timer.queue.slack:
            x.notes |= NOTE_DEADLINE
            pool.counters.not_retried[<int>NOT_RETRIED_DEADLINE] += 1
            return False
    if not budget_withdraw(&pool.budget, x.ctx.now):
        x.notes |= NOTE_RETRY_BUDGET
        x.ctx.counters.retries_refused += 1
        pool.counters.not_retried[<int>NOT_RETRIED_BUDGET] += 1
        return False
    x.paid = True
    return True


cdef size_t _append(char *out, size_t size, size_t at, const char *word) noexcept nogil:
    cdef size_t length = strlen(word)
    if at + length + 1 > size:
        return at
    if at:
        out[at] = b','
        at += 1
    memcpy(out + at, word, length)
    return at + length


cdef int write_notes(char *out, size_t size, const char *word, int notes) noexcept nogil:
    """`word` (NULL: none) and the words of `notes`, separated by commas. Returns the length."""
    cdef size_t at = 0
    if word != NULL:
        at = _append(out, size, at, word)
    if notes & NOTE_REPLAY_CAP:
        at = _append(out, size, at, b"replay_cap")
    if notes & NOTE_RETRY_BUDGET:
        at = _append(out, size, at, b"retry_budget")
    if notes & NOTE_DEADLINE:
        at = _append(out, size, at, b"no_time_left")
    if notes & NOTE_HEDGED:
        at = _append(out, size, at, b"hedged")
    if notes & NOTE_FALLBACK:
        at = _append(out, size, at, b"fallback")
    return <int>at
