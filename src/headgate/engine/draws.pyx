"""Random indices for the strategies that draw: independent ones, and ones that are even together.

Independent draws miss a part of one half by 0.5 % of all over 10,000 draws (a standard deviation), and by 5 % over 100. A stratified draw is, taken
alone, as random as an independent one, so nothing that is expected changes. But each block of 64 has one from each 64th of the unit, in random order
and at a random place within it, so what falls into an interval varies by its two ends only and no longer by its length (W. Cochran, "Sampling
Techniques", chapter 5; A. Owen, "Monte Carlo theory, methods and examples", chapter 10: never more variance than with independent draws). Over 10,000
draws any part is right to 0.1 %.
"""
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t

from headgate.engine.hashing cimport random_next

cdef extern from *:
    """
    static inline uint64_t headgate_scaled(uint64_t word, uint64_t below) {
        return (uint64_t)(((unsigned __int128)word * below) >> 64);
    }
    """
    # A word as an index below a limit: each has the same chance, up to limit / 2**64.
    uint64_t headgate_scaled(uint64_t word, uint64_t below) noexcept nogil

cdef Py_ssize_t _length(list entries) except -1:
    if entries is None:
        raise TypeError("entries to draw from, please, not None")
    return PyList_GET_SIZE(entries)


cdef enum:
    # Draws fall on the same entry this often in a row only where one has nearly all of the lots.
    AGAIN = 4


cdef class Draws:
    """Not for secrets. random: what it takes its seed from, 128 bits; the same seed gives the same draws."""
    def __cinit__(self, random=None):
        cdef int i
        if random is None:
            return      # a copy, filled by its maker
        self.state[0] = random.getrandbits(64)
        self.state[1] = random.getrandbits(64) | 1      # never all zero
        for i in range(STRATA):
            self.strata[i] = <uint8_t>i
        self.left = STRATA

    cdef uint64_t _free(self, uint64_t below) noexcept nogil:
        return headgate_scaled(random_next(self.state), below)

    cdef uint64_t _even(self, uint64_t below) noexcept nogil:
        cdef int chosen
        cdef uint8_t stratum
        if self.left == 0:
            self.left = STRATA
        # One step of Fisher and Yates.
        chosen = <int>headgate_scaled(random_next(self.state), <uint64_t>self.left)
        self.left -= 1
        stratum = self.strata[chosen]
        self.strata[chosen] = self.strata[self.left]
        self.strata[self.left] = stratum
        return headgate_scaled(<uint64_t>stratum << (64 - STRATUM_BITS) | random_next(self.state) >> STRATUM_BITS, below)

    def free(self, uint64_t below):
        """An index from 0 to below `below`, whatever came before; 0 for 0."""
        return self._free(below)

    def even(self, uint64_t below):
        """An index from 0 to below `below`, evenly spread over each block of 64 draws; 0 for 0."""
        return self._even(below)

    # Two at once, for the strategies that compare two: a call for each and the indices as Python's numbers cost them half a microsecond.

    cpdef tuple two(self, list entries):
        """Two entries, the first of them evenly spread; both may be the same. IndexError where there is none."""
        cdef Py_ssize_t n = _length(entries)
        if n == 0:
            raise IndexError("nothing to draw from")
        first = entries[self._even(n)]
        return first, entries[self._free(n)]

    cpdef tuple two_places(self, list entries):
        """Entries at two places, the first of them evenly spread. IndexError where there are fewer."""
        cdef Py_ssize_t n = _length(entries)
        cdef uint64_t i, j
        if n < 2:
            raise IndexError("there are no two to draw")
        i = self._even(n)
        j = self._free(n - 1)
        return entries[i], entries[j if j < i else j + 1]

    cpdef tuple two_others(self, list entries):
        """Two entries that are not the same object, the first of them evenly spread: the second is any other, in proportion to how
        often each stands there. The same one twice where there is no other. IndexError where there is none."""
        cdef Py_ssize_t n = _length(entries)
        cdef int draw
        cdef list others
        if n == 0:
            raise IndexError("nothing to draw from")
        first = entries[self._even(n)]
        for draw in range(1 + AGAIN):
            second = entries[self._free(n)]
            if second is not first:
                return first, second
        others = [other for other in entries if other is not first]
        if others:
            return first, others[self._free(PyList_GET_SIZE(others))]
        return first, first

    def __deepcopy__(self, memo):
        """One that will draw the same, for who wants to know what comes without its having come."""
        cdef Draws other = Draws.__new__(Draws)
        other.state = self.state
        other.strata = self.strata
        other.left = self.left
        return other
