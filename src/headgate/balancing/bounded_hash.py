"""Bounded hash: the same key to the same backend, as long as that has no more than its part of the load."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Outcome, Request, Score, usable
from headgate.balancing.hash_key import RANKED, level_position, reader, shown
from headgate.balancing.ring_hash import PLACES, Ring

# A quarter above the mean. The paper's trade: at 1 + e a key moves on in about 1 of 1/e**2 cases; HAProxy and Vimeo,
# where it comes from, recommend 1.25 to 1.5.
BOUND = 1.25


class BoundedHash:
    """Consistent hashing with bounded loads (V. Mirrokni, M. Thorup, M. Zadimoghaddam 2016, arXiv 1608.01350). O(1).

    A backend may have up to ceil(bound * (attempts in flight in all + 1) * its share / all shares), at least one. A key
    whose backend is full goes to the next one on the ring that is not, and comes back as soon as there is room: a key
    in great demand spreads over as many as it needs. The next one is another for each place of the ring, so what flows
    over does not fall on one neighbour.

    Attempts in flight are those of all workers. Their sum is kept up to date by looking at the backends concerned and
    one more for each pick, so it is at most n picks old.

    key, header, cookie, places: as for ring_hash. bound: 1.01 to 100; lower is more even, higher keeps keys together.
    """

    def __init__(
        self,
        context: Context,
        *,
        key: str | None = None,
        header: str | None = None,
        cookie: str | None = None,
        places: int | None = None,
        bound: float = BOUND,
    ) -> None:
        read = options.read("bounded_hash", key=key, header=header, cookie=cookie, places=places, bound=bound)
        self._key = reader(read)
        self._bound = bound
        self._hash64 = context.hash64
        self._ring = Ring(places or PLACES)
        self._backends: list[Backend] = []
        self._parts: dict[Backend, float] = {}  # bound * share / all shares
        self._seen: dict[Backend, int] = {}  # attempts in flight when last looked at
        self._total = 0
        self._looked = 0

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = usable(backends)
        self._ring.update(self._backends)
        unit = self._bound / sum(backend.share for backend in self._backends) if self._backends else 0.0
        self._parts = {backend: backend.share * unit for backend in self._backends}
        self._seen = {backend: backend.active for backend in self._backends}
        self._total = sum(self._seen.values())
        self._looked = 0

    def position(self, request: Request) -> float:
        """Which priority level serves this request's key; see `AffineStrategy`."""
        return level_position(self._hash64, self._key(request))

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        backends = self._backends
        if not backends:
            return None
        looked = self._looked
        self._look(backends[looked])
        self._looked = looked + 1 if looked + 1 < len(backends) else 0
        value = self._hash64(self._key(request), 0)
        backend = self._ring.backends[self._ring.find(value)]
        if backend is not None and not tried and self._has_room(backend):
            return backend
        return self._next(value, tried)

    def _look(self, backend: Backend) -> int:
        active = backend.active
        self._total += active - self._seen[backend]
        self._seen[backend] = active
        return active

    def _has_room(self, backend: Backend) -> bool:
        # Below the bound rounded up is the same as below the bound, for a whole number.
        active = self._look(backend)
        return active < self._parts[backend] * (self._total + 1) or not active

    def _next(self, value: int, tried: Collection[Backend]) -> Backend | None:
        """Clockwise to the first one with room; if there is none, as though all had."""
        passed_over = list(tried)
        first: Backend | None = None
        while (found := self._ring.find_other(value, passed_over)) >= 0:
            backend = self._ring.backends[found]
            if backend is None:
                break
            if self._has_room(backend):
                return backend
            first = first or backend
            passed_over.append(backend)
        return first

    def explain(self, request: Request) -> Grounds:
        """The order in which a key's backends come, and who is full; see `ExplainingStrategy`."""
        key = self._key(request)
        value = self._hash64(key, 0)
        order: list[Backend] = []
        scores = {}
        for rank in range(RANKED):
            found = self._ring.find_other(value, order)
            backend = self._ring.backends[found] if found >= 0 else None
            if backend is None:
                break
            order.append(backend)
            bound = max(1, ceil(self._parts[backend] * (self._total + 1)))
            room = "" if self._has_room(backend) else ", full"
            scores[backend] = Score(rank, f"{rank} on the ring, {backend.active} of {bound} in flight{room}")
        return Grounds(f"the order of the key {shown(key)} on the ring: the first that is not full has it", scores)

    def done(self, backend: Backend, outcome: Outcome) -> None:
        if backend in self._seen:  # it may have left the set while the attempt was under way
            self._look(backend)
