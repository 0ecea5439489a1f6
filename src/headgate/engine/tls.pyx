"""TLS by the standard library's `ssl`, in the engine's terms.

Every connection has an `SSLObject`. It reads ciphertext from a memory BIO and writes it to another; sockets stay the engine's. All connections
of an engine share one pair of BIOs (`TlsDesk`), since a BIO keeps the largest size it ever had, and ten thousand idle connections would keep
it ten thousand times. That is sound because no byte stays in a BIO between two calls:

- only whole records are put in, and no more than the call to come can take, so nothing is left over (a record that is
  not complete waits in `raw`, and what a call did leave is taken out again);
- whatever a call put out is taken out before the next one.

What that saves besides: with a socket of its own OpenSSL reads each record by two system calls, its head and its body;
here one recv() brings many. And nothing blocks half way: a write always succeeds, ciphertext that the kernel does not take waits in `unsent`, and so
there is never a call that would have to be repeated with the same bytes.

bench/tls_transport.py compares this with an `SSLSocket` for each connection.
"""
import ssl

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from headgate.engine.buffers cimport LARGE_BUFFER, SMALL_BUFFER, Buffer, BufferPool, buffer_acquire, buffer_release
from headgate.engine.libc_net cimport EAGAIN, EINTR, MSG_NOSIGNAL, errno, iovec, recv, send

cdef enum:
    RECORD_HEAD = 5
    HANDSHAKE = 22
    # The most a record may hold, with what the oldest suites add (RFC 5246 section 6.2.3). What claims more is for OpenSSL to refuse.
    LONGEST_RECORD = 18432
    # Parts of a message are brought together in here: one record instead of several. A body of a large buffer fits.
    STAGE = 65536 + 1024

cdef object _WANT_READ = ssl.SSLWantReadError
cdef object _ZERO_RETURN = ssl.SSLZeroReturnError
cdef object _CERTIFICATE = ssl.SSLCertVerificationError


cdef class Window:
    """A stretch of C memory, as the buffer argument of a Python call; valid during that call only."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.at, self.size, 0, flags)


cdef class TlsDesk:
    """What all TLS connections of one engine share. They use it one after the other, so it belongs to one thread."""

    def __cinit__(self):
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.window = Window()
        self.stage = <char *>malloc(STAGE)
        if self.stage == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.stage)

    cdef void clear(self) noexcept:
        """Nothing may stay behind for the next one to take for its own."""
        try:
            if self.incoming.pending:
                self.incoming.read()
            if self.outgoing.pending:
                self.outgoing.read()
            self.dirty = False
        except BaseException:
            self.dirty = True           # no memory: again before the next use


cdef inline size_t _record(const char *data, size_t size) noexcept:
    """Bytes of the whole record that `data` begins with; 0 when it is not complete. One too long to be true counts as complete."""
    cdef size_t length
    if size < RECORD_HEAD:
        return 0
    length = (<size_t><uint8_t>data[3] << 8) | <uint8_t>data[4]
    if length > LONGEST_RECORD:
        return size
    return RECORD_HEAD + length if RECORD_HEAD + length <= size else 0


cdef inline size_t _length(const char *data, size_t size) noexcept:
    """How long the record that `data` begins with is going to be, as far as that is known."""
    return size if size < RECORD_HEAD else RECORD_HEAD + ((<size_t><uint8_t>data[3] << 8) | <uint8_t>data[4])


cdef Tls tls_begin(TlsDesk desk, object context, bint server, object server_name, object session):
    """TLS for a new connection. Raises ssl.SSLError, ValueError (a name that cannot be one), MemoryError."""
    cdef Tls tls = Tls.__new__(Tls)
    tls.desk = desk
    tls.server = server
    tls.session_object = context.wrap_bio(desk.incoming, desk.outgoing, server_side=server, server_hostname=server_name, session=session)
    # Its methods are thin wrappers in Python of what it is built on; where that has another name one day, they do.
    tls.core = getattr(tls.session_object, "_sslobj", tls.session_object)
    return tls


cdef class Tls:
    """One side of one connection's TLS. It has no descriptor and no timer: the connection lends the one and keeps the other."""

    # -- the handshake ------------------------------------------------------------------------------------------

    cdef int handshake(self, int fd, BufferPool *buffers) noexcept:
        """Go on with it as far as it goes: TLS_DONE, TLS_WAIT, or why it ended."""
        cdef int got, outcome
        while True:
            if self.greeted or self.server:
                if not self._feed(True):
                    got = self._fill(fd, buffers, SMALL_BUFFER)
                    if got <= 0:
                        return TLS_WAIT if got == -1 else TLS_NO_BUFFER if got == -3 else TLS_GONE
                    if not self.greeted:
                        # Records begin with their type; the hello of SSL 2, which OpenSSL refuses by itself, with a set bit.
                        if self.raw.data[0] != HANDSHAKE and not self.raw.data[0] & 0x80:
                            return TLS_PLAIN
                        self.greeted = True
                    continue
            elif self.desk.dirty:
                self.desk.clear()
            self.greeted = True
            outcome = TLS_WAIT
            try:
                self.core.do_handshake()
                outcome = TLS_DONE
                # What came behind the peer's last word is for receive() to feed again.
                got = self.desk.incoming.pending
                if got:
                    self.desk.incoming.read()
                    self.raw_pos -= <uint32_t>got
            except _WANT_READ:
                pass
            except BaseException as error:
                self._failed(error)
                outcome = TLS_FAILED
            self._release(buffers)
            got = self._send_outgoing(fd)
            if outcome == TLS_FAILED:
                self.desk.clear()
            elif got < 0:
                return TLS_GONE
            if outcome == TLS_DONE:
                self.established = True
                self.keep_session = not self.server
            if outcome != TLS_WAIT:
                return outcome

    cdef void _failed(self, object error) noexcept:
        """OpenSSL gave up; what it has to say stays in `reason`."""
        cdef str text
        self.broken = True
        try:
            self.verify_failed = isinstance(error, _CERTIFICATE)
            if self.verify_failed:
                text = error.verify_message
            else:
                text = getattr(error, "reason", None) or str(error)
                self.by_alert = "_ALERT_" in text
                text = text.replace("_", " ").lower()
            # It stands in JSON and in a log line.
            self.reason = text.encode("ascii", "replace").replace(b'"', b"'").replace(b"\\", b"/")[:200]
        except BaseException:
            self.reason = b"out of memory"

    # -- ciphertext ---------------------------------------------------------------------------------------------

    cdef int _fill(self, int fd, BufferPool *buffers, size_t want) noexcept:
        """Read once from the socket into `raw`. > 0; 0 = FIN; -1 = nothing now; -2 = broken; -3 = no buffer."""
        cdef Buffer *grown
        cdef ssize_t got
        cdef size_t room, held = self.raw_end - self.raw_pos
        if self.drained:
            return -1
        if self.raw == NULL:
            self.raw = buffer_acquire(buffers, want)
            if self.raw == NULL:
                return -3
        elif held and self.raw.capacity < LARGE_BUFFER and _length(self.raw.data + self.raw_pos, held) > self.raw.capacity:
            grown = buffer_acquire(buffers, LARGE_BUFFER)
            if grown == NULL:
                return -3
            memcpy(grown.data, self.raw.data + self.raw_pos, held)
            buffer_release(buffers, self.raw)
            self.raw = grown
        elif held and self.raw_pos:
            memmove(self.raw.data, self.raw.data + self.raw_pos, held)
        self.raw_pos = 0
        self.raw_end = <uint32_t>held
        room = self.raw.capacity - held
        while True:
            got = recv(fd, self.raw.data + held, room, 0)
            if got > 0:
                self.raw_end += <uint32_t>got
                self.drained = <size_t>got < room and not self.ended
                return <int>got
            if got == 0:
                return 0
            if errno == EAGAIN:
                self.drained = True
                return -1
            if errno != EINTR:
                return -2

    cdef bint _feed(self, bint all) noexcept:
        """Whole records into the BIO: the next one, or all there are. False: there is none."""
        cdef size_t size = 0, one
        cdef TlsDesk desk = self.desk
        if self.raw == NULL:
            return False
        while True:
            one = _record(self.raw.data + self.raw_pos + size, self.raw_end - self.raw_pos - size)
            size += one
            if one == 0 or not all:
                break
        if size == 0:
            return False
        if desk.dirty:
            desk.clear()
        desk.window.at = self.raw.data + self.raw_pos
        desk.window.size = <Py_ssize_t>size
        try:
            desk.incoming.write(desk.window)
        except BaseException as error:
            self._failed(error)
            desk.clear()
        self.raw_pos += <uint32_t>size
        return True

    cdef void _release(self, BufferPool *buffers) noexcept:
        """A buffer that is empty goes back."""
        if self.raw != NULL and self.raw_pos == self.raw_end:
            buffer_release(buffers, self.raw)
            self.raw = NULL
            self.raw_pos = self.raw_end = 0

    cdef int _send_outgoing(self, int fd) noexcept:
        """What OpenSSL has put out to the socket. 1 = the kernel took all, 0 = it is full, -1 = broken."""
        cdef bytes data
        cdef TlsDesk desk = self.desk
        try:
            if not desk.outgoing.pending:
                return 1 if self.unsent is None else self.push(fd)
            data = <bytes>desk.outgoing.read()
            if self.unsent is not None:
                # Alerts and the like behind data that waits already; data itself is not taken while anything waits.
                data = self.unsent[self.unsent_pos:] + data
        except BaseException:
            desk.dirty = True
            self.closed = True
            return -1
        self.unsent = data
        self.unsent_pos = 0
        return self.push(fd)

    cdef int push(self, int fd) noexcept:
        cdef ssize_t sent
        cdef Py_ssize_t size
        if self.unsent is None:
            return 1
        size = len(self.unsent)
        while True:
            sent = send(fd, <const char *>self.unsent + self.unsent_pos, size - self.unsent_pos, MSG_NOSIGNAL)
            if sent >= 0:
                self.unsent_pos += sent
                if self.unsent_pos == size:
                    self.unsent = None
                    return 1
                return 0
            if errno == EAGAIN:
                return 0
            if errno != EINTR:
                # Nothing goes out any more; what the peer said before can still be read.
                self.closed = True
                self.unsent = None
                return -1

    # -- plain bytes --------------------------------------------------------------------------------------------

    cdef bint more(self) noexcept:
        return (not self.drained or self.holding or self.over or self.broken
                or (self.raw != NULL and _record(self.raw.data + self.raw_pos, self.raw_end - self.raw_pos) != 0))

    cdef int64_t receive(self, int fd, BufferPool *buffers, char *into, size_t space) noexcept:
        """Plain bytes of as many records as have arrived and fit."""
        cdef int64_t total = 0
        cdef int got
        if self.over or self.broken:
            return 0 if self.over else -2
        while True:
            if not self.holding and not self._feed(False):
                if total:
                    break
                got = self._fill(fd, buffers, space)
                if got > 0:
                    continue
                self._release(buffers)
                # FIN without close_notify: whatever ends with the connection was cut off.
                return -2 if got == 0 else got
            got = self._read(into + total, space - total)
            if self.close_later and not self.holding:
                self.close_later = False
                self.notify_close(fd)
            if got > 0:
                total += got
                if self.holding or space - total < SMALL_BUFFER // 2:
                    break
            elif got == -1:
                # A ticket, a new key: nothing for us, and perhaps something to be answered.
                self._send_outgoing(fd)
            if got == 0 or got == -2:
                self._send_outgoing(fd)
                self.desk.clear()
                if total:
                    self.over = got == 0
                    self.broken = got != 0      # told by the next call
                    break
                self._release(buffers)
                return got
        self._release(buffers)
        return total

    cdef int _read(self, char *into, size_t space) noexcept:
        """Plain bytes of one record. > 0; 0 = close_notify; -1 = it held none; -2 = broken."""
        cdef int got
        cdef Window window = self.desk.window
        if self.broken:
            return -2
        window.at = into
        window.size = <Py_ssize_t>space
        self.holding = False
        try:
            got = self.core.read(space, window)
            # One call gives what is left of one record, or fills `into`.
            self.holding = <size_t>got == space
        except _WANT_READ:
            got = -1
        except _ZERO_RETURN:
            got = 0
        except BaseException as error:
            self._failed(error)
            got = -2
        return got

    cdef int64_t write(self, int fd, iovec *parts, int count, uint64_t *counted) noexcept:
        """See tls.pxd. What goes out together is one record, or as few as can be."""
        cdef TlsDesk desk = self.desk
        cdef int i = 0, sent
        cdef size_t offset = 0, part, filled
        cdef int64_t total = 0
        sent = self.push(fd)
        if sent <= 0:
            return sent
        if desk.dirty:
            desk.clear()
        while i < count:
            filled = 0
            if i == count - 1:
                desk.window.at = <char *>parts[i].iov_base + offset
                filled = min(parts[i].iov_len - offset, <size_t>STAGE)
                offset += filled
                if offset == parts[i].iov_len:
                    i += 1
            else:
                while i < count and filled < STAGE:
                    part = min(parts[i].iov_len - offset, STAGE - filled)
                    memcpy(desk.stage + filled, <char *>parts[i].iov_base + offset, part)
                    filled += part
                    offset += part
                    if offset == parts[i].iov_len:
                        i += 1
                        offset = 0
                desk.window.at = desk.stage
            if filled == 0:
                continue
            desk.window.size = <Py_ssize_t>filled
            try:
                self.core.write(desk.window)
            except BaseException as error:
                self._failed(error)
                desk.clear()
                return -1
            sent = self._send_outgoing(fd)
            if sent < 0:
                return -1
            counted[0] += filled
            total += filled
            if sent == 0:
                break
        return total

    # -- the end ------------------------------------------------------------------------------------------------

    cdef bint notify_close(self, int fd) noexcept:
        if self.closed or self.broken or not self.established:
            return True
        if self.holding:
            # OpenSSL would drop what it holds, since it looks for the peer's close_notify as well.
            self.close_later = True
            return False
        self.closed = True
        try:
            self.core.shutdown()
        except BaseException:
            pass                # there is no close_notify of the peer's yet
        self._send_outgoing(fd)
        return self.unsent is None

    cdef void drop(self, BufferPool *buffers) noexcept:
        if self.raw != NULL:
            buffer_release(buffers, self.raw)
            self.raw = NULL
        self.raw_pos = self.raw_end = 0
        self.broken = True
        self.unsent = None
        self.core = self.session_object = self.identity = None
