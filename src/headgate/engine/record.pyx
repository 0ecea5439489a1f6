"""What of an exchange is kept among the decisions (`decisions.pyx`): its attempts as they fail, the rest at its end.

An exchange that goes well and is not sampled costs a subtraction and two comparisons.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memchr, memcpy

from headgate.engine.context cimport KIND_HEDGE_LOST, KIND_OK, Context
from headgate.engine.decisions cimport (
    DECISION_FAILED, DECISION_SAMPLED, DECISION_STICKY, DECISION_TRACED, KEPT_ATTEMPTS, NAME_SIZE, NO_TIME, PATH_SIZE, RING_BROKEN, RING_RECENT,
    AttemptNote, DecisionRecord, Decisions, keep_text,
)
from headgate.engine.exchange cimport Exchange
from headgate.engine.hashing cimport random_next
from headgate.engine.head cimport Head
from headgate.engine.model cimport Backend
from headgate.engine.stats cimport MAX_KINDS

from headgate.errors import MEANING, Source

cdef uint8_t BY_CLIENT[MAX_KINDS]

for _kind, _meaning in MEANING.items():
    BY_CLIENT[<int>_kind] = _meaning.source is Source.CLIENT


cdef void next_sample(Context ctx) noexcept:
    """How many requests pass before the next sample: random, about the mean, so that no rhythm of requests meets it."""
    if ctx.sample_every <= 1:
        ctx.sample_left = 0 if ctx.sample_every == 1 else <int64_t>1 << 62
    else:
        ctx.sample_left = <int64_t>(random_next(ctx.random) % <uint64_t>(2 * ctx.sample_every - 1))


cdef inline uint32_t microseconds(int64_t ns) noexcept nogil:
    if ns < 0:
        return NO_TIME
    ns //= 1000
    return <uint32_t>ns if ns < NO_TIME else <uint32_t>(NO_TIME - 1)


cdef void _fill(Exchange x, AttemptNote *note, Backend backend, int kind) noexcept:
    cdef bytes name = backend.name_bytes
    note.name_length = keep_text(note.name, NAME_SIZE, name, len(name))
    note.started_us = microseconds(x.attempt_started - x.started)
    note.took_us = microseconds(x.ctx.now - x.attempt_started)
    note.first_byte_us = microseconds(x.attempt_first_byte)
    note.status = x.status if x.attempt_first_byte >= 0 else 0
    note.kind = <uint8_t>kind


cdef void note_attempt(Exchange x, Backend backend, int kind) noexcept:
    """Called while `x` still has the attempt's figures."""
    cdef uint8_t at = x.failed_kept
    if x.ctx.decisions is None:
        return
    if x.failed_notes == NULL:
        x.failed_notes = <AttemptNote *>malloc(KEPT_ATTEMPTS * sizeof(AttemptNote))
        if x.failed_notes == NULL:
            return
    if at < KEPT_ATTEMPTS:
        x.failed_kept += 1
    else:
        at = KEPT_ATTEMPTS - 1              # the last one stands for those before it
    _fill(x, &x.failed_notes[at], backend, kind)
    x.failed_all += 1
    if kind != KIND_HEDGE_LOST:
        x.recorded = True
        if not BY_CLIENT[kind]:
            x.broken = True


cdef size_t _masked(char *to, size_t room, const char *text, size_t size) noexcept nogil:
    """A query with its values left out: "?a=*&b=*"."""
    cdef size_t i, at = 0
    cdef bint value = False
    for i in range(size):
        if text[i] == c'&':
            value = False
        elif value:
            continue
        if at == room:
            return at
        to[at] = text[i]
        at += 1
        if text[i] == c'=' and i + 1 < size and text[i + 1] != c'&':
            value = True
            if at == room:
                return at
            to[at] = c'*'
            at += 1
    return at


cdef uint8_t _keep_path(char *to, const char *path, size_t size, int query) noexcept nogil:
    cdef const char *mark = <const char *>memchr(path, c'?', size) if size else NULL
    cdef size_t bare = mark - path if mark != NULL else size
    cdef size_t kept
    if mark == NULL or query == 0:
        return keep_text(to, PATH_SIZE, path, bare)
    if query == 2:
        return keep_text(to, PATH_SIZE, path, size)
    kept = keep_text(to, PATH_SIZE, path, bare)
    return <uint8_t>(kept + _masked(to + kept, PATH_SIZE - kept, mark, size - bare))


cdef void record_decision(Exchange x, int kind) noexcept:
    cdef Context ctx = x.ctx
    cdef Decisions decisions = ctx.decisions
    cdef DecisionRecord *record
    cdef Head *head = &x.request
    cdef bytes text
    cdef bint sampled = ctx.sample_left < 0
    cdef bint broken = x.broken or (kind != KIND_OK and not BY_CLIENT[kind])
    cdef int ring = RING_BROKEN if broken else RING_RECENT
    cdef uint8_t last
    if sampled:
        next_sample(ctx)
    if decisions is None:
        return
    record = decisions.begin(ctx.worker, ring)
    record.total_ns = ctx.now - x.started
    record.time_ns = ctx.wall_ns() - <uint64_t>record.total_ns
    record.first_byte_ns = x.first_byte
    record.queued_ns = x.queued_ns
    record.status = x.status
    record.attempts = x.attempts
    record.kind = <uint8_t>kind
    record.notes = x.notes
    record.flags = 0
    if kind != KIND_OK or x.broken:
        record.flags |= DECISION_FAILED
    if sampled:
        record.flags |= DECISION_SAMPLED
    if x.bound is not None and x.shown is x.bound:
        record.flags |= DECISION_STICKY
    record.trace_high = record.trace_low = record.span = record.parent = 0
    if x.traced:
        record.trace_high = x.trace.high
        record.trace_low = x.trace.low
        record.span = x.trace.span
        record.parent = x.trace.parent
        if x.trace.flags & 1:
            record.flags |= DECISION_TRACED
    record.id_length = keep_text(record.id, sizeof(record.id), x.id_text, x.id_length)
    record.method_length = keep_text(record.method, sizeof(record.method), head.base + head.method_text.off, head.method_text.len)
    record.path_length = _keep_path(record.path, head.base + head.path.off, head.path.len, ctx.query_kept)
    record.host_length = keep_text(record.host, sizeof(record.host), head.base + head.authority.off, head.authority.len)
    record.client_length = keep_text(record.client, sizeof(record.client), x.client_text, x.client_length)
    text = x.listener.bind_bytes
    record.listener_length = keep_text(record.listener, sizeof(record.listener), text, len(text))
    record.route_length = record.pool_length = 0
    if x.route is not None:
        text = x.route.name_bytes
        record.route_length = keep_text(record.route, sizeof(record.route), text, len(text))
    if x.pool is not None:
        text = x.pool.name_bytes
        record.pool_length = keep_text(record.pool, sizeof(record.pool), text, len(text))
    record.kept = x.failed_kept
    if x.failed_kept:
        memcpy(record.tried, x.failed_notes, x.failed_kept * sizeof(AttemptNote))
    if x.shown is not None and x.attempts > x.failed_all:
        # The one that went well is not noted when it ends.
        last = record.kept if record.kept < KEPT_ATTEMPTS else KEPT_ATTEMPTS - 1
        _fill(x, &record.tried[last], x.shown, KIND_OK)
        if record.kept < KEPT_ATTEMPTS:
            record.kept += 1
    decisions.commit(ctx.worker, ring)
