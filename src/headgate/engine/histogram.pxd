"""Latency histograms, made to lie in shared memory."""
from libc.stdint cimport uint64_t

cdef enum:
    HISTOGRAM_BUCKETS = 512     # see histogram_index

cdef enum:
    COARSE_STEPS = 4            # fine buckets in a coarse one
    COARSE_BUCKETS = 128

cdef struct CoarseHistogram:    # the same with 4 buckets a doubling, error <= 12.5 %: where there are many of them
    uint64_t sum_ns
    uint64_t bucket[COARSE_BUCKETS]

cdef struct Histogram:          # nanoseconds, log-bucketed: 16 buckets a doubling, error <= 3.2 %
    uint64_t count
    uint64_t sum_ns
    uint64_t bucket[HISTOGRAM_BUCKETS]

cdef int histogram_index(uint64_t ns) noexcept nogil
cdef void histogram_add(Histogram *histogram, uint64_t ns) noexcept nogil
cdef uint64_t bucket_start(int index) noexcept nogil

cdef inline void histogram_add_at(Histogram *histogram, int index, uint64_t ns) noexcept nogil:
    """`index` is histogram_index(ns): for who counts one duration in several places."""
    histogram.count += 1
    histogram.sum_ns += ns
    histogram.bucket[index] += 1

cdef inline void coarse_add_at(CoarseHistogram *histogram, int index, uint64_t ns) noexcept nogil:
    histogram.sum_ns += ns
    histogram.bucket[index // COARSE_STEPS] += 1

cdef void coarse_add(CoarseHistogram *histogram, uint64_t ns) noexcept nogil
