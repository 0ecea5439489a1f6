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


class _Load:
    """A backend, and its attempts in flight when it was last looked at."""

    __slots__ = ("active", "backend", "next", "part")

    def __init__(self, backend: Backend, part: float) -> None:
        self.backend = backend
        self.active = backend.active
        self.part = part  # bound * share / all shares
        self.next = self  # whose turn comes after it


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
        self._find = self._ring.find
        self._loads: dict[Backend, _Load] = {}
        self._by_place: list[_Load | None] = []  # by index on the ring; None = away
        self._turn: _Load | None = None  # whom to look at with the next pick
        self._total = 0

    def update(self, backends: Sequence[Backend]) -> None:
        order = usable(backends)
        self._ring.update(order)
        self._find = self._ring.find
        unit = self._bound / sum(backend.share for backend in order) if order else 0.0
        loads = [_Load(backend, backend.share * unit) for backend in order]
        for load, following in zip(loads, loads[1:] + loads[:1], strict=True):
            load.next = following
        self._loads = {load.backend: load for load in loads}
        self._by_place = [None if backend is None else self._loads[backend] for backend in self._ring.backends]
        self._turn = loads[0] if loads else None
        self._total = sum(load.active for load in loads)

    def position(self, request: Request) -> float:
        """Which priority level serves this request's key; see `AffineStrategy`."""
        return level_position(self._hash64, self._key(request))

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        load = self._turn
        if load is None:
            return None
        self._turn = load.next
        active = load.backend.active
        total = self._total + active - load.active
        load.active = active
        key, hash64, find = self._key, self._hash64, self._find
        value = hash64(key(request), 0)
        owner = self._by_place[find(value)]
        if owner is not None and not tried:
            backend = owner.backend
            active = backend.active
            total += active - owner.active
            owner.active = active
            # Below the bound rounded up is the same as below the bound, for a whole number.
            if not active or active < owner.part * (total + 1):
                self._total = total
                return backend
        self._total = total
        return self._next(value, tried)

    def _has_room(self, load: _Load) -> bool:
        active = load.backend.active
        self._total += active - load.active
        load.active = active
        return active < load.part * (self._total + 1) or not active

    def _next(self, value: int, tried: Collection[Backend]) -> Backend | None:
        """Clockwise to the first one with room; if there is none, as though all had."""
        passed_over = list(tried)
        first: Backend | None = None
        while (found := self._ring.find_other(value, passed_over)) >= 0:
            load = self._by_place[found]
            if load is None:
                break
            if self._has_room(load):
                return load.backend
            first = first or load.backend
            passed_over.append(load.backend)
        return first

    def explain(self, request: Request) -> Grounds:
        """The order in which a key's backends come, and who is full; see `ExplainingStrategy`."""
        key = self._key(request)
        value = self._hash64(key, 0)
        order: list[Backend] = []
        scores = {}
        for rank in range(RANKED):
            found = self._ring.find_other(value, order)
            load = self._by_place[found] if found >= 0 else None
            if load is None:
                break
            backend = load.backend
            order.append(backend)
            bound = max(1, ceil(load.part * (self._total + 1)))
            room = "" if self._has_room(load) else ", full"
            scores[backend] = Score(rank, f"{rank} on the ring, {backend.active} of {bound} in flight{room}")
        return Grounds(f"the order of the key {shown(key)} on the ring: the first that is not full has it", scores)

    def done(self, backend: Backend, outcome: Outcome) -> None:
        try:
            load = self._loads[backend]
        except KeyError:
            return  # it left the set while the attempt was under way
        active = backend.active
        self._total += active - load.active
        load.active = active
