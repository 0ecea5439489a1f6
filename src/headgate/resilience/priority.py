"""Priority groups: which share of new sessions each level of a pool gets.

Level 0 is used first; the others stand by and take over in proportion to what is missing before them. A level is
thought to bear 40 % more than it must (Envoy's overprovisioning factor of 140), so the loss of a quarter of it is no
reason to bother the next, and after that the next takes exactly what is too much. Envoy's definition ("Priority
levels" in its load balancing documentation), in fractions instead of whole per cent.
"""

from __future__ import annotations

from collections.abc import Sequence

# Envoy's 140 %: a pool is planned with that much in reserve, or it could not lose a server at night.
OVERPROVISIONING = 1.4


def health(usable: float, members: int) -> float:
    """How much of its part a level can bear, 0 to 1. usable: its routable backends, one that starts slowly as a part;
    members: all that it has."""
    return min(1.0, OVERPROVISIONING * usable / members) if members else 0.0


def loads(healths: Sequence[float]) -> list[float]:
    """The share of new sessions of each level, from the healths of all, first level first.

    They add up to 1 when any level has health; where all of them together cannot bear it, each takes its proportion.
    All 0 when none has any.
    """
    total = sum(healths)
    if total <= 0:
        return [0.0] * len(healths)
    norm = min(1.0, total)
    shares: list[float] = []
    left = 1.0
    for one in healths:
        share = min(left, one / norm)
        shares.append(share)
        left -= share
    # What rounding left over belongs to somebody: a request that falls there must have a level.
    last = max(index for index, one in enumerate(healths) if one > 0)
    shares[last] += left
    return shares
