"""The system calls the engine makes, as C declares them."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "errno.h" nogil:
    int errno
    int EAGAIN, EINTR, EINPROGRESS, ECONNREFUSED, ECONNRESET, EPIPE, EMFILE, ENFILE, ENOMEM, ENOBUFS
    int EADDRNOTAVAIL, ENOENT, ETIMEDOUT, EINVAL, ENOSYS, ECONNABORTED, EPROTO, EPERM, EBADF, ENOTSOCK

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum:
        EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLERR, EPOLLHUP, EPOLLET, EPOLLEXCLUSIVE
        EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_CLOEXEC
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "time.h" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    struct tm:
        int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year, tm_wday
    struct itimerspec:
        timespec it_interval
        timespec it_value
    enum:
        CLOCK_MONOTONIC, CLOCK_REALTIME
    int clock_gettime(int clock, timespec *out)
    tm *gmtime_r(const time_t *when, tm *out)

cdef extern from "sys/timerfd.h" nogil:
    enum:
        TFD_NONBLOCK, TFD_CLOEXEC
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)

cdef extern from "sys/eventfd.h" nogil:
    enum:
        EFD_NONBLOCK, EFD_CLOEXEC
    int eventfd(unsigned int initial, int flags)

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    enum:
        AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, MSG_DONTWAIT, MSG_PEEK, MSG_MORE
        SHUT_WR, SHUT_RDWR, SOL_SOCKET, SO_ERROR, SO_LINGER, SOL_TCP
    int socket(int domain, int type, int protocol)
    int accept4(int fd, sockaddr *address, socklen_t *size, int flags)
    int connect(int fd, const sockaddr *address, socklen_t size)
    ssize_t recv(int fd, void *buffer, size_t size, int flags)
    ssize_t send(int fd, const void *buffer, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    int shutdown(int fd, int how)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    int getsockname(int fd, sockaddr *address, socklen_t *size)
    int getpeername(int fd, sockaddr *address, socklen_t *size)

cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_NODELAY

cdef extern from "unistd.h" nogil:
    int close(int fd)
    ssize_t read(int fd, void *buffer, size_t size)
    ssize_t write(int fd, const void *buffer, size_t size)

cdef extern from "fcntl.h" nogil:
    enum:
        SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE, O_NONBLOCK, O_CLOEXEC, F_SETPIPE_SZ
    ssize_t splice(int fd_in, int64_t *off_in, int fd_out, int64_t *off_out, size_t size, unsigned int flags)
    int pipe2(int *fds, int flags)
    int fcntl(int fd, int command, int argument)

cdef extern from "sys/ioctl.h" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "linux/sockios.h" nogil:
    enum:
        SIOCOUTQ                # bytes that the peer has not acknowledged
