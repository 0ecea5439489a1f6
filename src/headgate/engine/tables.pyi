"""Lookup tables of the strategies that hash."""

from collections.abc import Sequence

class Circle:
    """Backends at places on a circle; a key goes to the one nearest clockwise, per share."""

    def __init__(self, names: Sequence[bytes], weights: Sequence[float], places: int = 512) -> None: ...
    @property
    def late(self) -> int:
        """How many came by `add`."""
    def add(self, names: Sequence[bytes], weights: Sequence[float]) -> None:
        """Further backends, behind those there are, in the time that these few take. Not to an empty circle."""
    def set_shares(self, shares: Sequence[float]) -> None:
        """Other shares from now on; 0 = as if it were not there."""
    def find(self, key: int) -> int:
        """Index of the backend that has this 64-bit hash; -1 in an empty circle."""
    def find_other(self, key: int, passed_over: Sequence[int]) -> int:
        """The same as if those indices were not there; -1 when none is left."""
    def __len__(self) -> int:
        """Places on it."""

class Continuum:
    """nginx's and Cache::Memcached::Fast's ketama: points of 32 bits, the first at or after a key's has it."""

    def __init__(self, points: Sequence[tuple[int, int]]) -> None:
        """points: (point, index of the backend), sorted by point, no point twice."""
    def find(self, key: int) -> int: ...
    def find_other(self, key: int, passed_over: Sequence[int]) -> int: ...
    def __len__(self) -> int: ...

class Maglev:
    """A table of `size` entries, shared out in turns by preference."""

    def __init__(self, names: Sequence[bytes], shares: Sequence[float], size: int) -> None:
        """names: in an order that all processes agree on. size: a prime, larger than their number."""
    def find(self, key: int) -> int:
        """Index of the backend that has this 64-bit hash; -1 in an empty table."""
    def entries(self) -> list[int]: ...
