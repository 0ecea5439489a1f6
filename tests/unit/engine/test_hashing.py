"""SipHash-1-3 and xoroshiro128++ against their definitions, and against what Python itself makes of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.hashing import hash64, new_id, random_words, siphash13

MASK = 2**64 - 1
words = st.integers(0, MASK)


def siphash(rounds: int, final: int, data: bytes, key0: int, key1: int) -> int:
    """SipHash-c-d as the paper defines it, one line per operation; slow and plain."""

    def rotate(word: int, bits: int) -> int:
        return (word << bits | word >> (64 - bits)) & MASK

    v = [key0 ^ 0x736F6D6570736575, key1 ^ 0x646F72616E646F6D, key0 ^ 0x6C7967656E657261, key1 ^ 0x7465646279746573]

    def mix() -> None:
        v[0] = (v[0] + v[1]) & MASK
        v[2] = (v[2] + v[3]) & MASK
        v[1] = rotate(v[1], 13) ^ v[0]
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[1]) & MASK
        v[0] = (v[0] + v[3]) & MASK
        v[1] = rotate(v[1], 17) ^ v[2]
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = rotate(v[2], 32)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        for _ in range(rounds):
            mix()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(final):
        mix()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


KEY0 = int.from_bytes(bytes(range(8)), "little")
KEY1 = int.from_bytes(bytes(range(8, 16)), "little")


def test_the_plain_definition_gives_the_vector_of_the_paper() -> None:
    assert siphash(2, 4, bytes(range(15)), KEY0, KEY1) == 0xA129CA6149BE45E5  # appendix A


def test_the_empty_input_gives_the_known_vector_of_siphash_1_3() -> None:
    assert siphash13(b"", KEY0, KEY1).to_bytes(8, "little") == bytes.fromhex("dcc40f055801acab")


@given(st.binary(max_size=80), words, words)
def test_it_is_siphash_1_3(data: bytes, key0: int, key1: int) -> None:
    assert siphash13(data, key0, key1) == siphash(1, 3, data, key0, key1)


@given(st.binary(max_size=300), words)
def test_hash64_is_siphash_under_the_seed(data: bytes, seed: int) -> None:
    assert hash64(data, seed) == siphash13(data, seed, 0)


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="this Python was built with another hash")
def test_an_unkeyed_python_hashes_alike() -> None:
    inputs = [os.urandom(length) for length in range(1, 40)]
    script = "import sys\nfor line in sys.stdin: print(hash(bytes.fromhex(line)) & (2**64 - 1))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(data.hex() for data in inputs),
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [int(line) for line in done.stdout.split()] == [hash64(data) for data in inputs]


def test_addresses_spread_evenly() -> None:
    counts = [0] * 16
    for number in range(16_000):
        counts[hash64(b"10.0.%d.%d" % divmod(number, 256), seed=7) % 16] += 1
    # 1,000 expected each, standard deviation 31: five of them.
    assert all(abs(count - 1000) < 155 for count in counts)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_of_more_than_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(OverflowError):
        hash64(b"x", seed)


def test_the_generator_is_xoroshiro128_plus_plus() -> None:
    def rotate(word: int, bits: int) -> int:
        return (word << bits | word >> (64 - bits)) & MASK

    low, high = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    expected = []
    for _ in range(100):
        expected.append((rotate((low + high) & MASK, 17) + low) & MASK)
        high ^= low
        low, high = rotate(low, 49) ^ high ^ (high << 21 & MASK), rotate(high, 28)
    assert random_words((0x0123456789ABCDEF, 0xFEDCBA9876543210), 100) == expected


def test_the_generator_gives_the_published_first_words() -> None:
    assert random_words((1, 2), 4) == [393217, 669327710093319, 1732421326133921491, 11394790081659126983]


def test_the_state_it_would_never_leave_is_refused() -> None:
    with pytest.raises(ValueError, match="zero"):
        random_words((0, 0), 1)


def test_ids_are_32_hexadecimal_digits_and_differ() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(text) == 32 and set(text) <= set("0123456789abcdef") for text in ids)
