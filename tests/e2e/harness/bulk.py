"""Large bodies made on the fly and checked on the fly: nothing of them is stored."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

BLOCK = 1 << 20

# Incompressible and the same in every run; the number in front of each block shows blocks lost, doubled or swapped.
_FILLER = random.Random(1).randbytes(BLOCK - 8)


def blocks(total: int) -> Iterator[bytes]:
    """`total` bytes (a multiple of BLOCK), a block at a time."""
    for number in range(total // BLOCK):
        yield number.to_bytes(8, "big") + _FILLER


class Digest:
    """SHA-256 and length of what went by."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.length = 0

    def add(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)
        self.length += len(data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Digest):
            return NotImplemented
        return (self.length, self._hash.digest()) == (other.length, other._hash.digest())

    def __hash__(self) -> int:
        return hash((self.length, self._hash.digest()))

    def __repr__(self) -> str:
        return f"<{self.length} bytes, {self._hash.hexdigest()[:16]}>"
