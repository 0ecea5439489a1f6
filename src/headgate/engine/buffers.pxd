"""Buffers that connections hold only while bytes are in flight: free lists by size, and one cap for all of them."""
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    # One page fault group and one typical socket read: what nginx and HAProxy use for a small exchange as well.
    SMALL_BUFFER = 16384
    # For bodies that do not go by splice: fewer system calls per byte; 256 KiB gained little more and costs a slow reader 4 times as much.
    # 64 KiB are what many programs send at a time. Head and body of such an upload fit together: one more read and one more
    # write for the last few bytes cost a fifth of the whole request.
    LARGE_BUFFER = 65536 + 4096

# Apart from the bytes: many of these share a line of the cache, and lists of them are walked without touching what the
# buffers hold.
cdef struct Buffer:
    Buffer *next
    uint32_t capacity
    uint32_t reserved
    char *data

cdef struct BufferPool:
    Buffer *small
    Buffer *large
    uint32_t small_count        # kept on the free lists
    uint32_t large_count
    uint64_t in_use             # bytes handed out
    uint64_t limit              # no more than this is handed out

cdef void buffers_init(BufferPool *pool, uint64_t limit) noexcept nogil
cdef void buffers_free(BufferPool *pool) noexcept nogil
cdef Buffer *buffer_acquire(BufferPool *pool, size_t size) noexcept nogil      # NULL: over the cap, or out of memory
cdef void buffer_release(BufferPool *pool, Buffer *buffer) noexcept nogil
