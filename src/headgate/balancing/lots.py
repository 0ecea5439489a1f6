"""Lots: a list from which any entry drawn is right in proportion to share."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from headgate.balancing.base import Backend, Score

# A list of so many entries takes 2 MB. Shares that are whole numbers need as many as their sum in lowest terms, which
# is less for all but pools of a thousand with the largest weights; those with a fraction take what is left.
MOST = 1 << 18
# Into so many parts a unit of share is cut where one has a fraction (a backend that starts slowly): 1.6 % of a weight
# of 1, and it lasts for one step of the slow start.
FINEST = 64


class Lot:
    """A backend among the lots, and what its load is measured against."""

    def __init__(self, backend: Backend, share: float) -> None:
        self.backend = backend
        self.share = share


def parts(backends: Sequence[Backend]) -> list[int]:
    """How many lots each backend has, in lowest terms; at least one.

    Exact for whole shares. A fraction is rounded to 1/64 or, where the sum of shares is beyond 4,096, to what `MOST`
    leaves room for: at most 1/MOST of all requests goes astray for each backend.
    """
    shares = [backend.share for backend in backends]
    scale = 1
    if not all(share.is_integer() for share in shares):
        scale = max(1, min(FINEST, int(MOST // max(1.0, sum(shares)))))
    whole = [max(1, round(share * scale)) for share in shares]
    divisor = gcd(*whole)
    return [count // divisor for count in whole]


def lots(backends: Sequence[Backend]) -> list[Backend]:
    """Each backend as often as its share says. One draw decides, O(1) for any shares; cumulative shares would need a
    bisection, an alias table a second look."""
    return [backend for backend, count in zip(backends, parts(backends), strict=True) for _ in range(count)]


def chances(backends: Sequence[Backend]) -> dict[Backend, Score]:
    """How likely each is drawn."""
    counts = parts(backends) if backends else []
    total = sum(counts)
    return {
        backend: Score(count / total, f"drawn with {count / total:.3g}")
        for backend, count in zip(backends, counts, strict=True)
    }
