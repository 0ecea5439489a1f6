# cython: language_level=3, boundscheck=False, wraparound=False
"""The floor under every proxy: recv, send, recv, send on one epoll, and nothing else; or, for large answers, splice.

It pairs each client connection with one to a backend, in turn, and passes on what comes. It understands nothing and
checks nothing; what a real proxy costs above it is the price of doing its work.
"""
from libc.errno cimport EAGAIN, EINTR, errno
from posix.unistd cimport close

from bench.sockets cimport (
    AF_INET, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, connect, htons, inet_pton, setsockopt, sockaddr, sockaddr_in, socket, socklen_t,
)

cdef extern from "sys/epoll.h" nogil:
    cdef union epoll_data:
        int fd
    cdef struct epoll_event:
        unsigned int events
        epoll_data data
    int EPOLLIN, EPOLLOUT, EPOLL_CTL_ADD, EPOLL_CTL_MOD
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "sys/socket.h" nogil:
    int MSG_NOSIGNAL
    int accept(int fd, sockaddr *address, socklen_t *length)
    ssize_t recv(int fd, void *buffer, size_t length, int flags)
    ssize_t send(int fd, const void *buffer, size_t length, int flags)

cdef extern from "fcntl.h" nogil:
    int O_NONBLOCK, F_SETFL, F_SETPIPE_SZ, SPLICE_F_MOVE, SPLICE_F_NONBLOCK
    int fcntl(int fd, int command, ...)
    ssize_t splice(int source, void *, int target, void *, size_t length, unsigned int flags)

cdef extern from "unistd.h" nogil:
    int pipe2(int *ends, int flags)

cdef enum:
    MOST_FDS = 65536
    MOST_BACKENDS = 1024
    BATCH = 256
    PIPE_BYTES = 262144

cdef int peers[MOST_FDS]
# Of a backend's connection: its pipe, what is in it, and whether it waits for the client.
cdef int pipe_in[MOST_FDS]
cdef int pipe_out[MOST_FDS]
cdef size_t piped[MOST_FDS]
cdef sockaddr_in backends[MOST_BACKENDS]
cdef char buffer[65536]


cdef int watch(int epoll, int fd) noexcept nogil:
    cdef epoll_event event
    cdef int on = 1
    event.events = EPOLLIN
    event.data.fd = fd
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)


cdef void pair(int epoll, int client, sockaddr_in *backend) noexcept nogil:
    cdef int upstream = socket(AF_INET, SOCK_STREAM, 0)
    if client >= MOST_FDS or upstream < 0 or upstream >= MOST_FDS:
        close(client)
        close(upstream)
        return
    if connect(upstream, <const sockaddr *>backend, sizeof(sockaddr_in)) < 0:
        close(client)
        close(upstream)
        return
    peers[client] = upstream
    peers[upstream] = client
    watch(epoll, client)
    watch(epoll, upstream)


cdef void rewatch(int epoll, int fd, unsigned int events) noexcept nogil:
    cdef epoll_event event
    event.events = events
    event.data.fd = fd
    epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event)


cdef int pump(int epoll, int upstream) noexcept nogil:
    """From the backend to its client as long as both go. -1 when either is over."""
    cdef int client = peers[upstream]
    cdef ssize_t moved
    while True:
        if piped[upstream] == 0:
            moved = splice(upstream, NULL, pipe_in[upstream], NULL, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
            if moved <= 0:
                return 0 if moved < 0 and errno == EAGAIN else -1
            piped[upstream] = moved
        moved = splice(pipe_out[upstream], NULL, client, NULL, piped[upstream], SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if moved <= 0:
            if moved < 0 and errno == EAGAIN:
                rewatch(epoll, upstream, 0)
                rewatch(epoll, client, EPOLLIN | EPOLLOUT)
                return 0
            return -1
        piped[upstream] -= moved


cdef void shut(int fd) noexcept nogil:
    if pipe_in[fd]:
        close(pipe_in[fd])
        close(pipe_out[fd])
    pipe_in[fd] = pipe_out[fd] = 0
    piped[fd] = 0
    peers[fd] = 0
    close(fd)


cdef void part(int fd) noexcept nogil:
    shut(peers[fd])
    shut(fd)


def relay(int listener, list addresses, bint spliced=False):
    """Relay connections of the listening descriptor to the `addresses` ((host, port) each). Never returns.

    spliced: answers go by splice through a pipe of 256 KiB; larger gained nothing.
    """
    cdef epoll_event events[BATCH]
    cdef int epoll = epoll_create1(0)
    cdef int count, index, fd, client, turn = 0, known = len(addresses)
    cdef int ends[2]
    cdef ssize_t got
    for index in range(known):
        host, port = addresses[index]
        backends[index].sin_family = AF_INET
        backends[index].sin_port = htons(port)
        inet_pton(AF_INET, host.encode(), &backends[index].sin_addr)
    watch(epoll, listener)
    with nogil:
        while True:
            count = epoll_wait(epoll, events, BATCH, -1)
            if count < 0 and errno != EINTR:
                break
            for index in range(count):
                fd = events[index].data.fd
                if fd == listener:
                    client = accept(listener, NULL, NULL)
                    if client >= 0:
                        pair(epoll, client, &backends[turn])
                        turn = (turn + 1) % known
                        if spliced and peers[client] and pipe2(ends, O_NONBLOCK) == 0:
                            pipe_out[peers[client]], pipe_in[peers[client]] = ends[0], ends[1]
                            fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES)
                            fcntl(client, F_SETFL, O_NONBLOCK)
                            fcntl(peers[client], F_SETFL, O_NONBLOCK)
                    continue
                if peers[fd] == 0:
                    continue  # closed earlier in this batch
                if events[index].events & EPOLLOUT:
                    rewatch(epoll, fd, EPOLLIN)
                    rewatch(epoll, peers[fd], EPOLLIN)
                    if pump(epoll, peers[fd]) < 0:
                        part(fd)
                    continue
                if pipe_in[fd]:
                    if pump(epoll, fd) < 0:
                        part(fd)
                    continue
                got = recv(fd, buffer, sizeof(buffer), 0)
                if got > 0:
                    # Small answers on loopback always fit; where they do not, this is not the case to measure.
                    send(peers[fd], buffer, got, MSG_NOSIGNAL)
                    continue
                part(fd)
