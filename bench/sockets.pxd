# cython: language_level=3
"""What the bare relays (floor.pyx, floor_uring.pyx) both want of the C library: TCP sockets over IPv4."""

cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass
    int AF_INET, SOCK_STREAM
    int socket(int domain, int type, int protocol)
    int connect(int fd, const sockaddr *address, socklen_t length)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length)

cdef extern from "netinet/in.h" nogil:
    int IPPROTO_TCP
    cdef struct in_addr:
        unsigned int s_addr
    cdef struct sockaddr_in:
        unsigned short sin_family
        unsigned short sin_port
        in_addr sin_addr
    unsigned short htons(unsigned short value)

cdef extern from "netinet/tcp.h" nogil:
    int TCP_NODELAY

cdef extern from "arpa/inet.h" nogil:
    int inet_pton(int family, const char *text, void *address)
