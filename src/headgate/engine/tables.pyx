"""Lookup tables of the strategies that hash, built from names and shares alone: all processes build the same.

`Circle`: every backend has the same number of places on a circle of 2**64, drawn from its name (xoroshiro128++, seeded with the keyed hash). A key
goes to the backend with the smallest (distance clockwise to its nearest place) / share. Distances to random places are
nearly exponentially distributed, and the smallest of exponential variables is won in proportion to the rates, so keys
spread by share, with a deviation of 1/sqrt(places). It is a race each backend runs alone (weighted rendezvous hashing
with few random numbers): when one leaves only its own keys move, when a share grows keys only move towards it, and
nothing depends on the others, on order or on history. Fractions are as good as whole numbers.

Looked up is only what is near: backends stand on one circle for each power of two of their weight, and on each the walk
clockwise ends as soon as nothing further on can win, which is soon, since shares there hardly differ. Shares are set
without putting anything in order again; a share of 0 is a backend that is away. Places are found by
their leading bits (they are evenly spread), so a lookup is O(1) for each circle in use, whatever n.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport frexp
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy

from headgate.engine.hashing cimport hash64_bytes, random_next

cdef extern from *:
    """
    static inline uint32_t headgate_modulo(uint64_t number, uint32_t divisor, uint64_t reciprocal) {
        uint64_t quotient = (uint64_t)(((unsigned __int128)number * reciprocal) >> 64);
        uint64_t rest = number - quotient * divisor;    /* the quotient may be one too small */
        return (uint32_t)(rest >= divisor ? rest - divisor : rest);
    }
    """
    # number % divisor without a division, for numbers below 2**63; reciprocal: (2**64 - 1) // divisor (Barrett).
    uint32_t headgate_modulo(uint64_t number, uint32_t divisor, uint64_t reciprocal) noexcept nogil

cdef enum:
    NONE = 0xFFFFFFFF
    MOST_PLACES = 1 << 28
    MOST_TABLE = 1 << 24
    TAIL = 256              # free entries of a Maglev table from which on distances are computed


cdef int _sort(Ring *ring, Place *places, uint32_t count) except -1:
    """Takes `count` places into `ring`, sorted: spread by leading bits, then put right within each bucket."""
    cdef int bits = 1
    cdef uint32_t i, j, bucket, buckets
    cdef Place place
    while bits < 28 and (<uint32_t>1 << bits) < count:
        bits += 1
    buckets = <uint32_t>1 << bits
    ring.count = count
    ring.shift = 64 - bits
    ring.places = <Place *>malloc(count * sizeof(Place))
    ring.starts = <uint32_t *>calloc(buckets + 1, sizeof(uint32_t))
    if ring.places == NULL or ring.starts == NULL:
        raise MemoryError
    for i in range(count):
        ring.starts[(places[i].at >> ring.shift) + 1] += 1
    for i in range(buckets):
        ring.starts[i + 1] += ring.starts[i]
    for i in range(count):
        bucket = <uint32_t>(places[i].at >> ring.shift)
        ring.places[ring.starts[bucket]] = places[i]
        ring.starts[bucket] += 1        # ends as the start of the next one
    for i in range(buckets, 0, -1):
        ring.starts[i] = ring.starts[i - 1]
    ring.starts[0] = 0
    for i in range(1, count):
        place = ring.places[i]
        j = i
        while j > 0 and (ring.places[j - 1].at > place.at
                         or (ring.places[j - 1].at == place.at and ring.places[j - 1].owner > place.owner)):
            ring.places[j] = ring.places[j - 1]
            j -= 1
        ring.places[j] = place
    return 0


cdef uint32_t _draw_places(Place *at, bytes name, uint32_t owner, int places) noexcept:
    """Writes the places of one backend; how many."""
    cdef int i
    cdef uint64_t[2] state
    state[0] = hash64_bytes(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), 0)
    state[1] = hash64_bytes(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), 1) | 1     # never all zero
    for i in range(places):
        at[i].at = random_next(state)
        at[i].owner = owner
    return <uint32_t>places


cdef class Circle:
    """Backends at places on a circle; a key goes to the one nearest clockwise, per share.

    names: what each is drawn from. weights: above 0, its share until `set_shares`; decides who stands with whom, which
    has to do with speed and nothing else. places: for each backend. ValueError where these do not fit.
    """
    def __cinit__(self, names, weights, int places=512):
        cdef Py_ssize_t n = len(names)
        cdef Py_ssize_t i
        cdef int power, lowest, highest
        cdef uint32_t used
        cdef double share
        cdef Place *all_places = NULL
        cdef Ring *ring
        cdef int *powers = NULL
        if len(weights) != n:
            raise ValueError("as many weights as names, please")
        if places < 1 or n * places > MOST_PLACES:
            raise ValueError(f"{n} backends with {places} places each do not fit on a circle")
        self.backends = <uint32_t>n
        self.places = places
        if n == 0:
            return
        self.shares = <double *>malloc(n * sizeof(double))
        self.passed = <uint8_t *>calloc(n, 1)
        self.ring_of = <int *>malloc(n * sizeof(int))
        powers = <int *>malloc(n * sizeof(int))
        all_places = <Place *>malloc(n * places * sizeof(Place))
        try:
            if self.shares == NULL or self.passed == NULL or self.ring_of == NULL or powers == NULL or all_places == NULL:
                raise MemoryError
            lowest = 0
            highest = 0
            for i in range(n):
                share = weights[i]
                if not 1e-9 < share < 1e9:
                    raise ValueError(f"a weight is a number above 0, not {share!r}")
                self.shares[i] = share
                frexp(share, &powers[i])
                lowest = powers[i] if i == 0 else min(lowest, powers[i])
                highest = powers[i] if i == 0 else max(highest, powers[i])
            self.rings = <Ring *>calloc(highest - lowest + 2, sizeof(Ring))      # one for those that come late
            if self.rings == NULL:
                raise MemoryError
            for power in range(highest, lowest - 1, -1):    # where most is to be had, first: it ends the others' walks
                used = 0
                ring = &self.rings[self.ring_count]
                for i in range(n):
                    if powers[i] != power:
                        continue
                    ring.most = max(ring.most, self.shares[i])
                    self.ring_of[i] = self.ring_count
                    used += _draw_places(&all_places[used], names[i], <uint32_t>i, places)
                if used:
                    ring.power = power
                    self.ring_count += 1
                    _sort(ring, all_places, used)
        finally:
            free(powers)
            free(all_places)

    def __dealloc__(self):
        cdef int i
        if self.rings != NULL:
            for i in range(self.ring_count):
                free(self.rings[i].places)
                free(self.rings[i].starts)
            free(self.rings)
        free(self.shares)
        free(self.passed)
        free(self.ring_of)

    def add(self, names, weights):
        """Further backends, behind those there are, in the time that these few take: they get a ring to themselves, for which each lookup pays
        a little. ValueError where they do not fit; there must have been some before."""
        cdef Py_ssize_t n = len(names)
        cdef Py_ssize_t i
        cdef uint32_t used
        cdef uint32_t count = self.backends + <uint32_t>n
        cdef Ring ring
        cdef Ring *last
        cdef Place *both
        cdef void *moved
        cdef double share
        if len(weights) != n:
            raise ValueError("as many weights as names, please")
        if self.backends == 0 or <Py_ssize_t>count * self.places > MOST_PLACES:
            raise ValueError(f"{n} backends cannot be added to {self.backends}")
        for i in range(n):
            share = weights[i]
            if not 1e-9 < share < 1e9:
                raise ValueError(f"a weight is a number above 0, not {share!r}")
        if n == 0:
            return
        moved = realloc(self.shares, count * sizeof(double))
        if moved == NULL:
            raise MemoryError
        self.shares = <double *>moved
        moved = realloc(self.ring_of, count * sizeof(int))
        if moved == NULL:
            raise MemoryError
        self.ring_of = <int *>moved
        moved = realloc(self.passed, count)
        if moved == NULL:
            raise MemoryError
        self.passed = <uint8_t *>moved
        last = &self.rings[self.ring_count - 1 if self.late else self.ring_count]
        used = last.count
        both = <Place *>malloc((used + <size_t>n * self.places) * sizeof(Place))
        if both == NULL:
            raise MemoryError
        ring.power = 0
        ring.places = NULL
        ring.starts = NULL
        try:
            if used:    # the first that come late find no ring: NULL, which memcpy may not be given, though it be for 0 bytes
                memcpy(both, last.places, used * sizeof(Place))
            for i in range(n):
                used += _draw_places(&both[used], names[i], self.backends + <uint32_t>i, self.places)
            ring.most = last.most
            _sort(&ring, both, used)
        except BaseException:
            free(ring.places)
            free(ring.starts)
            raise
        finally:
            free(both)
        free(last.places)
        free(last.starts)
        last[0] = ring
        if self.late == 0:
            self.ring_count += 1
        for i in range(n):
            self.shares[self.backends + i] = weights[i]
            self.passed[self.backends + i] = 0
            self.ring_of[self.backends + i] = self.ring_count - 1
            last.most = max(last.most, self.shares[self.backends + i])
        self.backends = count
        self.late += <uint32_t>n

    def set_shares(self, shares):
        """Other shares from now on; 0 = as if it were not there. ValueError where they do not fit."""
        cdef Py_ssize_t i
        cdef int r
        cdef double share
        if len(shares) != self.backends:
            raise ValueError(f"{self.backends} shares, please, not {len(shares)}")
        for i in range(self.backends):
            share = shares[i]
            if not (share == 0.0 or 1e-9 < share < 1e9):
                raise ValueError(f"a share is a number from 0 up, not {share!r}")
        for r in range(self.ring_count):
            self.rings[r].most = 0.0
        for i in range(self.backends):
            self.shares[i] = shares[i]
            r = self.ring_of[i]
            self.rings[r].most = max(self.rings[r].most, self.shares[i])

    cdef uint32_t _find(self, uint64_t key) noexcept nogil:
        """The nearest per share of those not passed over."""
        cdef Ring *ring
        cdef Place *place
        cdef uint32_t i, step
        cdef uint32_t best = NONE
        cdef double nearest = 1e300
        cdef double distance, bound
        cdef int r
        for r in range(self.ring_count):
            ring = &self.rings[r]
            if ring.most == 0.0:
                continue
            bound = nearest * ring.most
            i = ring.starts[key >> ring.shift]
            while i < ring.count and ring.places[i].at < key:
                i += 1
            for step in range(ring.count):
                if i >= ring.count:
                    i = 0
                place = &ring.places[i]
                distance = <double>(place.at - key)         # modulo 2**64, so the way round the end is right too
                if distance >= bound and best != NONE:
                    break
                if not self.passed[place.owner] and self.shares[place.owner] > 0.0:
                    distance /= self.shares[place.owner]
                    if distance < nearest:
                        nearest = distance
                        bound = nearest * ring.most
                        best = place.owner
                i += 1
        return best

    def __deepcopy__(self, memo):
        # A look-up changes nothing, and what sets shares is not asked of a copy (explain/picking.py).
        return self

    cpdef int64_t find(self, uint64_t key) noexcept:
        """Index of the backend that has this 64-bit hash; -1 in an empty circle."""
        cdef uint32_t found = self._find(key)
        return -1 if found == NONE else <int64_t>found

    def find_other(self, uint64_t key, passed_over):
        """The same as if those indices were not there; -1 when none is left."""
        cdef uint32_t found
        cdef uint32_t index
        cdef list indices = list(passed_over)
        for index in indices:
            if index >= self.backends:
                raise IndexError(f"there is no backend {index}")
        for index in indices:
            self.passed[index] = 1
        found = self._find(key)
        for index in indices:
            self.passed[index] = 0
        return -1 if found == NONE else <int>found

    def __len__(self):
        cdef int i
        cdef Py_ssize_t total = 0
        for i in range(self.ring_count):
            total += self.rings[i].count
        return total


cdef class Continuum:
    """nginx's and Cache::Memcached::Fast's ketama: points of 32 bits, the first at or after a key's has it.

    points: (point, index of the backend), sorted by point, no point twice.
    """
    def __cinit__(self, points):
        cdef Py_ssize_t i
        cdef Py_ssize_t n = len(points)
        if n == 0:
            return
        if n > MOST_PLACES:
            raise ValueError(f"{n} points are too many")
        self.points = <uint32_t *>malloc(n * sizeof(uint32_t))
        self.owners = <uint32_t *>malloc(n * sizeof(uint32_t))
        if self.points == NULL or self.owners == NULL:
            raise MemoryError
        self.count = <uint32_t>n
        for i in range(n):
            self.points[i], self.owners[i] = points[i]

    def __dealloc__(self):
        free(self.points)
        free(self.owners)

    cdef uint32_t _first(self, uint32_t key) noexcept nogil:
        cdef uint32_t low = 0
        cdef uint32_t high = self.count
        cdef uint32_t middle
        while low < high:
            middle = (low + high) >> 1
            if self.points[middle] < key:
                low = middle + 1
            else:
                high = middle
        return low if low < self.count else 0

    def __deepcopy__(self, memo):
        # A look-up changes nothing, and what sets shares is not asked of a copy (explain/picking.py).
        return self

    cpdef int64_t find(self, uint32_t key) noexcept:
        """Index of the backend that has this 32-bit hash; -1 without points."""
        return -1 if self.count == 0 else <int64_t>self.owners[self._first(key)]

    def find_other(self, uint32_t key, passed_over):
        """The next one clockwise that is not among those indices; -1 when none is left."""
        cdef uint32_t step, i
        cdef set passed = set(passed_over)
        if self.count:
            i = self._first(key)
            for step in range(self.count):
                if self.owners[i] not in passed:
                    return <int>self.owners[i]
                i = i + 1 if i + 1 < self.count else 0
        return -1

    def __len__(self):
        return self.count


cdef uint32_t _inverse(uint32_t number, uint32_t prime) noexcept nogil:
    """What `number` is to be multiplied by for 1, modulo `prime` (Euclid)."""
    cdef int64_t above = 1
    cdef int64_t below = 0
    cdef int64_t dividend = number
    cdef int64_t divisor = prime
    cdef int64_t quotient, swap
    while divisor:
        quotient = dividend // divisor
        swap = dividend - quotient * divisor
        dividend = divisor
        divisor = swap
        swap = above - quotient * below
        above = below
        below = swap
    return <uint32_t>(above if above >= 0 else above + prime)


cdef class Maglev:
    """A table of `size` entries, shared out in turns by preference (D. Eisenbud et al., "Maglev", NSDI 2016, 3.4).

    The k-th preference of a backend is (offset + k * skip) mod size, both drawn from its name. In turns, in the order
    of `names`, each takes the next entry it prefers that is free. One with a lower share sits turns out, as in Envoy:
    in round r it takes part once r * share has reached its next mark, and marks are the highest share apart.

    Half of all looks would be for the last hundred or so free entries, hundreds of looks for each. For these it is computed instead
    how many preferences away each is, (entry - position) / skip modulo the prime `size`, and the nearest is taken: the same table.

    size: a prime, larger than the number of backends (not checked here: `headgate.balancing.options` does).
    """
    def __cinit__(self, names, shares, uint32_t size):
        cdef Py_ssize_t n = len(names)
        cdef Py_ssize_t i
        cdef Py_ssize_t last
        cdef uint32_t filled, entry, spread, left, j, steps, nearest, chosen
        cdef uint32_t[TAIL] free_entries
        cdef uint64_t reciprocal
        cdef uint32_t *inverse = NULL   # of the skips, modulo size; 0 = not computed yet
        cdef double most = 0.0
        cdef double turn = 0.0
        cdef double *share = NULL
        cdef double *mark = NULL
        cdef uint32_t *next_entry = NULL
        cdef uint32_t *skip = NULL
        cdef uint64_t *taken = NULL     # a bit for each entry: most looks find it taken, and bits fit in the first cache
        cdef bytes name
        if len(shares) != n:
            raise ValueError("as many shares as names, please")
        if n == 0:
            return
        if not n < size <= MOST_TABLE:
            raise ValueError(f"a table for {n} backends has more entries than that, and at most {<int>MOST_TABLE}, not {size}")
        share = <double *>malloc(n * sizeof(double))
        mark = <double *>malloc(n * sizeof(double))
        next_entry = <uint32_t *>malloc(n * sizeof(uint32_t))
        skip = <uint32_t *>malloc(n * sizeof(uint32_t))
        inverse = <uint32_t *>calloc(n, sizeof(uint32_t))
        taken = <uint64_t *>calloc(size // 64 + 1, sizeof(uint64_t))
        self.table = <uint32_t *>malloc(size * sizeof(uint32_t))
        try:
            if taken == NULL or inverse == NULL or share == NULL or mark == NULL or next_entry == NULL or skip == NULL or self.table == NULL:
                raise MemoryError
            for i in range(n):
                share[i] = shares[i]
                if not 1e-9 < share[i] < 1e9:
                    raise ValueError(f"a share is a number above 0, not {share[i]!r}")
                most = max(most, share[i])
            for i in range(n):
                name = names[i]
                next_entry[i] = <uint32_t>(hash64_bytes(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), 0) % size)
                skip[i] = <uint32_t>(hash64_bytes(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), 1) % (size - 1)) + 1
                mark[i] = most
            spread = size - min(size, <uint32_t>TAIL)
            filled = 0
            while filled < spread:
                turn += 1.0
                for i in range(n):
                    if turn * share[i] < mark[i]:
                        continue
                    mark[i] += most
                    entry = next_entry[i]
                    while taken[entry >> 6] >> (entry & 63) & 1:
                        entry += skip[i]
                        if entry >= size:
                            entry -= size
                    taken[entry >> 6] |= <uint64_t>1 << (entry & 63)
                    self.table[entry] = <uint32_t>i
                    entry += skip[i]
                    next_entry[i] = entry - size if entry >= size else entry
                    filled += 1
                    if filled == spread:
                        break
            # The same order of turns, for what is left: who was last goes on with the next.
            last = i if spread else -1
            left = 0
            reciprocal = ~<uint64_t>0 // size
            for entry in range(size):
                if not taken[entry >> 6] >> (entry & 63) & 1:
                    free_entries[left] = entry
                    left += 1
            if spread == 0:
                turn = 1.0
            while left:
                for i in range(last + 1, n):
                    if turn * share[i] < mark[i]:
                        continue
                    mark[i] += most
                    if inverse[i] == 0:
                        inverse[i] = _inverse(skip[i], size)
                    nearest = size
                    chosen = 0
                    for j in range(left):
                        # So many preferences further on.
                        entry = free_entries[j] + size - next_entry[i]
                        if entry >= size:
                            entry -= size
                        steps = headgate_modulo(<uint64_t>entry * inverse[i], size, reciprocal)
                        if steps < nearest:
                            nearest = steps
                            chosen = j
                    entry = free_entries[chosen]
                    self.table[entry] = <uint32_t>i
                    entry += skip[i]
                    next_entry[i] = entry - size if entry >= size else entry
                    left -= 1
                    free_entries[chosen] = free_entries[left]
                    if left == 0:
                        break
                last = -1
                turn += 1.0
            self.size = size
        finally:
            free(taken)
            free(inverse)
            free(share)
            free(mark)
            free(next_entry)
            free(skip)

    def __dealloc__(self):
        free(self.table)

    def __deepcopy__(self, memo):
        # A look-up changes nothing, and what sets shares is not asked of a copy (explain/picking.py).
        return self

    cpdef int64_t find(self, uint64_t key) noexcept:
        """Index of the backend that has this 64-bit hash; -1 in an empty table."""
        return -1 if self.size == 0 else <int64_t>self.table[key % self.size]

    def entries(self):
        """The whole table: an index for each entry."""
        cdef uint32_t i
        return [self.table[i] for i in range(self.size)]
