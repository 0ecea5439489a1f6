"""The last decisions of all workers: rings in shared memory of their own, one writer each."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    KEPT_ATTEMPTS = 5           # the first four and the last
    NAME_SIZE = 40
    ID_SIZE = 128
    PATH_SIZE = 216
    RING_SIZE = 1024            # records; a power of two
    RINGS = 2                   # of each worker
    RING_BROKEN = 0             # what went wrong
    RING_RECENT = 1             # samples, traces, and what clients did wrong
    DECISION_FAILED = 1
    DECISION_SAMPLED = 2
    DECISION_STICKY = 4
    DECISION_TRACED = 8
    NO_TIME = 0xFFFFFFFF

cdef struct AttemptNote:        # 56 bytes
    char name[NAME_SIZE]
    uint32_t started_us         # since the exchange began
    uint32_t took_us
    uint32_t first_byte_us      # since the attempt began; NO_TIME = none came
    uint16_t status
    uint8_t kind
    uint8_t name_length

cdef struct DecisionRecord:     # 1,024 bytes. `seq` is odd while it is written, 2 * (number + 1) when it stands, 0 while unused
    uint64_t seq
    uint64_t time_ns            # since 1970: when the exchange began
    int64_t total_ns
    int64_t first_byte_ns       # -1 = none
    int64_t queued_ns           # -1 = never waited
    uint64_t trace_high
    uint64_t trace_low
    uint64_t span
    uint64_t parent             # 0 = a trace that begins here
    uint16_t status
    uint16_t attempts
    uint8_t kind
    uint8_t notes               # retry.Note
    uint8_t flags               # DECISION_*
    uint8_t kept                # how many of `tried` are there
    uint8_t id_length
    uint8_t method_length
    uint8_t path_length
    uint8_t host_length
    uint8_t client_length
    uint8_t listener_length
    uint8_t route_length
    uint8_t pool_length
    char id[ID_SIZE]
    char method[16]
    char path[PATH_SIZE]
    char host[64]
    char client[48]
    char listener[48]
    char route[88]
    char pool[48]
    AttemptNote tried[KEPT_ATTEMPTS]

cdef class Decisions:
    cdef readonly int fd
    cdef readonly int workers
    cdef char *_base
    cdef size_t _size
    cdef uint64_t *_next(self, int worker, int ring) noexcept
    cdef DecisionRecord *_record(self, int worker, int ring, uint64_t number) noexcept
    cdef DecisionRecord *begin(self, int worker, int ring) noexcept
    cdef void commit(self, int worker, int ring) noexcept
    cdef bint _copy(self, const DecisionRecord *from_, DecisionRecord *to) noexcept
    cdef bint _fits(self, const DecisionRecord *record, bytes id, bint failed, bytes backend, bint traced) except -1
    cdef dict _shown(self, int worker, const DecisionRecord *record)

# Copies text, cut at `room`; returns the length.
cdef uint8_t keep_text(char *to, size_t room, const char *text, size_t size) noexcept nogil
