from collections.abc import Iterable
from typing import Final

def histogram_bounds() -> list[int]:
    """The 512 buckets' upper bounds in nanoseconds, ascending: bucket i holds values below bounds[i].

    The last bucket also holds everything above its bound (4,295 s).
    """

def bucket_of(ns: int) -> int:
    """The bucket (0 to 511) a duration of `ns` nanoseconds is counted in."""

class Latency:
    """Durations, summed over workers: `count`, `sum_ns` and the non-empty buckets."""

    count: Final[int]
    sum_ns: Final[int]
    buckets: Final[list[tuple[int, int]]]
    """(upper_bound_ns, count), ascending."""
    steps: Final[int]
    """How many of the 512 buckets each of these is: 1, or 4 for what is counted coarsely."""

    def __init__(self, count: int, sum_ns: int, buckets: list[tuple[int, int]], steps: int = 1) -> None: ...
    def quantile(self, q: float) -> float | None:
        """The duration in nanoseconds that a share `q` (0 to 1, else ValueError) of all values does not exceed.

        The middle of the bucket it falls into, so within 3.2 % (between 1 us and 4,295 s; 12.5 % where it is coarse);
        None without values.
        """

    def since(self, earlier: Latency) -> Latency:
        """What has come since `earlier`, an older reading of the same counters. If they began anew: all of it."""

    def up_to(self, bounds: Iterable[int]) -> list[int]:
        """How many values lie below each of these bounds (ns, ascending): exact where a bucket ends at the bound."""
