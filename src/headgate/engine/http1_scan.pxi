# Runs of harmless bytes, sixteen at a time, and names compared eight at a time. A part of http1.pyx.
#
# They only ever skip what the class tables would let pass as well: the byte that stops them is looked at by the tables.
# SSE2 belongs to every x86-64; elsewhere the portable forms below do the same, bytes by bytes or eight at a time.

cdef extern from *:
    """
    #include <string.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    /* 0xFF where byte is within first..first+count-1, all unsigned, for first + count <= 128. */
    static inline __m128i hg_within(__m128i bytes, int first, int count) {
        return _mm_cmpgt_epi8(_mm_add_epi8(bytes, _mm_set1_epi8((char)(128 - first - count))), _mm_set1_epi8((char)(127 - count)));
    }
    /* Index of the first byte from i on that is no letter, digit or "-", or where fewer than 16 bytes are left. */
    static inline uint32_t hg_skip_name(const uint8_t *data, uint32_t i, uint32_t n) {
        while (n - i >= 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(data + i));
            __m128i fine = _mm_or_si128(
                _mm_or_si128(hg_within(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 26), hg_within(bytes, '0', 10)),
                _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
            unsigned other = (unsigned)_mm_movemask_epi8(fine) ^ 0xFFFF;
            if (other) return i + (uint32_t)__builtin_ctz(other);
            i += 16;
        }
        return i;
    }
    /* The same for bytes of a field value: not below 0x20, not 0x7F. */
    static inline uint32_t hg_skip_text(const uint8_t *data, uint32_t i, uint32_t n) {
        while (n - i >= 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(data + i));
            __m128i control = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes),
                                           _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7F)));
            unsigned other = (unsigned)_mm_movemask_epi8(control);
            if (other) return i + (uint32_t)__builtin_ctz(other);
            i += 16;
        }
        return i;
    }
    /* The same for bytes of a request target: 0x21 to 0x7E, no "#". */
    static inline uint32_t hg_skip_target(const uint8_t *data, uint32_t i, uint32_t n) {
        while (n - i >= 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(data + i));
            __m128i fine = _mm_andnot_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('#')), hg_within(bytes, 0x21, 0x5E));
            unsigned other = (unsigned)_mm_movemask_epi8(fine) ^ 0xFFFF;
            if (other) return i + (uint32_t)__builtin_ctz(other);
            i += 16;
        }
        return i;
    }
    #else
    static inline uint32_t hg_skip_name(const uint8_t *data, uint32_t i, uint32_t n) { (void)data; (void)n; return i; }
    static inline uint32_t hg_skip_target(const uint8_t *data, uint32_t i, uint32_t n) { (void)data; (void)n; return i; }
    /* Eight at a time: the usual zero-byte trick, for bytes below 0x20 and for 0x7F. It can only err behind a true hit. */
    static inline uint32_t hg_skip_text(const uint8_t *data, uint32_t i, uint32_t n) {
        const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
        while (n - i >= 8) {
            uint64_t word, del;
            memcpy(&word, data + i, 8);
            del = word ^ (ones * 0x7F);
            if ((((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & high) return i;
            i += 8;
        }
        return i;
    }
    #endif

    /* Is the text the given lower-case name, whatever its case? `size` is a constant wherever this is called, so that a
       few loads and comparisons are all that is left of it. */
    static inline __attribute__((always_inline)) int hg_is_name(const uint8_t *text, const char *name, uint32_t size) {
        uint64_t a, b, differ = 0;
        uint32_t c, d, at = 0;
        if (size >= 8) {
            for (; size - at >= 8; at += 8) {
                memcpy(&a, text + at, 8);
                memcpy(&b, name + at, 8);
                differ |= (a | 0x2020202020202020u) ^ b;
            }
            if (at < size) {                /* the last eight, some of them once more */
                memcpy(&a, text + size - 8, 8);
                memcpy(&b, name + size - 8, 8);
                differ |= (a | 0x2020202020202020u) ^ b;
            }
            return differ == 0;
        }
        if (size >= 4) {
            memcpy(&c, text, 4);
            memcpy(&d, name, 4);
            differ = (c | 0x20202020u) ^ d;
            memcpy(&c, text + size - 4, 4);
            memcpy(&d, name + size - 4, 4);
            return (differ | ((c | 0x20202020u) ^ d)) == 0;
        }
        for (; at < size; at++) differ |= (uint64_t)(uint8_t)((text[at] | 0x20) ^ name[at]);
        return differ == 0;
    }
    static inline int hg_is_space(uint8_t byte) { return (byte == ' ') | (byte == '\\t'); }
    """
    bint is_space "hg_is_space"(uint8_t byte) noexcept nogil
    uint32_t skip_name "hg_skip_name"(const uint8_t *data, uint32_t i, uint32_t n) noexcept nogil
    uint32_t skip_text "hg_skip_text"(const uint8_t *data, uint32_t i, uint32_t n) noexcept nogil
    uint32_t skip_target "hg_skip_target"(const uint8_t *data, uint32_t i, uint32_t n) noexcept nogil
    # Setting bit 5 lowers letters and leaves digits and "-" as they are. Only control bytes would turn into digits or "-"
    # by it, and none gets here: names are tokens, values hold no control byte but HTAB (which becomes ")").
    # Both texts are `size` bytes long: every caller has just compared the lengths.
    bint is_name "hg_is_name"(const uint8_t *text, const char *name, uint32_t size) noexcept nogil
