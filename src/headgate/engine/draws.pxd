"""Random indices for the strategies that draw."""
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    # More would leave a short burst as uneven as independent draws do; fewer would let who watches guess how a block ends.
    STRATA = 64
    STRATUM_BITS = 6

cdef class Draws:
    cdef uint64_t[2] state
    cdef uint8_t[STRATA] strata
    cdef int left                   # strata of this block that have not been drawn from: strata[:left]
    cdef uint64_t _free(self, uint64_t below) noexcept nogil
    cdef uint64_t _even(self, uint64_t below) noexcept nogil
    cpdef tuple two(self, list entries)
    cpdef tuple two_places(self, list entries)
    cpdef tuple two_others(self, list entries)
