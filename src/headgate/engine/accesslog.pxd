"""The access log: lines formatted in C into one of two buffers, written by a POSIX thread that never touches Python."""
from libc.stdint cimport uint64_t
from headgate.engine.logline cimport LogEntry
from headgate.engine.logplan cimport LogPlan

cdef class AccessLog:
    cdef void *_state
    cdef readonly str format
    cdef readonly str path
    cdef LogPlan plan           # None: the fields of the format itself
    cdef bint samples           # are lines of requests that went well left out?
    cdef uint64_t keep_below    # of such a request the hash of its id has to be below this
    cdef uint64_t *_dropped     # where drops are counted: a word of the shared segment, or the next one
    cdef uint64_t _own_dropped
    # From now on drops are counted in `word` (of memory that outlives this object's close()); those so far are added.
    cdef void count_drops_in(self, uint64_t *word) noexcept
    # Is the request with this id, which went well, among those that are written down?
    cdef bint chosen(self, const char *id, size_t size) noexcept
    cdef void write(self, const LogEntry *entry) noexcept
    cdef void _write_planned(self, void *state, const LogEntry *entry) noexcept
    cdef void flush(self) noexcept        # hand what is buffered to the writer thread; called about 20 times a second
    cdef bint waiting(self) noexcept      # are there lines that no flush has handed over?
