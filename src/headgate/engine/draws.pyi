"""Random indices for the strategies that draw."""

from random import Random
from typing import TypeVar

T = TypeVar("T")

class Draws:
    """Independent ones, and ones that are even together (stratified). The same source gives the same draws."""

    def __init__(self, random: Random) -> None:
        """random: where the seed comes from; not used afterwards."""
    def free(self, below: int, /) -> int:
        """An index from 0 to below `below`, whatever came before; 0 for 0."""
    def even(self, below: int, /) -> int:
        """An index from 0 to below `below`, evenly spread over each block of 64 draws; 0 for 0."""
    def two(self, entries: list[T], /) -> tuple[T, T]:
        """Two entries, the first of them evenly spread; both may be the same. IndexError where there is none."""
    def two_places(self, entries: list[T], /) -> tuple[T, T]:
        """Entries at two places, the first of them evenly spread. IndexError where there are fewer."""
    def two_others(self, entries: list[T], /) -> tuple[T, T]:
        """Two that are not the same object, the first of them evenly spread, the second any other in proportion to how
        often each stands there; the same one twice where there is no other. IndexError where there is none."""
