"""Bounded hash: the same key to the same backend, as long as that has no more than its part of the load."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Outcome, Request, Score, usable
from headgate.balancing.hash_key import RANKED, level_position, reader, shown
from headgate.balancing.ring_hash import PLACES, Ring
from headgate.balancing.signature import Takes
from headgate.engine.reading import hashed, in_flight

# A quarter above the mean. The paper's trade: at 1 + e a key moves on in about 1 of 1/e**2 cases; HAProxy and Vimeo,
# where it comes from, recommend 1.25 to 1.5.
BOUND = 1.25


# Of so many keys whose backend is full it is kept who comes after it: more are not in great demand at a time.
MOST_ORDERS = 64


class Load:
    """A backend, and its attempts in flight when it was last looked at."""

    def __init__(self, backend: Backend, part: float) -> None:
        self.backend = backend
        self.active = backend.active
        self.part = part  # bound * share / all shares


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

    __signature__ = Takes(key=None, header=None, cookie=None, places=None, bound=BOUND)

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
        self._circle = self._ring.circle
        self._loads: dict[Backend, Load] = {}
        self._by_place: list[Load | None] = []  # by index on the ring; None = away
        self._in_turn: list[Load] = []
        self._turn = 0  # whom of them to look at with the next pick
        self._total = 0
        # Hash of a key whose backend was full -> in whose order it goes on, as far as it was asked for.
        self._orders: dict[int, list[Load]] = {}

    def update(self, backends: Sequence[Backend]) -> None:
        order = usable(backends)
        self._ring.update(order)
        self._circle = self._ring.circle
        unit = self._bound / sum(backend.share for backend in order) if order else 0.0
        self._in_turn = [Load(backend, backend.share * unit) for backend in order]
        self._loads = {load.backend: load for load in self._in_turn}
        self._by_place = [None if backend is None else self._loads[backend] for backend in self._ring.backends]
        self._turn = 0
        self._total = sum(load.active for load in self._in_turn)
        self._orders = {}

    def position(self, request: Request) -> float:
        """Which priority level serves this request's key; see `AffineStrategy`."""
        return level_position(self._hash64, self._key(request))

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        if not self._in_turn:
            return None
        self._look(self._in_turn[self._turn])
        self._turn = self._turn + 1 if self._turn + 1 < len(self._in_turn) else 0
        value = hashed(self._hash64, self._key(request), 0)
        if tried:
            return self._pick_untried(value, tried)
        owner = self._by_place[self._circle.find(value)]
        if owner is None or self._has_room(owner):
            return owner.backend if owner is not None else None
        return self._pick_other(value, owner)

    def _look(self, load: Load) -> None:
        active = in_flight(load.backend)
        self._total += active - load.active
        load.active = active

    def _has_room(self, load: Load) -> bool:
        self._look(load)
        # Below the bound rounded up is the same as below the bound, for a whole number.
        return load.active < load.part * (self._total + 1.0) or not load.active

    def _pick_other(self, value: int, owner: Load) -> Backend:
        """Clockwise to the first one with room; if there is none, as though all had. The order is kept: for each
        request of a key in great demand much the same ones are full."""
        order = self._orders.get(value)
        if order is None:
            if len(self._orders) >= MOST_ORDERS:
                self._orders.clear()
            order = self._orders[value] = [owner]
        at = 1
        while at < len(order) or self._goes_on(value, order):
            load = order[at]
            if self._has_room(load):
                return load.backend
            at += 1
        return owner.backend

    def _goes_on(self, value: int, order: list[Load]) -> bool:
        """One more in the order, if there is another."""
        found = self._ring.find_other(value, [load.backend for load in order])
        load = self._by_place[found] if found >= 0 else None
        if load is not None:
            order.append(load)
        return load is not None

    def _pick_untried(self, value: int, tried: Collection[Backend]) -> Backend | None:
        """The same for a retry, as if those tried were not there."""
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
        load = self._loads.get(backend)
        if load is not None:  # else it left the set while the attempt was under way
            self._look(load)
