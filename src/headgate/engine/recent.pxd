"""What a pool's latency was of late."""
from libc.stdint cimport int64_t, uint64_t

from headgate.engine.histogram cimport HISTOGRAM_BUCKETS, Histogram

cdef class RecentLatency:
    cdef Histogram *source                      # grows only; its owner outlives this
    cdef uint64_t seen[HISTOGRAM_BUCKETS]       # the source's counts at the last look
    cdef double weight[HISTOGRAM_BUCKETS]
    cdef double total
    cdef int64_t look_at                        # ns; before that there is nothing new
    cdef bint look(self, int64_t now) noexcept                 # True: there was something new to see
    cdef int64_t quantile(self, double q) noexcept             # ns, rounded up to an eighth of an octave; -1 = too few values
