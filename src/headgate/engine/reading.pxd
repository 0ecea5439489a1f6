"""What compiled strategies read of the engine's objects without a detour through Python's attributes."""
from libc.stdint cimport int64_t, uint64_t

# Attempts in flight at a backend, over all workers.
cpdef int64_t in_flight(object backend) except? -1
# Seconds to the first byte of an answer below 400 that is a success, 0 where none came; below 0 for any other outcome.
cpdef double good_answer_s(object outcome) except? -1.0
# What is left, of 1, after so long of something that falls to 1/e in `decay_s`.
cpdef double remaining(double age_s, double decay_s) noexcept
# The client's address as 16 bytes.
cpdef bytes client_key(object request)
# hash64(key, seed), which costs next to nothing where it is the engine's.
cpdef uint64_t hashed(object hash64, bytes key, uint64_t seed) except? 0
