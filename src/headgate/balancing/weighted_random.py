"""Weighted random: likely in proportion to weight."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from headgate.balancing.base import Backend, usable
from headgate.balancing.random import Random


def lots(backends: Sequence[Backend]) -> list[Backend]:
    """Each backend as often as its weight, in lowest terms: any entry drawn is right in proportion to weight.

    Weights are whole and at most 256, so this is exact, small (2 MB for the worst 1,000) and drawn from in O(1);
    cumulative weights would need a bisection, an alias table a second draw and fractions.
    """
    divisor = gcd(*[backend.weight for backend in backends])
    return [backend for backend in backends for _ in range(backend.weight // divisor)]


class WeightedRandom(Random):
    """Any backend, likely in proportion to weight. O(1)."""

    def update(self, backends: Sequence[Backend]) -> None:
        self._lots = lots(usable(backends))
