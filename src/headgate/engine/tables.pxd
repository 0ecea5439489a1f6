"""Lookup tables of the strategies that hash."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef struct Place:
    uint64_t at
    uint32_t owner

cdef struct Ring:
    int power               # weights of its backends are in [2**(power-1), 2**power)
    double most             # the highest share among them
    uint32_t count
    int shift               # place >> shift is its bucket
    Place *places           # sorted
    uint32_t *starts        # by bucket: index of its first place, or of the next after it

cdef class Circle:
    cdef Ring *rings
    cdef int ring_count
    cdef double *shares
    cdef int *ring_of
    cdef uint8_t *passed
    cdef uint32_t backends
    cdef int places
    cdef readonly uint32_t late     # backends that came by `add`; they stand on the last ring, whatever their weight
    cdef uint32_t _find(self, uint64_t key) noexcept nogil
    cpdef int64_t find(self, uint64_t key) noexcept

cdef class Continuum:
    cdef uint32_t *points
    cdef uint32_t *owners
    cdef uint32_t count
    cdef uint32_t _first(self, uint32_t key) noexcept nogil
    cpdef int64_t find(self, uint32_t key) noexcept

cdef class Maglev:
    cdef uint32_t *table
    cdef uint32_t size
    cpdef int64_t find(self, uint64_t key) noexcept
