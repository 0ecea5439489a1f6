"""Pipes for splice: a small pool, since each costs two descriptors and pins kernel pages while a slow reader holds it."""
from libc.stdint cimport uint32_t

cdef struct Pipe:
    Pipe *next
    int read_fd
    int write_fd
    uint32_t filled             # bytes in it

cdef struct PipePool:
    Pipe *free
    uint32_t count              # open ones, free or not
    uint32_t limit
    uint32_t refused            # a pipe was wanted and none was to be had

cdef Pipe *pipe_acquire(PipePool *pool) noexcept nogil      # NULL: over the limit, or no descriptors; copy instead
cdef void pipe_release(PipePool *pool, Pipe *pipe) noexcept nogil   # one that is not empty is closed
cdef uint32_t pipes_idle(const PipePool *pool) noexcept nogil       # open ones that nobody uses
cdef void pipes_free(PipePool *pool) noexcept nogil
