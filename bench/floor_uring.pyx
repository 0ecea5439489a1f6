# cython: language_level=3, boundscheck=False, wraparound=False
"""The bare relay of floor.pyx on io_uring instead of epoll: what a reactor on io_uring could save at most.

One system call, io_uring_enter, hands over all answers to be sent and takes all that was received. Of the forms that
were tried (docs/performance.md) this is the cheapest one that is also right: a receive is armed once per connection and
takes its buffers from a ring given to the kernel; a send is done while it is submitted, or fails, so that its buffer is
free when the call returns and no completion is needed; completions are handled in this thread only, when it asks.

No liburing: three system calls, of which the numbers and structures are the kernel's own.
"""
from libc.errno cimport EINTR, ENOBUFS, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.mman cimport MAP_FAILED, MAP_POPULATE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_SHARED, PROT_READ, PROT_WRITE, mmap
from posix.unistd cimport close

from bench.sockets cimport (
    AF_INET, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, connect, htons, inet_pton, setsockopt, sockaddr, sockaddr_in, socket,
)

import os
import resource

cdef extern from "sys/socket.h" nogil:
    int MSG_DONTWAIT, MSG_NOSIGNAL, MSG_WAITALL, SHUT_RDWR
    int shutdown(int fd, int how)

cdef extern from "linux/io_uring.h" nogil:
    cdef struct io_sqring_offsets:
        uint32_t head, tail, ring_mask, array
    cdef struct io_cqring_offsets:
        uint32_t head, tail, ring_mask, cqes
    cdef struct io_uring_params:
        uint32_t cq_entries, flags
        io_sqring_offsets sq_off
        io_cqring_offsets cq_off
    cdef struct io_uring_sqe:
        uint8_t opcode, flags
        uint16_t ioprio, buf_group
        int fd
        uint64_t addr, user_data
        uint32_t len, msg_flags
    cdef struct io_uring_cqe:
        uint64_t user_data
        int res
        uint32_t flags
    cdef struct io_uring_buf:
        uint64_t addr
        uint32_t len
        uint16_t bid
    cdef struct io_uring_buf_ring:
        uint16_t tail
    cdef struct io_uring_buf_reg:
        uint64_t ring_addr
        uint32_t ring_entries
    cdef struct io_uring_rsrc_update:
        uint32_t offset
        uint64_t data
    cdef struct io_uring_rsrc_register:
        uint32_t nr, flags
    cdef struct io_uring_files_update:
        uint32_t offset
        uint64_t fds
    int IORING_SETUP_CQSIZE, IORING_SETUP_SUBMIT_ALL, IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_DEFER_TASKRUN
    int IORING_OFF_SQ_RING, IORING_OFF_SQES
    int IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_SEND
    int IORING_ACCEPT_MULTISHOT, IORING_RECV_MULTISHOT
    int IOSQE_BUFFER_SELECT, IOSQE_CQE_SKIP_SUCCESS, IOSQE_FIXED_FILE
    int IORING_CQE_F_MORE, IORING_CQE_BUFFER_SHIFT
    int IORING_ENTER_GETEVENTS, IORING_ENTER_REGISTERED_RING
    int IORING_REGISTER_RING_FDS, IORING_REGISTER_PBUF_RING, IORING_REGISTER_FILES2, IORING_REGISTER_FILES_UPDATE
    int IORING_RSRC_REGISTER_SPARSE

cdef extern from *:
    """
    #include <sys/syscall.h>
    #include <unistd.h>
    #define ring_setup(entries, params) ((int)syscall(__NR_io_uring_setup, entries, params))
    #define ring_register(fd, what, argument, count) ((int)syscall(__NR_io_uring_register, fd, what, argument, count))
    #define ring_enter(fd, submitted, awaited, flags) \\
        ((int)syscall(__NR_io_uring_enter, fd, submitted, awaited, flags, NULL, 0))
    #define acquire(word) __atomic_load_n(word, __ATOMIC_ACQUIRE)
    #define release(word, value) __atomic_store_n(word, value, __ATOMIC_RELEASE)
    """
    int ring_setup(unsigned int entries, io_uring_params *params) nogil
    int ring_register(int fd, int what, void *argument, unsigned int count) nogil
    int ring_enter(int fd, unsigned int submitted, unsigned int awaited, unsigned int flags) nogil
    uint32_t acquire(uint32_t *word) nogil
    void release(uint32_t *word, uint32_t value) nogil
    void release_short "release"(uint16_t *word, uint16_t value) nogil

cdef enum:
    MOST_FDS = 65536
    MOST_BACKENDS = 1024
    ENTRIES = 1024  # submissions per call; more make one more call
    COMPLETIONS = 4096
    BUFFERS = 1024  # a power of two
    BUFFER_BYTES = 4096
    ACCEPT = 1
    RECV = 2
    SEND = 3

cdef struct Ring:
    int fd
    int entered  # the number by which io_uring_enter knows it: registered, which saves a look-up per call
    uint32_t *taken  # by the kernel, of the submissions
    uint32_t *written
    uint32_t *order
    uint32_t mask
    io_uring_sqe *submissions
    uint32_t *seen  # by us, of the completions
    uint32_t *done
    uint32_t done_mask
    io_uring_cqe *completions
    uint32_t next
    uint32_t submitted
    io_uring_buf_ring *buffers
    char *memory
    uint16_t free  # buffers ever given to the kernel: the tail of their ring, published by `enter`

cdef Ring ring
cdef int peers[MOST_FDS]
cdef bint armed[MOST_FDS]
cdef bint parting[MOST_FDS]
cdef sockaddr_in backends[MOST_BACKENDS]


cdef int check(int result) except -1:
    if result < 0:
        raise OSError(errno, os.strerror(errno))
    return result


cdef void *mapped(size_t length, int flags, int fd, long long offset) except NULL:
    cdef void *found = mmap(NULL, length, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, fd, offset)
    if found == MAP_FAILED:
        raise OSError(errno, os.strerror(errno))
    return found


cdef int set_up() except -1:
    """OSError where the kernel forbids it or has not got it: this form needs Linux 6.1."""
    cdef io_uring_params given
    cdef io_uring_rsrc_update own
    cdef io_uring_rsrc_register files
    cdef io_uring_buf_reg buffers
    cdef char *base
    cdef uint32_t index
    memset(&given, 0, sizeof(given))
    given.flags = (
        IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
    )
    given.cq_entries = COMPLETIONS
    ring.fd = check(ring_setup(ENTRIES, &given))
    length = max(given.cq_off.cqes + given.cq_entries * sizeof(io_uring_cqe), given.sq_off.array + ENTRIES * 4)
    base = <char *>mapped(length, MAP_SHARED, ring.fd, IORING_OFF_SQ_RING)
    ring.submissions = <io_uring_sqe *>mapped(ENTRIES * sizeof(io_uring_sqe), MAP_SHARED, ring.fd, IORING_OFF_SQES)
    ring.taken = <uint32_t *>(base + given.sq_off.head)
    ring.written = <uint32_t *>(base + given.sq_off.tail)
    ring.order = <uint32_t *>(base + given.sq_off.array)
    ring.mask = (<uint32_t *>(base + given.sq_off.ring_mask))[0]
    ring.seen = <uint32_t *>(base + given.cq_off.head)
    ring.done = <uint32_t *>(base + given.cq_off.tail)
    ring.done_mask = (<uint32_t *>(base + given.cq_off.ring_mask))[0]
    ring.completions = <io_uring_cqe *>(base + given.cq_off.cqes)
    for index in range(ENTRIES):
        ring.order[index] = index
    memset(&own, 0, sizeof(own))
    own.offset, own.data = <uint32_t>-1, ring.fd
    check(ring_register(ring.fd, IORING_REGISTER_RING_FDS, &own, 1))
    ring.entered = own.offset
    # Connections are known by the number of their descriptor there, too; no descriptor is above the limit.
    memset(&files, 0, sizeof(files))
    files.nr, files.flags = min(MOST_FDS, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), IORING_RSRC_REGISTER_SPARSE
    check(ring_register(ring.fd, IORING_REGISTER_FILES2, &files, sizeof(files)))
    ring.buffers = <io_uring_buf_ring *>mapped(BUFFERS * sizeof(io_uring_buf), MAP_ANONYMOUS | MAP_PRIVATE, -1, 0)
    ring.memory = <char *>mapped(BUFFERS * BUFFER_BYTES, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0)
    memset(&buffers, 0, sizeof(buffers))
    buffers.ring_addr, buffers.ring_entries = <uint64_t>ring.buffers, BUFFERS
    check(ring_register(ring.fd, IORING_REGISTER_PBUF_RING, &buffers, 1))
    for index in range(BUFFERS):
        give_back(index)
    return 0


cdef inline void give_back(uint32_t number) noexcept nogil:
    """A buffer is the kernel's again, after the next call: a send of this batch may still read it."""
    # The tail of the ring lies in a field of its first entry that entries do not use.
    cdef io_uring_buf *entry = &(<io_uring_buf *>ring.buffers)[ring.free & (BUFFERS - 1)]
    entry.addr = <uint64_t>(ring.memory + number * BUFFER_BYTES)
    entry.len = BUFFER_BYTES
    entry.bid = <uint16_t>number
    ring.free += 1


cdef int enter(unsigned int awaited) noexcept nogil:
    cdef int taken
    release(ring.written, ring.next)
    taken = ring_enter(
        ring.entered, ring.next - ring.submitted, awaited, IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING
    )
    if taken > 0:
        ring.submitted += taken
    if ring.submitted == ring.next:
        release_short(&ring.buffers.tail, ring.free)
    return taken


cdef io_uring_sqe *submission(uint8_t opcode, uint64_t what, int fd) noexcept nogil:
    cdef io_uring_sqe *found
    while ring.next - acquire(ring.taken) >= ENTRIES:
        enter(0)
    found = &ring.submissions[ring.next & ring.mask]
    ring.next += 1
    memset(found, 0, sizeof(io_uring_sqe))
    found.opcode = opcode
    found.fd = fd
    found.user_data = what << 32 | <uint32_t>fd
    return found


cdef void await_clients(int listener) noexcept nogil:
    submission(IORING_OP_ACCEPT, ACCEPT, listener).ioprio = IORING_ACCEPT_MULTISHOT


cdef void receive(int fd) noexcept nogil:
    """From now on: one completion for each piece that comes, each in a buffer of the kernel's choice."""
    cdef io_uring_sqe *one = submission(IORING_OP_RECV, RECV, fd)
    one.flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT
    one.ioprio = IORING_RECV_MULTISHOT
    armed[fd] = True


cdef void pass_on(int fd, uint32_t buffer, uint32_t length) noexcept nogil:
    cdef io_uring_sqe *one = submission(IORING_OP_SEND, SEND, fd)
    one.flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS
    one.addr = <uint64_t>(ring.memory + buffer * BUFFER_BYTES)
    one.len = length
    # All of it at once or a failure, which has a completion. Small answers always fit, as in floor.pyx.
    one.msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL


cdef int enlist(int fd, int entry) noexcept nogil:
    """`entry`: the descriptor itself, or -1 when it goes."""
    cdef io_uring_files_update update
    memset(&update, 0, sizeof(update))
    update.offset = fd
    update.fds = <uint64_t>&entry
    return ring_register(ring.fd, IORING_REGISTER_FILES_UPDATE, &update, 1)


cdef void pair(int client, sockaddr_in *backend) noexcept nogil:
    cdef int upstream = socket(AF_INET, SOCK_STREAM, 0)
    if (
        client >= MOST_FDS
        or upstream < 0
        or upstream >= MOST_FDS
        or connect(upstream, <const sockaddr *>backend, sizeof(sockaddr_in)) < 0
        or enlist(client, client) < 0
        or enlist(upstream, upstream) < 0
    ):
        close(client)
        close(upstream)
        return
    begin(client, upstream)
    begin(upstream, client)


cdef void begin(int fd, int peer) noexcept nogil:
    cdef int on = 1
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    peers[fd] = peer
    parting[fd] = False
    receive(fd)


cdef void shut(int fd) noexcept nogil:
    peers[fd] = 0
    enlist(fd, -1)
    close(fd)


cdef void part(int fd) noexcept nogil:
    """Both ends; their descriptors are closed when the kernel is done with both, so that no number is reused early."""
    cdef int peer = peers[fd]
    if not parting[fd]:
        parting[fd] = parting[peer] = True
        shutdown(fd, SHUT_RDWR)
        shutdown(peer, SHUT_RDWR)
    if not armed[fd] and not armed[peer]:
        shut(fd)
        shut(peer)


cdef void received(int fd, io_uring_cqe *done) noexcept nogil:
    cdef uint32_t buffer = done.flags >> IORING_CQE_BUFFER_SHIFT
    if not done.flags & IORING_CQE_F_MORE:
        armed[fd] = False
    if done.res > 0:
        if not parting[fd]:
            pass_on(peers[fd], buffer, done.res)
        give_back(buffer)
    if (done.res <= 0 and done.res != -ENOBUFS) or parting[fd]:
        part(fd)
    elif not armed[fd]:
        receive(fd)


def refusal() -> str:
    """Why this machine cannot run it; "" when it can."""
    try:
        set_up()
    except OSError as error:
        return error.strerror
    finally:
        if ring.fd > 0:
            close(ring.fd)
    return ""


def relay(int listener, list addresses):
    """As in floor.pyx; OSError when io_uring is not to be had."""
    cdef int index, fd, turn = 0, known = len(addresses)
    cdef uint32_t head, tail
    cdef uint64_t what
    cdef io_uring_cqe *done
    for index in range(known):
        host, port = addresses[index]
        backends[index].sin_family = AF_INET
        backends[index].sin_port = htons(port)
        inet_pton(AF_INET, host.encode(), &backends[index].sin_addr)
    set_up()
    with nogil:
        release_short(&ring.buffers.tail, ring.free)
        await_clients(listener)
        while True:
            if enter(1) < 0 and errno != EINTR:
                break
            head, tail = ring.seen[0], acquire(ring.done)
            while head != tail:
                done = &ring.completions[head & ring.done_mask]
                head += 1
                what, fd = done.user_data >> 32, <int><uint32_t>done.user_data
                if what == ACCEPT:
                    if done.res >= 0:
                        pair(done.res, &backends[turn])
                        turn = (turn + 1) % known
                    if not done.flags & IORING_CQE_F_MORE:
                        await_clients(listener)
                elif what == RECV:
                    received(fd, done)
                elif peers[fd]:
                    part(fd)  # of sends only failures are told
            release(ring.seen, head)
    check(-1)
