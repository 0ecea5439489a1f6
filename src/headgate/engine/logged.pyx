"""An exchange's line in the access log: which of its facts go there. The form is that of `logline.pyx`."""
from libc.stdint cimport uint32_t
from libc.string cimport strlen

from headgate.engine.accesslog cimport AccessLog
from headgate.engine.context cimport KIND_OK, KIND_WORD
from headgate.engine.exchange cimport Exchange
from headgate.engine.head cimport Head
from headgate.engine.logline cimport LogEntry
from headgate.engine.model cimport Backend
from headgate.engine.retry cimport write_notes
from headgate.engine.trace cimport trace_id_text


cdef void log_exchange(Exchange x, int kind) noexcept:
    cdef LogEntry entry
    cdef char word[128]
    cdef Head *head = &x.request
    cdef bytes url
    cdef AccessLog log = x.ctx.access_log
    if (log.samples and kind == KIND_OK and x.status < 500 and not x.notes and not x.failed_count
            and not log.chosen(x.id_text, x.id_length)):
        return
    entry.time_ns = x.started_wall
    entry.client = x.client_text
    entry.client_length = x.client_length
    entry.method = head.base + head.method_text.off
    entry.method_length = head.method_text.len
    entry.target = head.base + head.target.off
    entry.target_length = head.target.len
    entry.host = head.base + head.authority.off
    entry.host_length = head.authority.len
    entry.minor_version = head.minor_version
    if x.pool is not None:
        entry.pool = x.pool.name_bytes
        entry.pool_length = <uint32_t>len(x.pool.name_bytes)
    else:
        entry.pool = NULL
        entry.pool_length = 0
    if x.shown is not None:
        url = x.shown.url_bytes
        entry.backend = url
        entry.backend_length = <uint32_t>len(url)
    else:
        entry.backend = NULL
        entry.backend_length = 0
    entry.request_id = x.id_text
    entry.request_id_length = x.id_length
    entry.word = NULL
    entry.word_length = 0
    if x.notes:
        entry.word = word
        entry.word_length = <uint32_t>write_notes(word, sizeof(word), KIND_WORD[kind] if kind != KIND_OK else NULL, x.notes)
    elif kind != KIND_OK:
        entry.word = KIND_WORD[kind]
        entry.word_length = <uint32_t>strlen(entry.word)
    entry.status = x.status
    entry.attempts = x.attempts
    entry.bytes_sent = x.bytes_sent
    entry.bytes_received = x.bytes_received
    entry.first_byte_ns = x.first_byte
    entry.queued_ns = x.queued_ns
    entry.total_ns = x.ctx.now - x.started
    if log.plan is not None:
        _chosen_fields(x, &entry)
    log.write(&entry)


cdef void _chosen_fields(Exchange x, LogEntry *entry) noexcept:
    """What only a log with chosen fields may have."""
    cdef int index
    cdef bytes url
    cdef const char *word
    entry.listener = x.listener.bind_bytes
    entry.listener_length = <uint32_t>len(x.listener.bind_bytes)
    entry.route = NULL
    entry.route_length = 0
    if x.route is not None:
        entry.route = x.route.name_bytes
        entry.route_length = <uint32_t>len(x.route.name_bytes)
    entry.trace_id = NULL
    entry.trace_id_length = 0
    if x.traced:
        trace_id_text(x.trace_id_buffer, &x.trace)
        entry.trace_id = x.trace_id_buffer
        entry.trace_id_length = 32
    entry.tls = x.tls is not None
    entry.failed_count = x.failed_count
    for index in range(x.failed_count):
        # The backends live: they stand in `tried`, or are the last one.
        url = _url_of(x, x.failed_slot[index])
        entry.failed[index].data = <const char *>url if url is not None else NULL
        entry.failed[index].length = <uint32_t>len(url) if url is not None else 0
        word = KIND_WORD[x.failed_kind[index]]
        entry.failed_word[index].data = word
        entry.failed_word[index].length = <uint32_t>strlen(word)
    x.ctx.access_log.plan.look_up(&x.request, entry)


cdef bytes _url_of(Exchange x, int slot):
    """Of a backend that this exchange has tried; None where it is not known any more (another pool took over)."""
    cdef Backend backend
    if x.shown is not None and x.shown.slot == slot:
        return x.shown.url_bytes
    if x.tried is not None:
        for other in x.tried:
            backend = <Backend>other
            if backend.slot == slot:
                return backend.url_bytes
    return None
