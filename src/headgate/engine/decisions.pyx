"""The last decisions of all workers, in a memfd that the supervisor makes and every worker maps.

Each worker has two rings of 1,024 records and writes them alone: one for what went wrong, one for samples and for what
clients did wrong. They are two so that an outage does not wash the samples away, nor somebody who asks for pages that are
not there the failures. Writing one is copying some hundred bytes: no lock, no allocation, no Python object, no system call.

A record says by its sequence number whether it stands (a seqlock): odd while it is written, and another one afterwards, so
who copies it and finds the same even number before and after has it whole. A worker that dies in the middle leaves one
odd record, which readers pass over and its replacement overwrites; everything before it can still be read.

Bodies, cookies and credentials are never in it: what is kept of a request is its method, host, path and client.
"""
import os

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy

cdef extern from "<sys/mman.h>" nogil:
    enum: PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)

cdef extern from "<unistd.h>" nogil:
    int close_descriptor "close"(int fd)

cdef extern from *:
    """
    #define HG_SEQ_LOAD(word) __atomic_load_n(word, __ATOMIC_ACQUIRE)
    #define HG_SEQ_STORE(word, value) __atomic_store_n(word, value, __ATOMIC_RELEASE)
    #define HG_FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    """
    uint64_t seq_load "HG_SEQ_LOAD"(const uint64_t *word) noexcept nogil
    void seq_store "HG_SEQ_STORE"(uint64_t *word, uint64_t value) noexcept nogil
    void fence "HG_FENCE"() noexcept nogil

cdef enum:
    PAGE = 4096
    LAYOUT = 1                  # to be raised with every change of decisions.pxd
    TRIES = 4                   # a record is written in less than a microsecond

cdef const char *MAGIC = b"hgdecide"

cdef struct Header:
    char magic[8]
    uint32_t layout
    uint32_t workers
    uint32_t record_size
    uint32_t ring_size


cdef inline size_t ring_bytes() noexcept nogil:
    return PAGE + <size_t>RING_SIZE * sizeof(DecisionRecord)


cdef inline size_t all_bytes(int workers) noexcept nogil:
    return PAGE + <size_t>workers * RINGS * ring_bytes()


cdef uint8_t keep_text(char *to, size_t room, const char *text, size_t size) noexcept nogil:
    if size > room:
        size = room
    if size:                        # an empty text may be nowhere
        memcpy(to, text, size)
    return <uint8_t>size


cdef inline str shown(const char *text, uint8_t size):
    return text[:size].decode("utf-8", "replace")


cdef inline object ms(int64_t ns):
    return None if ns < 0 else round(ns / 1e6, 3)


cdef str hexadecimal(uint64_t high, uint64_t low, bint both):
    cdef char text[40]
    if both:
        snprintf(text, sizeof(text), b"%016llx%016llx", <unsigned long long>high, <unsigned long long>low)
    else:
        snprintf(text, sizeof(text), b"%016llx", <unsigned long long>low)
    return text.decode("ascii")


cdef class Decisions:
    """See the stub."""

    def __cinit__(self):
        self.fd = -1

    @staticmethod
    def create(int workers):
        cdef Header header
        cdef Decisions made
        if not 1 <= workers <= 1024:
            raise ValueError(f"workers must be 1 to 1024, not {workers}")
        memcpy(header.magic, MAGIC, 8)
        header.layout = LAYOUT
        header.workers = workers
        header.record_size = sizeof(DecisionRecord)
        header.ring_size = RING_SIZE
        fd = os.memfd_create("headgate-decisions", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, all_bytes(workers))
            os.pwrite(fd, (<char *>&header)[:sizeof(Header)], 0)
            return Decisions.open(fd)
        except BaseException:
            os.close(fd)
            raise

    @staticmethod
    def open(int fd):
        cdef Header header
        cdef Decisions made = Decisions.__new__(Decisions)
        cdef bytes found = os.pread(fd, sizeof(Header), 0)
        cdef void *base
        if len(found) < <Py_ssize_t>sizeof(Header):
            raise ValueError("this descriptor holds no decisions")
        memcpy(&header, <const char *>found, sizeof(Header))
        if memcmp(header.magic, MAGIC, 8) != 0 or header.layout != LAYOUT or header.record_size != sizeof(DecisionRecord) or header.ring_size != RING_SIZE:
            raise ValueError("this descriptor holds no decisions, or those of another version")
        made._size = all_bytes(<int>header.workers)
        if os.fstat(fd).st_size < made._size:
            raise ValueError("the decisions are cut short")
        base = mmap(NULL, made._size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if base == MAP_FAILED:
            raise OSError("the decisions cannot be mapped")
        made._base = <char *>base
        made.workers = <int>header.workers
        made.fd = fd
        return made

    def close(self) -> None:
        """Only once no engine writes here any more."""
        if self._base != NULL:
            munmap(self._base, self._size)
            self._base = NULL
            os.close(self.fd)
            self.fd = -1

    def __dealloc__(self):
        if self._base != NULL:
            munmap(self._base, self._size)
            close_descriptor(self.fd)

    cdef uint64_t *_next(self, int worker, int ring) noexcept:
        return <uint64_t *>(self._base + PAGE + (<size_t>worker * RINGS + ring) * ring_bytes())

    cdef DecisionRecord *_record(self, int worker, int ring, uint64_t number) noexcept:
        cdef char *first = <char *>self._next(worker, ring) + PAGE
        return <DecisionRecord *>first + (number & (RING_SIZE - 1))

    # -- writing: the worker whose rings they are

    cdef DecisionRecord *begin(self, int worker, int ring) noexcept:
        """The record to fill; `commit` makes it stand."""
        cdef uint64_t number = self._next(worker, ring)[0]
        cdef DecisionRecord *record = self._record(worker, ring, number)
        seq_store(&record.seq, 2 * number + 1)
        fence()
        return record

    cdef void commit(self, int worker, int ring) noexcept:
        cdef uint64_t *next_ = self._next(worker, ring)
        seq_store(&self._record(worker, ring, next_[0]).seq, 2 * next_[0] + 2)
        seq_store(next_, next_[0] + 1)

    # -- reading: anybody

    cdef bint _copy(self, const DecisionRecord *from_, DecisionRecord *to) noexcept:
        """A whole record; False when there is none, or none that stands."""
        cdef int i
        cdef uint64_t before
        for i in range(TRIES):
            before = seq_load(&from_.seq)
            if before == 0:
                return False
            if before & 1:
                continue
            memcpy(to, from_, sizeof(DecisionRecord))
            fence()
            if seq_load(&from_.seq) == before:
                # Lengths are the writer's; one that is not ours (another version, a broken process) must not lead outside.
                return (to.kept <= KEPT_ATTEMPTS and to.id_length <= ID_SIZE and to.method_length <= 16 and to.path_length <= PATH_SIZE
                        and to.host_length <= 64 and to.client_length <= 48 and to.listener_length <= 48 and to.route_length <= 88
                        and to.pool_length <= 48)
        return False

    def latest(self, int limit, *, bytes id=None, bint failed=False, bytes backend=None, bint traced=False) -> list:
        cdef int worker, ring, i
        cdef uint64_t number, end
        cdef DecisionRecord *record
        cdef DecisionRecord copy
        cdef list found = []
        cdef list rows = []
        cdef bytes name = None if backend is None else backend[:NAME_SIZE]
        if self._base == NULL:
            raise ValueError("the decisions are closed")
        for worker in range(self.workers):
            for ring in range(RINGS):
                end = seq_load(self._next(worker, ring))
                for number in range(end - RING_SIZE if end > RING_SIZE else 0, end):
                    record = self._record(worker, ring, number)
                    # A first look, to copy only what can be meant; it is judged again once it is whole.
                    if self._fits(record, id, failed, name, traced):
                        found.append((record.time_ns, worker, ring, number))
        found.sort(reverse=True)
        for _, worker, ring, number in found:
            if len(rows) >= limit:
                break
            if self._copy(self._record(worker, ring, number), &copy) and self._fits(&copy, id, failed, name, traced):
                rows.append(self._shown(worker, &copy))
        return rows

    def follow(self, dict places not None) -> list:
        cdef int worker, ring
        cdef uint64_t number, end, begin
        cdef DecisionRecord copy
        cdef list rows = []
        if self._base == NULL:
            raise ValueError("the decisions are closed")
        for worker in range(self.workers):
            for ring in range(RINGS):
                end = seq_load(self._next(worker, ring))
                begin = places.get((worker, ring), 0)
                if end - begin > RING_SIZE:
                    begin = end - RING_SIZE
                places[worker, ring] = end
                for number in range(begin, end):
                    if self._copy(self._record(worker, ring, number), &copy) and copy.flags & DECISION_TRACED:
                        rows.append(self._shown(worker, &copy))
        return rows

    cdef bint _fits(self, const DecisionRecord *record, bytes id, bint failed, bytes backend, bint traced) except -1:
        cdef int i
        if failed and not record.flags & DECISION_FAILED:
            return False
        if traced and not record.flags & DECISION_TRACED:
            return False
        if id is not None and (record.id_length != len(id) or memcmp(record.id, <const char *>id, len(id)) != 0):
            return False
        if backend is not None:
            for i in range(KEPT_ATTEMPTS if record.kept > KEPT_ATTEMPTS else record.kept):
                if record.tried[i].name_length == len(backend) and memcmp(record.tried[i].name, <const char *>backend, len(backend)) == 0:
                    return True
            return False
        return True

    cdef dict _shown(self, int worker, const DecisionRecord *record):
        cdef int i
        cdef const AttemptNote *note
        cdef list tried = []
        for i in range(record.kept):
            note = &record.tried[i]
            tried.append({
                "backend": shown(note.name, min(note.name_length, <uint8_t>NAME_SIZE)),
                "kind": note.kind,
                "status": note.status,
                "started_ms": note.started_us / 1e3,
                "first_byte_ms": None if note.first_byte_us == NO_TIME else note.first_byte_us / 1e3,
                "ms": note.took_us / 1e3,
            })
        return {
            "worker": worker,
            "time_ns": record.time_ns,
            "id": shown(record.id, record.id_length),
            "method": shown(record.method, record.method_length),
            "host": shown(record.host, record.host_length),
            "path": shown(record.path, record.path_length),
            "client": shown(record.client, record.client_length),
            "listener": shown(record.listener, record.listener_length),
            "route": shown(record.route, record.route_length),
            "pool": shown(record.pool, record.pool_length),
            "kind": record.kind,
            "notes": record.notes,
            "status": record.status,
            "attempts_made": record.attempts,
            "attempts": tried,
            "failed": (record.flags & DECISION_FAILED) != 0,
            "sampled": (record.flags & DECISION_SAMPLED) != 0,
            "sticky": (record.flags & DECISION_STICKY) != 0,
            "queued_ms": ms(record.queued_ns),
            "first_byte_ms": ms(record.first_byte_ns),
            "total_ms": ms(record.total_ns),
            "total_ns": record.total_ns,
            "trace_id": hexadecimal(record.trace_high, record.trace_low, True) if record.trace_high | record.trace_low else "",
            "span_id": hexadecimal(0, record.span, False) if record.span else "",
            "parent_id": hexadecimal(0, record.parent, False) if record.parent else "",
            "span": record.span,
        }
