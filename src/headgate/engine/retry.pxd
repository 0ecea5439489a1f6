"""Whether and when a request that failed is sent again."""
from libc.stdint cimport int64_t, uint64_t

from headgate.engine.exchange cimport Exchange

cdef enum Note:                     # what the log says about an exchange besides how it ended
    NOTE_REPLAY_CAP = 1             # a retry was due, but the body was not kept whole
    NOTE_RETRY_BUDGET = 2           # a retry was due, but the pool's budget was spent
    NOTE_DEADLINE = 4               # a retry was due, but there was no time left for it
    NOTE_HEDGED = 8                 # a second attempt was sent while the first was under way
    NOTE_FALLBACK = 16              # the pool's fallback served it

cdef int64_t retry_pause_ns(int retry, uint64_t draw) noexcept nogil
cdef bint retry_allowed(Exchange x, int retry) noexcept        # the n-th: is there budget and time? Sets x.pause
cdef int write_notes(char *out, size_t size, const char *word, int notes) noexcept nogil
