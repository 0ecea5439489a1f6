"""See buffers.pxd. A sanitizer build keeps no free lists (HEADGATE_NO_FREELIST), or it would not see a use after release."""
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #ifdef HEADGATE_NO_FREELIST
    #define HG_KEEP_SMALL 0
    #define HG_KEEP_LARGE 0
    #else
    /* What a busy worker needs again at once; beyond that memory goes back to malloc. */
    #define HG_KEEP_SMALL 512
    #define HG_KEEP_LARGE 64
    #endif
    """
    enum:
        HG_KEEP_SMALL
        HG_KEEP_LARGE


cdef enum:
    # Were they a power of two apart, the first bytes of all buffers, which hold the heads, would have the same few places in
    # the caches. Seven lines are the usual head; with malloc's own words the next one begins in the places behind.
    SPREAD = 448


cdef void buffers_init(BufferPool *pool, uint64_t limit) noexcept nogil:
    pool.small = NULL
    pool.large = NULL
    pool.small_count = 0
    pool.large_count = 0
    pool.in_use = 0
    pool.limit = limit


cdef void _free(Buffer *buffer) noexcept nogil:
    free(buffer.data)
    free(buffer)


cdef void _free_list(Buffer *buffer) noexcept nogil:
    cdef Buffer *after
    while buffer != NULL:
        after = buffer.next
        _free(buffer)
        buffer = after


cdef void buffers_free(BufferPool *pool) noexcept nogil:
    _free_list(pool.small)
    _free_list(pool.large)
    pool.small = NULL
    pool.large = NULL
    pool.small_count = 0
    pool.large_count = 0


cdef Buffer *buffer_acquire(BufferPool *pool, size_t size) noexcept nogil:
    cdef Buffer *buffer
    cdef uint32_t capacity
    if size <= SMALL_BUFFER:
        capacity = SMALL_BUFFER
        buffer = pool.small
        if buffer != NULL:
            pool.small = buffer.next
            pool.small_count -= 1
            pool.in_use += capacity
            return buffer
    elif size <= LARGE_BUFFER:
        capacity = LARGE_BUFFER
        buffer = pool.large
        if buffer != NULL:
            pool.large = buffer.next
            pool.large_count -= 1
            pool.in_use += capacity
            return buffer
    elif size < (<size_t>1 << 31):
        capacity = <uint32_t>size
    else:
        return NULL
    if pool.in_use + capacity > pool.limit:
        return NULL
    buffer = <Buffer *>malloc(sizeof(Buffer))
    if buffer == NULL:
        return NULL
    buffer.data = <char *>malloc(capacity + SPREAD)
    if buffer.data == NULL:
        free(buffer)
        return NULL
    buffer.next = NULL
    buffer.capacity = capacity
    pool.in_use += capacity
    return buffer


cdef void buffer_release(BufferPool *pool, Buffer *buffer) noexcept nogil:
    pool.in_use -= buffer.capacity
    if buffer.capacity == SMALL_BUFFER and pool.small_count < HG_KEEP_SMALL:
        buffer.next = pool.small
        pool.small = buffer
        pool.small_count += 1
    elif buffer.capacity == LARGE_BUFFER and pool.large_count < HG_KEEP_LARGE:
        buffer.next = pool.large
        pool.large = buffer
        pool.large_count += 1
    else:
        _free(buffer)
