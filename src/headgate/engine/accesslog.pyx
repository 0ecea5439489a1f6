"""The access log's buffers and the thread that empties them.

The engine formats lines into one of two buffers and hands a full one (or what there is, 20 times a second) to a thread
of its own. Nothing the disk or the reader of a pipe does can hold up a request: while the thread is stuck with one
buffer the engine fills the other, and when that is full as well, lines are dropped and counted.

    engine                                  thread
    write(): format into `active`           sleeps in poll() on the eventfd `wake`
    flush(): pending = active, swap, wake   writes `pending` out, then pending = NONE

The two share a few atomic words and no lock, so the engine cannot even wait for the thread to leave a critical section.
The thread never touches Python: it needs no GIL and outlives nothing it uses. All signals are blocked in it, which also
turns a broken pipe from a fatal SIGPIPE into an error code.
"""
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from headgate.engine.hashing cimport hash64_bytes
from headgate.engine.logplan cimport LogPlan
from headgate.engine.logline cimport ClockText, LogEntry, line_bound, line_fields, line_need, line_write

import fcntl
import os

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    int pthread_create(pthread_t *thread, const void *attributes, void *(*start)(void *) noexcept nogil, void *argument)
    int pthread_join(pthread_t thread, void **result)
    int pthread_detach(pthread_t thread)

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK
    int sigfillset(sigset_t *signals)
    int pthread_sigmask(int how, const sigset_t *signals, sigset_t *old)

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    short POLLIN
    short POLLOUT
    int poll(pollfd *descriptors, unsigned long count, int timeout_ms)

cdef extern from "<sys/eventfd.h>" nogil:
    int EFD_CLOEXEC
    int EFD_NONBLOCK
    int eventfd(unsigned int value, int flags)
    int eventfd_write(int fd, uint64_t value)
    int eventfd_read(int fd, uint64_t *value)

cdef extern from "<unistd.h>" nogil:
    ssize_t write_descriptor "write"(int fd, const void *data, size_t size)
    int close_descriptor "close"(int fd)

cdef extern from *:
    """
    #include <sys/prctl.h>
    #include <sys/socket.h>
    #include <sys/stat.h>
    static inline int hg_is_file(int fd) { struct stat s; return fstat(fd, &s) == 0 && S_ISREG(s.st_mode); }
    static inline int hg_is_socket(int fd) { struct stat s; return fstat(fd, &s) == 0 && S_ISSOCK(s.st_mode); }
    static inline ssize_t hg_send(int fd, const void *p, size_t n) { return send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL); }
    static inline void hg_name_thread(void) { prctl(PR_SET_NAME, "headgate-log", 0, 0, 0); }
    #define hg_get(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define hg_set(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define hg_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
    #define hg_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
    """
    bint is_file "hg_is_file"(int fd) noexcept nogil
    bint is_socket "hg_is_socket"(int fd) noexcept nogil
    ssize_t send_now "hg_send"(int fd, const void *data, size_t size) noexcept nogil
    void name_thread "hg_name_thread"() noexcept nogil
    int get "hg_get"(int *word) noexcept nogil
    void set_to "hg_set"(int *word, int value) noexcept nogil
    int exchange "hg_exchange"(int *word, int value) noexcept nogil
    uint64_t look_at "hg_get"(uint64_t *word) noexcept nogil
    uint64_t take "hg_exchange"(uint64_t *word, uint64_t value) noexcept nogil
    void add "hg_add"(uint64_t *word, uint64_t amount) noexcept nogil

cdef enum:
    NONE = -1
    RUNNING = 0
    FINISH = 1                  # write what there is, then end
    GIVE_UP = 2                 # end now
    CHUNK = 4096                # PIPE_BUF: what is written to a pipe whole, and without blocking once poll() agrees
    LEAST_BUFFER = 4096

cdef struct LogState:
    # the engine's
    int active                  # buffer being filled
    size_t capacity
    size_t hand_over            # this much is handed over without waiting for flush()
    bint json
    ClockText clock
    # shared, atomic
    int pending                 # buffer handed to the thread, or NONE
    int stop
    int next_fd                 # reopen() left it here, or NONE
    int last_error              # errno of the last failed write, 0 after one that went well
    uint64_t lost               # lines the thread had to drop and the engine has not counted yet
    # whoever holds the buffer
    (char *)[2] buffer
    size_t[2] length
    # the thread's
    int fd
    bint file
    bint socket
    bint torn                   # the last line was cut off in the middle
    # constant
    int wake
    int done
    pthread_t thread


cdef uint64_t count_lines(const char *data, size_t size) noexcept nogil:
    cdef uint64_t count = 0
    cdef size_t index
    for index in range(size):
        count += data[index] == b"\n"
    return count


cdef size_t line_start(const char *data, size_t position) noexcept nogil:
    while position > 0 and data[position - 1] != b"\n":
        position -= 1
    return position


cdef size_t whole_lines(const char *data, size_t size) noexcept nogil:
    """How much to write to a pipe in one go: whole lines within CHUNK, so that several workers' lines stay apart."""
    cdef size_t end
    if size <= CHUNK:
        return size
    end = line_start(data, CHUNK)
    return end if end > 0 else CHUNK


cdef void look_at_descriptor(LogState *s) noexcept nogil:
    s.file = is_file(s.fd)
    s.socket = is_socket(s.fd)


cdef bint switch_descriptor(LogState *s) noexcept nogil:
    """Takes over what reopen() left; True when there was something."""
    cdef int fd = exchange(&s.next_fd, NONE)
    if fd == NONE:
        return False
    close_descriptor(s.fd)
    s.fd = fd
    s.torn = False
    look_at_descriptor(s)
    return True


cdef void wait_writable(LogState *s) noexcept nogil:
    """Until the descriptor takes something or somebody wakes the thread, whichever is first."""
    cdef pollfd[2] wanted
    cdef uint64_t ignored
    wanted[0].fd = s.fd
    wanted[0].events = POLLOUT
    wanted[1].fd = s.wake
    wanted[1].events = POLLIN
    if poll(wanted, 2, -1) > 0 and wanted[1].revents:
        eventfd_read(s.wake, &ignored)


cdef bint writable(LogState *s) noexcept nogil:
    cdef pollfd wanted
    wanted.fd = s.fd
    wanted.events = POLLOUT
    return poll(&wanted, 1, 0) == 1


cdef ssize_t write_some(LogState *s, const char *data, size_t size) noexcept nogil:
    """write(2) that does not block for a reader; -1 with errno EAGAIN when it would."""
    if s.file:
        return write_descriptor(s.fd, data, size)
    if s.socket:
        return send_now(s.fd, data, size)
    # The descriptor may be shared with the shell that started us, so it is not made non-blocking. A blocking pipe takes
    # up to PIPE_BUF bytes at once when poll() says so.
    if not writable(s):
        (&errno)[0] = EAGAIN
        return -1
    return write_descriptor(s.fd, data, size)


cdef void write_out(LogState *s, const char *data, size_t size) noexcept nogil:
    cdef size_t position = 0
    cdef ssize_t count
    cdef int error
    while position < size:
        if switch_descriptor(s):
            position = line_start(data, position)       # a line is not split over two files
        if get(&s.stop) == GIVE_UP:
            add(&s.lost, count_lines(data + position, size - position))
            return
        if s.torn:
            count = write_some(s, b"\n", 1)             # the cut-off line ends here
            if count == 1:
                s.torn = False
                continue
        else:
            count = write_some(s, data + position,
                               size - position if s.file else whole_lines(data + position, size - position))
        if count > 0:
            position += count
            set_to(&s.last_error, 0)
            continue
        error = errno if count < 0 else EIO
        if error == EINTR:
            continue
        if error == EAGAIN:
            wait_writable(s)
            continue
        # Disk full, broken pipe...: these lines are lost, the next ones are tried again.
        set_to(&s.last_error, error)
        add(&s.lost, count_lines(data + position, size - position))
        s.torn = s.torn or (position > 0 and data[position - 1] != b"\n")
        return


cdef void *writer_main(void *argument) noexcept nogil:
    cdef LogState *s = <LogState *>argument
    cdef pollfd wanted
    cdef uint64_t ignored
    cdef int pending, stop
    name_thread()
    while True:
        stop = get(&s.stop)         # before `pending`: what was handed over before the stop is seen
        pending = get(&s.pending)
        if pending != NONE:
            write_out(s, s.buffer[pending], s.length[pending])
            set_to(&s.pending, NONE)
        elif stop != RUNNING:
            write_out(s, s.buffer[s.active], s.length[s.active])
            eventfd_write(s.done, 1)
            return NULL
        elif not switch_descriptor(s):
            wanted.fd = s.wake
            wanted.events = POLLIN
            if poll(&wanted, 1, -1) > 0:
                eventfd_read(s.wake, &ignored)


cdef bint wait_done(LogState *s, int timeout_ms) noexcept nogil:
    cdef pollfd wanted
    wanted.fd = s.done
    wanted.events = POLLIN
    return poll(&wanted, 1, timeout_ms) == 1


cdef void free_state(LogState *s) noexcept nogil:
    if s.fd != NONE:
        close_descriptor(s.fd)
    if s.next_fd != NONE:
        close_descriptor(s.next_fd)
    if s.wake != NONE:
        close_descriptor(s.wake)
    if s.done != NONE:
        close_descriptor(s.done)
    free(s.buffer[0])
    free(s.buffer[1])
    free(s)


cdef int start_thread(LogState *s) noexcept nogil:
    """0, or an errno."""
    cdef sigset_t every, before
    cdef int error
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    error = pthread_create(&s.thread, NULL, &writer_main, s)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    return error


cdef uint64_t end_thread(LogState *s, double timeout_s) noexcept nogil:
    """Lets the thread finish, frees everything, returns how many lines it lost."""
    cdef uint64_t lost
    set_to(&s.stop, FINISH)
    eventfd_write(s.wake, 1)
    if not wait_done(s, <int>(timeout_s * 1000)):
        set_to(&s.stop, GIVE_UP)
        eventfd_write(s.wake, 1)
        if not wait_done(s, 100):
            # It sits in a write(2) that does not return (a dead network file system). It keeps its memory, which is
            # the lesser evil: freeing it under the thread is no option, and the process is about to end.
            lost = take(&s.lost, 0) + count_lines(s.buffer[s.active], s.length[s.active])
            if get(&s.pending) != NONE:
                lost += count_lines(s.buffer[1 - s.active], s.length[1 - s.active])
            pthread_detach(s.thread)
            return lost
    pthread_join(s.thread, NULL)
    lost = take(&s.lost, 0)
    free_state(s)
    return lost


cdef int open_log(str path) except -1:
    # O_APPEND: several workers write the same file. O_NONBLOCK: a FIFO that nobody reads is an error, not a wait; for
    # a file it means nothing. 0640: the lines hold addresses and paths, not everybody's business.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)


cdef class AccessLog:
    """An access log in `format` "text" or "json" (see logline.pyx), "common" or "combined" (see logplan.pyx), written to
    the file `path` or, for "-", to stdout.

    fields: names of logplan.FIELDS and "header:NAME", for another choice in text and JSON. sample: the share (above 0, at
    most 1) of requests that went well which get a line; by the hash of the request's id, so that all workers, and all
    balancers a request passes, agree.

    fd: a descriptor to write to instead (it is duplicated, the caller keeps its own); `path` is then what reopen()
    opens. buffer_bytes: size of each of the two buffers, at least 4096. 256 KiB hold some 1,200 lines; a worker that
    answers 20,000 requests a second fills one in 60 ms, so a disk may pause as long before a line is lost.

    ValueError for another format or size, OSError when the file cannot be opened. A line that is longer than a
    buffer is dropped: with the default sizes no head that the parser accepts makes one.
    """

    def __cinit__(self, str format not None, str path not None, *, fields=(), double sample=1.0, fd=None,
                  Py_ssize_t buffer_bytes=256 * 1024):
        cdef LogState *s
        cdef int error, index
        self._dropped = &self._own_dropped
        if fields or format not in ("text", "json"):
            self.plan = LogPlan(format, fields)
        if not 0 < sample <= 1:
            raise ValueError(f"a sample is a share above 0 and at most 1, not {sample}")
        self.samples = sample < 1
        self.keep_below = <uint64_t>(sample * 18446744073709549568.0) if sample < 1 else <uint64_t>-1
        if buffer_bytes < LEAST_BUFFER:
            raise ValueError(f"an access log needs buffers of at least {LEAST_BUFFER} bytes, not {buffer_bytes}")
        self.format = format
        self.path = path
        s = <LogState *>calloc(1, sizeof(LogState))
        if s == NULL:
            raise MemoryError
        s.fd = s.next_fd = s.pending = s.wake = s.done = NONE
        s.json = format == "json"
        s.capacity = buffer_bytes
        s.hand_over = buffer_bytes // 2
        try:
            if fd is None and path != "-":
                s.fd = open_log(path)
            else:
                # A duplicate: nobody can close it, or put another file in its place, under the thread.
                s.fd = fcntl.fcntl(1 if fd is None else fd, fcntl.F_DUPFD_CLOEXEC, 3)
            look_at_descriptor(s)
            for index in range(2):
                s.buffer[index] = <char *>malloc(buffer_bytes)
                if s.buffer[index] == NULL:
                    raise MemoryError
            s.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
            s.done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
            if s.wake < 0 or s.done < 0:
                raise OSError(errno, f"eventfd: {os.strerror(errno)}")
            error = start_thread(s)
            if error:
                raise OSError(error, f"cannot start the access log's thread: {os.strerror(error)}")
        except BaseException:
            free_state(s)
            raise
        self._state = s

    def __dealloc__(self):
        cdef LogState *s = <LogState *>self._state
        if s != NULL:
            self._state = NULL
            end_thread(s, 1.0)

    cdef void count_drops_in(self, uint64_t *word) noexcept:
        word[0] += self._dropped[0]
        self._dropped[0] = 0
        self._dropped = word

    cdef void write(self, const LogEntry *entry) noexcept:
        cdef LogState *s = <LogState *>self._state
        cdef size_t used
        if s == NULL:
            self._dropped[0] += 1
            return
        used = s.length[s.active]
        if self.plan is not None:
            self._write_planned(s, entry)
            return
        if line_bound(entry) > s.capacity - used and line_need(entry, s.json) > s.capacity - used:
            self.flush()
            used = s.length[s.active]
            if line_need(entry, s.json) > s.capacity - used:
                self._dropped[0] += 1
                return
        used += line_write(s.buffer[s.active] + used, entry, s.json, &s.clock)
        s.length[s.active] = used
        if used >= s.hand_over:
            self.flush()

    cdef void _write_planned(self, void *state, const LogEntry *entry) noexcept:
        cdef LogState *s = <LogState *>state
        cdef size_t need = self.plan.need(entry)
        if need > s.capacity - s.length[s.active]:
            self.flush()
            if need > s.capacity - s.length[s.active]:
                self._dropped[0] += 1
                return
        s.length[s.active] += self.plan.write(s.buffer[s.active] + s.length[s.active], entry)
        if s.length[s.active] >= s.hand_over:
            self.flush()

    cdef bint chosen(self, const char *id, size_t size) noexcept:
        return hash64_bytes(id, size, 0) < self.keep_below

    def keeps(self, bytes request_id not None) -> bool:
        """Does a request with this id that went well get a line?"""
        return not self.samples or self.chosen(request_id, len(request_id))

    cdef void flush(self) noexcept:
        cdef LogState *s = <LogState *>self._state
        if s == NULL:
            return
        # Counted here and not in the thread: the word has one writer, and may be gone before a stuck thread is.
        if look_at(&s.lost):
            self._dropped[0] += take(&s.lost, 0)
        if s.length[s.active] == 0 or get(&s.pending) != NONE:
            return
        set_to(&s.pending, s.active)
        s.active = 1 - s.active
        s.length[s.active] = 0
        eventfd_write(s.wake, 1)

    cdef bint waiting(self) noexcept:
        cdef LogState *s = <LogState *>self._state
        return s != NULL and s.length[s.active] > 0

    def write_fields(self, **fields):
        """Logs one line from Python; the fields are those of LogEntry in logline.pxd."""
        cdef LogEntry entry
        line_fields(&entry, fields, None if self.plan is None else self.plan.header_names)
        self.write(&entry)

    def hand_over(self):
        """Hands what is buffered to the thread, as the engine does 20 times a second; nothing while it is busy."""
        self.flush()

    @property
    def dropped(self):
        """Lines lost so far: no room while the thread was stuck, disk full, reader gone."""
        cdef LogState *s = <LogState *>self._state
        if s != NULL and look_at(&s.lost):
            self._dropped[0] += take(&s.lost, 0)
        return self._dropped[0]

    @property
    def last_error(self):
        """The errno of the last failed write; 0 after one that went well."""
        cdef LogState *s = <LogState *>self._state
        return get(&s.last_error) if s != NULL else 0

    def reopen(self):
        """Opens `path` anew (its file was renamed) and writes there from the next line on.

        OSError when it cannot be opened: then the old file stays in use. Nothing for "-". ValueError when closed.
        """
        cdef LogState *s = <LogState *>self._state
        cdef int old
        if s == NULL:
            raise ValueError("the access log is closed")
        if self.path == "-":
            return
        old = exchange(&s.next_fd, open_log(self.path))
        if old != NONE:
            close_descriptor(old)
        eventfd_write(s.wake, 1)

    def close(self, double timeout_s=1.0):
        """Writes what is buffered and ends the thread, within about `timeout_s`; what is left then is dropped."""
        cdef LogState *s = <LogState *>self._state
        cdef uint64_t lost
        if s == NULL:
            return
        self._state = NULL
        with nogil:
            lost = end_thread(s, timeout_s)
        # The word may go with the shared segment; from now on this object counts for itself.
        self._dropped[0] += lost
        self._own_dropped = self._dropped[0]
        self._dropped = &self._own_dropped

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
