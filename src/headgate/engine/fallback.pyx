"""Graceful degradation: another pool, or a static answer, when nothing is routable.

Only while nothing of the request was answered or may have been processed: no backend could be picked, or all that were
could not be connected to. A backend's failure is an answer, and its errors are not papered over.
"""
from headgate.engine.context cimport KIND_DRAIN_DEADLINE, KIND_NO_BACKEND, KIND_OK, KIND_RETRY, RETRY_ALWAYS
from headgate.engine.exchange cimport Exchange
from headgate.engine.model cimport Route
from headgate.engine.retry cimport NOTE_FALLBACK


cdef class StaticAnswer:
    """An answer that the balancer gives by itself. `fields` are complete header lines."""

    def __init__(self, int status, bytes content_type not None, bytes fields not None, bytes body not None) -> None:
        self.status = status
        self.content_type = content_type
        self.fields = fields
        self.body = body

    def __repr__(self) -> str:
        return f"<StaticAnswer {self.status}, {len(self.body)} bytes>"


cdef void _note(Exchange x) noexcept:
    """Counted once, however long the chain."""
    if not x.notes & NOTE_FALLBACK:
        x.notes |= NOTE_FALLBACK
        x.ctx.counters.fallbacks += 1
        x.pool.counters.fallbacks += 1


cdef bint degrade(Exchange x, int kind) noexcept:
    """Called instead of answering an error of our own. Chains of pools end: the configuration allows no loops."""
    cdef Route route = x.route.fallback
    cdef StaticAnswer answer
    if kind != KIND_NO_BACKEND and KIND_RETRY[kind] != RETRY_ALWAYS and kind != KIND_DRAIN_DEADLINE:
        return False
    # What had been sent to a backend before its drain cut it off was counted.
    if x.counted or x.interim_sent:
        return False
    if x.pool.fallback_answer is not None:
        answer = <StaticAnswer>x.pool.fallback_answer
        _note(x)
        x.say(kind, answer.status, answer.fields, answer.content_type, answer.body, len(answer.body))
        return True
    if route is None or not x.down.rewind():
        return False
    _note(x)
    if x.place.counted:
        x._stop_waiting()       # for this pool; the other has a queue of its own
    x.queue_spent = False
    x.tried = None
    x.last_kind = KIND_OK
    x.enter(route)
    x._attempt()
    return True
