"""Latency histograms, made to lie in shared memory."""
from libc.stdint cimport uint64_t

cdef enum:
    HISTOGRAM_BUCKETS = 512     # see histogram_index

cdef struct Histogram:          # nanoseconds, log-bucketed: 16 buckets a doubling, error <= 3.2 %
    uint64_t count
    uint64_t sum_ns
    uint64_t bucket[HISTOGRAM_BUCKETS]

cdef int histogram_index(uint64_t ns) noexcept nogil
cdef void histogram_add(Histogram *histogram, uint64_t ns) noexcept nogil
cdef uint64_t bucket_start(int index) noexcept nogil
