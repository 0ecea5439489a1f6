"""Memory that is needed in a moment, asked for now.

Between two looks at the same connection a worker serves all others, and the kernel works through megabytes for them: what
a request needs has left the nearer caches by then. While a system call runs, or the event before, it comes back for
nothing.
"""

cdef extern from *:
    """
    /* An object of `size` bytes may begin anywhere in its first line of 64. */
    static inline void hg_prefetch(const void *object, size_t size) {
        const char *line = (const char *)object;
        const char *end = line + size;
        for (; line < end; line += 64)
            __builtin_prefetch(line, 1, 3);
    }
    """
    void prefetch "hg_prefetch"(const void *object, size_t size) noexcept nogil

cdef enum:
    # A connection of either side, and what every request needs of an exchange (the first fields of its head included).
    CONNECTION_BYTES = 448
    EXCHANGE_BYTES = 832
    # The fields of a usual response.
    FIELDS_BYTES = 128
