"""Hashing and random numbers that cost nanoseconds and need no Python object.

Python's `hash()` differs from process to process, and workers must agree: the same client has to reach the same backend
whichever worker accepts it, today and after a restart. So placement hashes with SipHash-1-3 (J.-P. Aumasson, D. J.
Bernstein, "SipHash: a fast short-input PRF", 2012; one compression and three finalisation rounds). Its reasons: it is
keyed, so that who does not know the seed cannot choose inputs that all land on one backend, it has published vectors,
it is defined byte by byte (the same on every machine), and an address or a cookie costs about 10 ns.

Random choices and request ids come from xoroshiro128++ (D. Blackman, S. Vigna, "Scrambled linear pseudorandom number
generators", 2021), seeded by the kernel. It is fast and well spread, and it is no secret: whoever sees enough of its
output can tell what comes next. Nothing here may be used for a token or a key.
"""
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t

import os

cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void *buffer, size_t size, unsigned int flags)

cdef extern from *:
    """
    #include <string.h>
    static inline uint64_t hg_rotate(uint64_t word, int bits) { return (word << bits) | (word >> (64 - bits)); }
    /* Little-endian on every machine; compilers make one load of it where they can. */
    static inline uint64_t hg_read64(const uint8_t *p) {
        return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24
             | (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
    }
    /* Eight digits, the highest first, all at once: each nibble gets a byte, and "a" to "f" what they are beyond "9". */
    static inline void hg_hex8(char *out, uint32_t word) {
        uint64_t w = word, tens;
        w = (w | w << 16) & 0x0000FFFF0000FFFFu;
        w = (w | w << 8) & 0x00FF00FF00FF00FFu;
        w = (w | w << 4) & 0x0F0F0F0F0F0F0F0Fu;
        tens = (w + 0x0606060606060606u) >> 4 & 0x0101010101010101u;
        w += 0x3030303030303030u + tens * ('a' - '0' - 10);
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        w = __builtin_bswap64(w);
    #endif
        memcpy(out, &w, 8);
    }
    """
    uint64_t rotate "hg_rotate"(uint64_t word, int bits) noexcept nogil
    uint64_t read64 "hg_read64"(const uint8_t *data) noexcept nogil
    void hex8 "hg_hex8"(char *out, uint32_t word) noexcept nogil

cdef struct Sip:
    uint64_t v0
    uint64_t v1
    uint64_t v2
    uint64_t v3


cdef inline void sip_round(Sip *s) noexcept nogil:
    s.v0 += s.v1
    s.v1 = rotate(s.v1, 13) ^ s.v0
    s.v0 = rotate(s.v0, 32)
    s.v2 += s.v3
    s.v3 = rotate(s.v3, 16) ^ s.v2
    s.v0 += s.v3
    s.v3 = rotate(s.v3, 21) ^ s.v0
    s.v2 += s.v1
    s.v1 = rotate(s.v1, 17) ^ s.v2
    s.v2 = rotate(s.v2, 32)


cdef uint64_t sip13(const uint8_t *data, size_t size, uint64_t key0, uint64_t key1) noexcept nogil:
    cdef Sip s
    cdef uint64_t word
    cdef size_t left = size
    cdef size_t index
    # The paper's initial state: "somepseudorandomlygeneratedbytes".
    s.v0 = key0 ^ <uint64_t>0x736F6D6570736575
    s.v1 = key1 ^ <uint64_t>0x646F72616E646F6D
    s.v2 = key0 ^ <uint64_t>0x6C7967656E657261
    s.v3 = key1 ^ <uint64_t>0x7465646279746573
    while left >= 8:
        word = read64(data)
        s.v3 ^= word
        sip_round(&s)
        s.v0 ^= word
        data += 8
        left -= 8
    word = <uint64_t>(size & 0xFF) << 56
    for index in range(left):
        word |= <uint64_t>data[index] << (8 * index)
    s.v3 ^= word
    sip_round(&s)
    s.v0 ^= word
    s.v2 ^= 0xFF
    sip_round(&s)
    sip_round(&s)
    sip_round(&s)
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3


cdef uint64_t hash64_bytes(const char *data, size_t size, uint64_t seed) noexcept nogil:
    return sip13(<const uint8_t *>data, size, seed, 0)


def hash64(bytes data not None, uint64_t seed=0):
    """A keyed 64-bit hash of `data`, the same in every process and on every machine.

    SipHash-1-3 under the 128-bit key (seed, 0). `seed` is 0 to 2**64 - 1 (else OverflowError); two seeds give two
    unrelated hashes of the same bytes.
    """
    return sip13(<const uint8_t *><const char *>data, len(data), seed, 0)


def siphash13(bytes data not None, uint64_t key0, uint64_t key1):
    """SipHash-1-3 of `data` under the whole 128-bit key, as two little-endian words (see the module's docstring)."""
    return sip13(<const uint8_t *><const char *>data, len(data), key0, key1)


cdef int random_seed(uint64_t *state) except -1:
    cdef size_t have = 0
    cdef ssize_t got
    state[0] = 0
    state[1] = 0
    while have < 16 or (state[0] | state[1]) == 0:      # all zero is the one state the generator never leaves
        if have == 16:
            have = 0
        got = getrandom(<char *>state + have, 16 - have, 0)
        if got >= 0:
            have += got
        elif errno != EINTR:
            raise OSError(errno, f"the kernel gives no random numbers: {os.strerror(errno)}")
    return 0


cdef uint64_t random_next(uint64_t *state) noexcept nogil:
    cdef uint64_t low = state[0]
    cdef uint64_t high = state[1]
    cdef uint64_t result = rotate(low + high, 17) + low
    high ^= low
    state[0] = rotate(low, 49) ^ high ^ (high << 21)
    state[1] = rotate(high, 28)
    return result


cdef void hex_id(char *out32, uint64_t *state) noexcept nogil:
    cdef uint64_t word
    cdef int half
    for half in range(2):
        word = random_next(state)
        hex8(out32 + 16 * half, <uint32_t>(word >> 32))
        hex8(out32 + 16 * half + 8, <uint32_t>word)


def random_words(state: tuple[int, int], int count):
    """The first `count` words that xoroshiro128++ yields from `state` (two 64-bit words, not both zero: ValueError)."""
    cdef uint64_t[2] words
    words[0], words[1] = state
    if (words[0] | words[1]) == 0:
        raise ValueError("the state must not be all zero")
    return [random_next(words) for _ in range(count)]


def new_id() -> str:
    """A fresh request id: 32 hexadecimal digits. Unique, not unguessable."""
    cdef uint64_t[2] state
    cdef char[32] text
    random_seed(state)
    hex_id(text, state)
    return text[:32].decode("ascii")
