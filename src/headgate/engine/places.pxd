"""Places under a limit that all workers share: one word counts those taken, each worker notes how many it holds.

The word is `version << 32 | taken` and is changed by compare-and-swap alone; the version makes every change visible, also one
that was undone. `held` and `pending` belong to one worker: `pending` is set while the word and `held` may disagree, so
that whoever cleans up after a killed worker (Segment.zero_worker_gauges) knows whether its share can be trusted.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint32_t hg_places_taken(const uint64_t *word) {
        return (uint32_t)__atomic_load_n(word, __ATOMIC_SEQ_CST);
    }
    /* Takes one place if fewer than `limit` are taken. */
    static inline int hg_places_take(uint64_t *word, uint32_t limit, int64_t *held, uint64_t *pending) {
        uint64_t seen = __atomic_load_n(word, __ATOMIC_SEQ_CST);
        if ((uint32_t)seen >= limit)
            return 0;
        __atomic_store_n(pending, 1, __ATOMIC_SEQ_CST);
        do {
            if ((uint32_t)seen >= limit) {
                __atomic_store_n(pending, 0, __ATOMIC_RELEASE);
                return 0;
            }
        } while (!__atomic_compare_exchange_n(word, &seen, seen + ((uint64_t)1 << 32) + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
        __atomic_store_n(held, *held + 1, __ATOMIC_RELAXED);
        __atomic_store_n(pending, 0, __ATOMIC_RELEASE);
        return 1;
    }
    /* Takes (or with a negative `count` gives back) places whatever the limit; never more back than are held. */
    static inline void hg_places_add(uint64_t *word, int64_t count, int64_t *held, uint64_t *pending) {
        uint64_t seen = __atomic_load_n(word, __ATOMIC_SEQ_CST);
        int64_t taken;
        if (*held + count < 0)
            count = -*held;
        if (count == 0)
            return;
        __atomic_store_n(pending, 1, __ATOMIC_SEQ_CST);
        do {
            taken = (int64_t)(uint32_t)seen + count;
            if (taken < 0)
                taken = 0;
        } while (!__atomic_compare_exchange_n(word, &seen, (((seen >> 32) + 1) << 32) | (uint64_t)taken, 0, __ATOMIC_SEQ_CST,
                                              __ATOMIC_SEQ_CST));
        __atomic_store_n(held, *held + count, __ATOMIC_RELAXED);
        __atomic_store_n(pending, 0, __ATOMIC_RELEASE);
    }
    #define hg_word_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define hg_word_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define hg_word_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
    """
    uint32_t places_taken "hg_places_taken"(const uint64_t *word) noexcept nogil
    bint places_take "hg_places_take"(uint64_t *word, uint32_t limit, int64_t *held, uint64_t *pending) noexcept nogil
    void places_add "hg_places_add"(uint64_t *word, int64_t count, int64_t *held, uint64_t *pending) noexcept nogil
    uint64_t word_load "hg_word_load"(const uint64_t *word) noexcept nogil
    void word_store "hg_word_store"(uint64_t *word, uint64_t value) noexcept nogil
    uint64_t word_add "hg_word_add"(uint64_t *word, uint64_t amount) noexcept nogil
