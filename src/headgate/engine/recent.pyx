"""Quantiles of a pool's recent latency, from the histogram it has anyway: nothing is done per request.

Every three seconds the counts are compared with those of the last look. What was there before weighs half from then on,
as long as a few hundred values are left: a busy pool forgets in seconds, a quiet one keeps enough to say something.
"""
from libc.stdint cimport int64_t, uint64_t

from headgate.engine.histogram cimport HISTOGRAM_BUCKETS, Histogram, bucket_start, histogram_add

cdef int64_t _LOOK_EVERY_NS = 3000000000
# Less than this and a high percentile would be the largest value of a handful.
cdef double _LEAST = 20
cdef double _FORGET_ABOVE = 200


cdef class RecentLatency:
    cdef bint look(self, int64_t now) noexcept:
        cdef int i
        cdef uint64_t count, fresh
        cdef double keep = 0.5 if self.total > _FORGET_ABOVE else 1.0
        if self.source == NULL or now < self.look_at:
            return False
        self.look_at = now + _LOOK_EVERY_NS
        self.total = 0
        for i in range(HISTOGRAM_BUCKETS):
            count = self.source.bucket[i]
            # Smaller than before: the slot was cleared for another pool.
            fresh = count - self.seen[i] if count >= self.seen[i] else count
            self.seen[i] = count
            self.weight[i] = self.weight[i] * keep + fresh
            self.total += self.weight[i]
        return True

    cdef int64_t quantile(self, double q) noexcept:
        cdef int i
        cdef double seen = 0
        if self.total < _LEAST:
            return -1
        for i in range(HISTOGRAM_BUCKETS):
            seen += self.weight[i]
            if seen >= q * self.total:
                break
        # To every second bucket's end: each distinct duration of a timer is a queue of its own, for good.
        return <int64_t>bucket_start((i | 1) + 1)


cdef class LatencyWatch(RecentLatency):
    """The same for tests: values in nanoseconds, times in seconds."""
    cdef Histogram histogram

    def __cinit__(self):
        self.source = &self.histogram

    def add(self, uint64_t ns) -> None:
        """One more value."""
        histogram_add(&self.histogram, ns)

    def ask(self, double q, double now) -> int:
        """The quantile in nanoseconds, or -1."""
        self.look(<int64_t>(now * 1e9))
        return self.quantile(q)
