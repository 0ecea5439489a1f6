"""Random subset: each of many balancers uses a few of many backends, and together they use all alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Request, Score, usable
from headgate.balancing.lots import Lot
from headgate.balancing.ring_hash import identity
from headgate.balancing.signature import Takes
from headgate.engine.draws import Draws
from headgate.engine.reading import in_flight

# Finagle's: few enough for kept connections to stay warm, enough for two random ones to differ and some to be lost.
SIZE = 12
# An arc is cut into so many lots: a backend that stands at its end with a tenth of its share counts for a tenth.
LOTS = 1024
# Below this part of a share an arc's end is rounding.
_LEAST = 1e-9


class RandomSubset:
    """Power of two choices among a fixed subset, cut as Finagle's deterministic aperture cuts it. O(1).

    With b balancers before n backends, each keeps connections to all n, and each sees so few attempts in flight of its
    own that the figures say little. So each takes an arc of the ring of all backends, whose places have the length of
    their shares and an order drawn from their names. Arc k of b begins at k/b; it is long enough for `size` backends
    and a whole number of steps of 1/b, so each point of the ring is in equally many arcs: together the balancers give
    every backend exactly its share. Which backends a balancer has is random, but never changes without a cause: the
    same in all its workers and after a restart. When a backend comes or goes, arcs move by less than its length.

    A retry goes to the others of the subset and, once all were tried, beyond it.

    balancer: which one this is, from 0; balancers: how many there are. Both must be given, and `balancer` must be
    another one for each. size: backends in a subset, at least; the ends of an arc may cut one in two.
    """

    __signature__ = Takes(balancer=None, balancers=None, size=SIZE)

    def __init__(
        self,
        context: Context,
        *,
        balancer: int | None = None,
        balancers: int | None = None,
        size: int = SIZE,
    ) -> None:
        options.read("random_subset", balancer=balancer, balancers=balancers, size=size)
        assert balancer is not None
        assert balancers is not None
        self._balancer = balancer
        self._balancers = balancers
        self._size = size
        self._draws = Draws(context.random)
        self._hash64 = context.hash64
        self._ring: list[Backend] = []
        self._parts: list[Lot] = []  # share: what of it falls into the arc
        self._lots: list[Lot] = []

    @property
    def subset(self) -> list[Backend]:
        """Those that this balancer uses."""
        return [part.backend for part in self._parts]

    def update(self, backends: Sequence[Backend]) -> None:
        self._ring = sorted(usable(backends), key=lambda backend: (self._hash64(identity(backend), 0), backend.name))
        self._parts = self._cut()
        self._lots = _lots(self._parts)

    def _cut(self) -> list[Lot]:
        ring, n, b = self._ring, len(self._ring), self._balancers
        steps = max(1, -(-self._size * b // n)) if n else 0
        if steps >= b:
            return [Lot(backend, backend.share) for backend in ring]
        total = sum(backend.share for backend in ring)
        start = total * self._balancer / b
        end = start + total * steps / b
        parts = []
        for turn in (0.0, total):  # an arc may go round the end
            at = turn
            for backend in ring:
                overlap = min(end, at + backend.share) - max(start, at)
                if overlap > _LEAST * backend.share:
                    parts.append(Lot(backend, overlap))
                at += backend.share
        return _merged(parts)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        lots = self._lots
        if tried:
            lots = _lots([part for part in self._parts if part.backend not in tried])
            if not lots:
                lots = _lots([Lot(backend, backend.share) for backend in self._ring if backend not in tried])
        if not lots:
            return None
        first, second = self._draws.two_others(lots)
        if in_flight(first.backend) * second.share <= in_flight(second.backend) * first.share:
            return first.backend
        return second.backend

    def explain(self, request: Request) -> Grounds:
        """The subset and its loads; see `ExplainingStrategy`."""
        return Grounds(
            f"in flight per part of the share that falls into this balancer's arc (it uses {len(self._parts)} of"
            f" {len(self._ring)}): two are drawn, the lower wins; no score = not in the subset",
            {
                part.backend: Score(
                    part.backend.active / part.share, f"{part.backend.active} in flight / {part.share:g} of its share"
                )
                for part in self._parts
            },
        )


def _merged(parts: list[Lot]) -> list[Lot]:
    """One part for each backend: an arc's two ends may meet in one."""
    whole: dict[Backend, Lot] = {}
    for part in parts:
        known = whole.setdefault(part.backend, part)
        if known is not part:
            known.share += part.share
    return list(whole.values())


def _lots(parts: list[Lot]) -> list[Lot]:
    """Each as often as its part says. Equal parts need one each."""
    total = sum(part.share for part in parts)
    if len({part.share for part in parts}) == 1:
        return parts
    scale = max(LOTS, 8 * len(parts)) / total if parts else 0.0
    return [part for part in parts for _ in range(max(1, round(part.share * scale)))]
