"""See pipes.pxd. A sanitizer build keeps none for later (HEADGATE_NO_FREELIST), as with buffers."""
from libc.stdlib cimport free, malloc

from headgate.engine.libc_net cimport F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK, close, fcntl, pipe2

cdef extern from *:
    """
    #ifdef HEADGATE_NO_FREELIST
    #define HG_KEEP_PIPES 0
    #else
    #define HG_KEEP_PIPES 1
    #endif
    """
    enum:
        HG_KEEP_PIPES

cdef enum:
    # The kernel's default of 64 KiB needs four times as many calls for a large body; larger than this gained nothing.
    PIPE_BYTES = 262144


cdef Pipe *pipe_acquire(PipePool *pool) noexcept nogil:
    cdef Pipe *pipe = pool.free
    cdef int fds[2]
    if pipe != NULL:
        pool.free = pipe.next
        pipe.next = NULL
        return pipe
    if pool.count >= pool.limit:
        pool.refused += 1
        return NULL
    pipe = <Pipe *>malloc(sizeof(Pipe))
    if pipe == NULL:
        return NULL
    if pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0:
        free(pipe)
        pool.refused += 1
        return NULL
    # Refused above the user's share of pipe pages: then it keeps the default size.
    fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES)
    pipe.next = NULL
    pipe.read_fd = fds[0]
    pipe.write_fd = fds[1]
    pipe.filled = 0
    pool.count += 1
    return pipe


cdef void _close(PipePool *pool, Pipe *pipe) noexcept nogil:
    close(pipe.read_fd)
    close(pipe.write_fd)
    free(pipe)
    pool.count -= 1


cdef void pipe_release(PipePool *pool, Pipe *pipe) noexcept nogil:
    if pipe.filled or not HG_KEEP_PIPES:
        # It still holds bytes of one exchange: never to be seen by another.
        _close(pool, pipe)
        return
    pipe.next = pool.free
    pool.free = pipe


cdef uint32_t pipes_idle(const PipePool *pool) noexcept nogil:
    cdef uint32_t count = 0
    cdef const Pipe *pipe = pool.free
    while pipe != NULL:
        count += 1
        pipe = pipe.next
    return count


cdef void pipes_free(PipePool *pool) noexcept nogil:
    cdef Pipe *pipe
    while pool.free != NULL:
        pipe = pool.free
        pool.free = pipe.next
        _close(pool, pipe)
