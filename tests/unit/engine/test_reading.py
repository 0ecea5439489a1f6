"""What compiled policy reads of objects that are not the engine's is what their attributes say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.hashing import hash64
from headgate.engine.reading import client_key, good_answer_s, hashed, in_flight, remaining


@dataclass
class Thing:
    active: int = 0
    client_bytes: bytes = b""
    ok: bool = True
    status: int = 200
    first_byte_s: float = 0.25


def test_attributes_are_what_is_read() -> None:
    assert in_flight(cast(Any, Thing(active=7))) == 7
    assert client_key(cast(Any, Thing(client_bytes=b"x" * 16))) == b"x" * 16


@pytest.mark.parametrize(
    ("thing", "seconds"),
    [
        (Thing(), 0.25),
        (Thing(status=399), 0.25),
        (Thing(first_byte_s=0.0), 0.0),
        (Thing(first_byte_s=-1.0), 0.0),  # a success without an answer: as quick as can be
        (Thing(status=400), -1.0),
        (Thing(ok=False), -1.0),
    ],
)
def test_a_good_answer(thing: Thing, seconds: float) -> None:
    assert good_answer_s(cast(Any, thing)) == seconds


@given(st.floats(0, 1e6) | st.just(math.inf), st.floats(1e-3, 1e5))
def test_what_remains_is_the_same_to_the_last_digit(age_s: float, decay_s: float) -> None:
    assert remaining(age_s, decay_s) == math.exp(-age_s / decay_s)


@given(st.binary(max_size=40), st.integers(0, 2**64 - 1))
def test_a_hash_is_that_of_the_function(key: bytes, seed: int) -> None:
    assert hashed(hash64, key, seed) == hash64(key, seed)
    assert hashed(lambda data, seed: len(data) + seed % 1000, key, seed) == len(key) + seed % 1000


def test_what_is_raised_comes_through() -> None:
    for read in (in_flight, good_answer_s, client_key):
        with pytest.raises(AttributeError):
            cast(Any, read)(object())
    with pytest.raises(ZeroDivisionError):
        hashed(lambda data, seed: 1 // 0, b"", 0)
    with pytest.raises(TypeError):
        hashed(hash64, cast(Any, None), 0)
    with pytest.raises(OverflowError):
        hashed(lambda data, seed: 2**64, b"", 0)
