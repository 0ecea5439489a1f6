"""What all connections of one engine share: counters, buffers, the date, and the table of kinds as C arrays."""
import logging
import resource

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf

from headgate.engine.buffers cimport buffers_free, buffers_init
from headgate.engine.hashing cimport random_seed
from headgate.engine.pipes cimport pipes_free
from headgate.engine.libc_net cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, gmtime_r, time_t, timespec, tm
from headgate.engine.reactor cimport Handler
from headgate.engine.tls cimport Tls, TlsDesk, tls_begin

from headgate.errors import MEANING
from headgate.errors import Kind as KindEnum

cdef enum:
    # Handshakes in one batch of events: a few on EC keys, one on a large RSA key. Everybody else's requests wait for no more
    # than that, however many connections begin at once.
    SHAKE_BUDGET_NS = 2000000

logger = logging.getLogger("headgate.engine")

# Keeps the words alive that KIND_WORD points to.
_words = {int(kind): meaning.word.encode() for kind, meaning in MEANING.items()}

cdef void _load_kinds() except *:
    if len(MEANING) != KIND_COUNT or max(MEANING) != KIND_COUNT - 1 or KIND_COUNT > MAX_KINDS or KindEnum.DRAIN_DEADLINE != KIND_DRAIN_DEADLINE:
        raise ImportError("engine/context.pxd and headgate.errors.Kind disagree: rebuild the engine")
    for kind, meaning in MEANING.items():
        KIND_STATUS[<int>kind] = meaning.status
        KIND_RETRY[<int>kind] = meaning.retry
        KIND_VERDICT[<int>kind] = meaning.verdict
        KIND_WORD[<int>kind] = <bytes>_words[int(kind)]

_load_kinds()


cdef const char *status_text(int status) noexcept nogil:
    """Reason phrase of the statuses the balancer answers by itself."""
    if status == 200:
        return "OK"
    if status == 301:
        return "Moved Permanently"
    if status == 308:
        return "Permanent Redirect"
    if status == 400:
        return "Bad Request"
    if status == 404:
        return "Not Found"
    if status == 405:
        return "Method Not Allowed"
    if status == 408:
        return "Request Timeout"
    if status == 413:
        return "Content Too Large"
    if status == 414:
        return "URI Too Long"
    if status == 417:
        return "Expectation Failed"
    if status == 421:
        return "Misdirected Request"
    if status == 431:
        return "Request Header Fields Too Large"
    if status == 500:
        return "Internal Server Error"
    if status == 501:
        return "Not Implemented"
    if status == 502:
        return "Bad Gateway"
    if status == 503:
        return "Service Unavailable"
    if status == 504:
        return "Gateway Timeout"
    if status == 505:
        return "HTTP Version Not Supported"
    return "Error"


cdef const char **_DAYS = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
cdef const char **_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


cdef class Context(Reactor):
    def __cinit__(self, Segment segment, int worker):
        if not 0 <= worker < segment.workers:
            raise ValueError(f"worker {worker} is not in this segment of {segment.workers}")
        self.segment = segment
        self.worker = worker
        self.counters = segment.worker_counters(worker)
        self.rooms = []
        self.sample_left = <int64_t>1 << 62
        self._date_second = -1
        random_seed(self.random)
        # Slow readers hold theirs: with all of them taken, bodies are copied through a small buffer instead.
        self.pipes.limit = 128
        self.descriptor_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # The head of a Content-Length answer waits this long for its first body byte: one send for both, and a backend that
        # dies between its two writes can still be replaced by another.
        self.cork = self.queue(0.010)
        # After an answer that ends the connection the client may still be sending: what it sends is read and dropped for
        # this long, or a reset would overtake the answer (RFC 9112 section 9.6).
        self.linger = self.queue(2.0)
        # A quarter of a million small buffers at most: far above what traffic needs, far below what kills the machine.
        buffers_init(&self.buffers, <uint64_t>1 << 32)

    cdef const char *date(self) noexcept:
        cdef timespec moment
        cdef tm parts
        cdef time_t second
        clock_gettime(CLOCK_REALTIME, &moment)
        if moment.tv_sec != self._date_second:
            second = moment.tv_sec
            self._date_second = second
            gmtime_r(&second, &parts)
            snprintf(self._date, sizeof(self._date), "%s, %02d %s %04d %02d:%02d:%02d GMT", _DAYS[(second // 86400) % 7], parts.tm_mday,
                     _MONTHS[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec)
        return self._date

    cdef uint64_t wall_ns(self) noexcept:
        cdef timespec moment
        clock_gettime(CLOCK_REALTIME, &moment)
        return <uint64_t>moment.tv_sec * 1000000000 + moment.tv_nsec

    cdef void error(self, str where, object exception) noexcept:
        """Log an exception that escaped from a callback; the worker lives."""
        try:
            logger.error("%s raised %r", where, exception, exc_info=exception if isinstance(exception, BaseException) else None)
        except BaseException:
            pass

    cdef bint short_of_descriptors(self) noexcept:
        """Are so few left that another client would take them from those that are being served?

        A quarter, 1,024 at most, is kept for connections to backends; 32 are the process's own (log, control socket, libraries).
        """
        cdef int64_t used = <int64_t>self._slot_capacity - self._free_count + 2 * self.pipes.count + 32
        cdef int64_t kept = self.descriptor_limit // 4
        return self.descriptor_limit > 0 and self.descriptor_limit - used < (kept if kept < 1024 else 1024)

    cdef Tls begin_tls(self, object context, bint server, object server_name, object session):
        """TLS for a new connection. Raises what `wrap_bio` raises."""
        if self.desk is None:
            self.desk = TlsDesk()
        return tls_begin(self.desk, context, server, server_name, session)

    cdef bint may_shake(self, Handler handler, bint waited) noexcept:
        """May `handler` go on with its handshake now? Otherwise it stands in the ready queue, behind those that came before it.

        waited: it comes from there (and has counted `shakes_waiting` down).
        """
        if self.shaken_ns < SHAKE_BUDGET_NS and (waited or self.shakes_waiting == 0):
            return True
        if not handler.queued:
            self.shakes_waiting += 1
            self.make_ready(handler)
        return False

    cdef int shake(self, Tls tls, int fd) noexcept:
        cdef timespec before, after
        cdef int outcome
        clock_gettime(CLOCK_MONOTONIC, &before)
        outcome = tls.handshake(fd, &self.buffers)
        clock_gettime(CLOCK_MONOTONIC, &after)
        self.shaken_ns += (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec
        return outcome

    cdef void progress(self) noexcept:
        pass

    def __dealloc__(self):
        buffers_free(&self.buffers)
        pipes_free(&self.pipes)
