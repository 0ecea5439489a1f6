"""The keyed hash that every process agrees on, and the generator behind random choices and request ids."""
from libc.stdint cimport uint64_t

# SipHash-1-3 under the key (seed, 0).
cdef uint64_t hash64_bytes(const char *data, size_t size, uint64_t seed) noexcept nogil

# Fills `state` from the kernel's random source; OSError when there is none.
cdef int random_seed(uint64_t *state) except -1
# The next word of xoroshiro128++; `state` is two words, never both zero.
cdef uint64_t random_next(uint64_t *state) noexcept nogil
# 32 lower-case hexadecimal digits, no NUL.
cdef void hex_id(char *out32, uint64_t *state) noexcept nogil
