"""Latency histograms: 16 buckets a doubling, so that a value is known within 3.2 % from 1 us to more than an hour."""
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #define hg_top_bit(v) (63 - __builtin_clzll(v))
    """
    int top_bit "hg_top_bit"(uint64_t word) noexcept nogil

cdef enum:
    SUB_BITS = 4                # 16 buckets a doubling: each is 1/16 of its octave's start wide, half of that is 3.125 %
    UNIT_SHIFT = 6              # 1.024 us is 2**10, and its sixteenth 2**6

# Nanoseconds are scaled by 128/125 first: 1,000 ns become 1,024, so that octaves start at 1, 2, 4... microseconds and 32
# of them reach from 1 us to 4,295 s. Below and above that, values land in the first and the last bucket.
cdef uint64_t FIRST_NS = 1000
cdef uint64_t BEYOND_NS = <uint64_t>1000 << 32


cdef int histogram_index(uint64_t ns) noexcept nogil:
    cdef uint64_t scaled
    cdef int octave
    if ns < FIRST_NS:
        return 0
    if ns >= BEYOND_NS:
        return HISTOGRAM_BUCKETS - 1
    scaled = ns * 128 // 125
    octave = top_bit(scaled) - (SUB_BITS + UNIT_SHIFT)
    return (octave << SUB_BITS) + (<int>(scaled >> (octave + UNIT_SHIFT)) & ((1 << SUB_BITS) - 1))


cdef uint64_t bucket_start(int index) noexcept nogil:
    """The smallest value of bucket `index` (of the first one: as if it started at 1 us); of 512: the end of the last."""
    cdef uint64_t scaled = <uint64_t>(16 + (index & 15)) << ((index >> SUB_BITS) + UNIT_SHIFT)
    return (scaled * 125 + 127) // 128


cdef void histogram_add(Histogram *histogram, uint64_t ns) noexcept nogil:
    histogram.count += 1
    histogram.sum_ns += ns
    histogram.bucket[histogram_index(ns)] += 1


cdef void coarse_add(CoarseHistogram *histogram, uint64_t ns) noexcept nogil:
    coarse_add_at(histogram, histogram_index(ns), ns)


def histogram_bounds():
    """The 512 buckets' upper bounds in nanoseconds, ascending: bucket i holds values below bounds[i].

    The last bucket also holds everything above its bound (4,295 s).
    """
    return [bucket_start(index + 1) for index in range(HISTOGRAM_BUCKETS)]


def bucket_of(uint64_t ns):
    """The bucket (0 to 511) a duration of `ns` nanoseconds is counted in."""
    return histogram_index(ns)


cdef class Latency:
    """Durations, summed over workers: `count`, `sum_ns` and the non-empty buckets.

    steps: how many of the 512 buckets each of these is: 1, or 4 for what is counted coarsely.
    """
    cdef readonly object count
    cdef readonly object sum_ns
    cdef readonly list buckets      # [(upper_bound_ns, count)], ascending
    cdef readonly int steps

    def __init__(self, count: int, sum_ns: int, buckets: list[tuple[int, int]], int steps=1):
        self.count = count
        self.sum_ns = sum_ns
        self.buckets = buckets
        self.steps = steps

    def quantile(self, double q):
        """The duration in nanoseconds that a share `q` (0 to 1, else ValueError) of all values does not exceed.

        The middle of the bucket it falls into, so within 3.2 % (between 1 us and 4,295 s; 12.5 % with steps of 4); None
        without values.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile lies between 0 and 1, not {q}")
        # The buckets' own total: `count` is another word and may be one ahead of them.
        total = sum([count for _, count in self.buckets])
        if total == 0:
            return None
        wanted = q * total
        seen = 0
        for upper, count in self.buckets:
            seen += count
            if seen >= wanted:
                break
        index = histogram_index(upper - 1)
        return (bucket_start(index + 1 - self.steps) + bucket_start(index + 1)) / 2

    def since(self, Latency earlier):
        """What has come since `earlier`, an older reading of the same counters. Counters that began anew count whole."""
        before = dict(earlier.buckets)
        buckets = [(upper, count - before.get(upper, 0)) for upper, count in self.buckets]
        if self.count < earlier.count or any([count < 0 for _, count in buckets]):
            return self
        buckets = [bucket for bucket in buckets if bucket[1]]
        return Latency(self.count - earlier.count, self.sum_ns - earlier.sum_ns, buckets, self.steps)

    def up_to(self, bounds):
        """How many values lie below each of these bounds (ns, ascending): exact where a bucket ends at the bound."""
        cdef list found = []
        cdef Py_ssize_t at = 0, size = len(self.buckets)
        seen = 0
        for bound in bounds:
            while at < size and self.buckets[at][0] <= bound:
                seen += self.buckets[at][1]
                at += 1
            found.append(seen)
        return found

    def __repr__(self):
        return f"Latency(count={self.count}, sum_ns={self.sum_ns}, buckets={self.buckets})"
