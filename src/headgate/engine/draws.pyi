"""Random indices for the strategies that draw."""

from random import Random

class Draws:
    """Independent ones, and ones that are even together (stratified). The same source gives the same draws."""

    def __init__(self, random: Random) -> None:
        """random: where the seed comes from; not used afterwards."""
    def free(self, below: int, /) -> int:
        """An index from 0 to below `below`, whatever came before; 0 for 0."""
    def even(self, below: int, /) -> int:
        """An index from 0 to below `below`, evenly spread over each block of 64 draws; 0 for 0."""
