"""Weighted random: `random` by the name that other load balancers have for it."""

from __future__ import annotations

from headgate.balancing.random import Random


class WeightedRandom(Random):
    """The same as `random`, which looks at weights too. O(1)."""
