def hash64(data: bytes, seed: int = 0) -> int:
    """A keyed 64-bit hash of `data` (SipHash-1-3, key (seed, 0)), the same in every process and on every machine."""

def siphash13(data: bytes, key0: int, key1: int) -> int:
    """SipHash-1-3 of `data` under the whole 128-bit key, as two little-endian words."""

def random_words(state: tuple[int, int], count: int) -> list[int]:
    """The first `count` words that xoroshiro128++ yields from `state`; ValueError for the all-zero state."""

def new_id() -> str:
    """A fresh request id: 32 hexadecimal digits. Unique, not unguessable."""
