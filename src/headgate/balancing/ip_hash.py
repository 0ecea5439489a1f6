"""IP hash: a client's address decides, so the same client comes to the same backend.

Consistent hashing on a circle. Every backend has `PLACES` places for each unit of weight, drawn from its name alone; a
client goes to the next place clockwise. When a backend leaves only its own clients move, and when it comes back exactly
these return. No size, order or history of the set has a part in it, so all workers agree whatever each has seen. That
rules out whatever must be made anew for another size: modulo, maglev tables, another method above some n.

Large weights would need very many places, so a weight is written in sixteens and each digit has a circle of its own. A
client looks at each circle in use, the distance there is divided by what the digit is worth, and the smallest counts.
Distances to random places are exponentially distributed, and the smallest of exponential variables is won in proportion
to the rates: the sum over the circles is exact (weighted rendezvous hashing is the same race, run by each backend
alone). With weights below 16 there is one circle and one bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Container, Mapping, Sequence
from hashlib import shake_128
from itertools import filterfalse
from struct import Struct

from headgate.balancing.base import Backend, Context, Request, usable

# Shares differ from exact ones by about 1/sqrt(PLACES * weight), a tenth for weight 1. Four times as many would halve
# that and make a newcomer four times as dear (0.05 ms each, and 0.2 ms to put them in order among 100 backends).
PLACES = 100

_BITS = 4
_BASE = 1 << _BITS
_UNIT = 2.0**-64
_DRAW = Struct(f"<{PLACES}Q")
_BELOW = 1.0 - 2.0**-53  # 2**64 - 1 rounds up to 2**64
_BEHIND = 1.0 + 2.0**-52  # the least number above 1


def _digit(weight: int, power: int) -> int:
    return weight >> power * _BITS & _BASE - 1


class _Circle:
    """Places of backends on a circle of circumference 1."""

    __slots__ = ("owner", "places", "power", "worth")

    def __init__(self, power: int) -> None:
        self.power = power
        self.worth = 1 << power * _BITS
        # In order. The last is the first once more, one turn on, so that there is a next one for every point.
        self.places: list[float] = []
        self.owner: dict[float, Backend] = {}

    def change(self, before: Mapping[Backend, int], after: Mapping[Backend, int]) -> None:
        """Takes away and adds places where the digits of the weights differ."""
        gone: list[float] = []
        new: dict[float, Backend] = {}
        for backend in {**before, **after}:
            old, now = _digit(before.get(backend, 0), self.power), _digit(after.get(backend, 0), self.power)
            if old > now:
                gone += self._draw(backend, now, old)
            elif now > old:
                new.update(dict.fromkeys(self._draw(backend, old, now), backend))
        if not gone and not new:
            return
        places, owner = self.places, self.owner
        if places:
            del owner[places.pop()]
        if gone:
            for place in gone:
                del owner[place]
            places[:] = filterfalse(set(gone).__contains__, places)
        places += new  # two equal places among 2**53 are not worth a rule
        owner.update(new)
        places.sort()  # of runs that are mostly sorted already
        if places:
            end = max(places[0] + 1.0, _BEHIND)
            owner[end] = owner[places[0]]
            places.append(end)

    def _draw(self, backend: Backend, start: int, end: int) -> list[float]:
        """The places of the units from `start` to `end` of this digit."""
        # Drawn by SHAKE-128, whose output is fixed by a standard (FIPS 202): the same in every process and version.
        name = backend.name.encode("utf-8", "surrogateescape")
        seeds = [b"%d:%d:%s" % (self.power, unit, name) for unit in range(start, end)]
        return [place * _UNIT for seed in seeds for place in _DRAW.unpack(shake_128(seed).digest(_DRAW.size))]

    def next(self, at: float, here: Container[Backend], tried: Container[Backend]) -> tuple[float, Backend] | None:
        """(distance, backend) of the first place clockwise from `at` that counts."""
        places = self.places
        turn = len(places) - 1
        start = bisect_right(places, at)
        for step in range(start, start + turn):
            place = places[step % turn]
            backend = self.owner[place]
            if backend in here and backend not in tried:
                return place + step // turn - at, backend
        return None


class IpHash:
    """The same client to the same backend while it is there; else to where it would go without it. O(log n).

    Backends that leave the set keep their places for the time being and are passed over: most come back soon, and then
    neither change costs anything. Only when more weight is away than here are their places given up.

    A change of weight moves clients from or to the backend whose weight it is, and no others, within a digit; where a
    digit carries over (15 to 16) the backend's own clients are drawn anew.
    """

    def __init__(self, context: Context) -> None:
        self._hash64 = context.hash64
        self._here: frozenset[Backend] = frozenset()
        self._placed: dict[Backend, int] = {}  # those with places, and the weight these stand for
        self._all_circles: list[_Circle] = []  # by power
        self._circles: list[_Circle] = []  # on which somebody is here

    def update(self, backends: Sequence[Backend]) -> None:
        here = {backend: backend.weight for backend in usable(backends)}
        names = {backend.name for backend in here}
        # A name has its places once: a newcomer of that name takes them over.
        away = {
            backend: weight
            for backend, weight in self._placed.items()
            if backend not in here and backend.name not in names
        }
        if sum(away.values()) > sum(here.values()):
            away = {}
        placed = {**here, **away}
        if placed != self._placed:
            while 1 << len(self._all_circles) * _BITS <= max(placed.values(), default=0):
                self._all_circles.append(_Circle(len(self._all_circles)))
            for circle in self._all_circles:
                circle.change(self._placed, placed)
            self._placed = placed
        self._here = frozenset(here)
        self._circles = [
            circle for circle in self._all_circles if any(_digit(weight, circle.power) for weight in here.values())
        ]

    def position(self, request: Request) -> float:
        """Which priority level serves this client; see `AffineStrategy`."""
        return self._hash64(request.client_bytes, 1) * _UNIT * _BELOW

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        at = self._hash64(request.client_bytes, 0) * _UNIT
        circles = self._circles
        if len(circles) == 1 and not tried:  # the usual case, without a detour
            circle = circles[0]
            places = circle.places
            backend = circle.owner[places[bisect_right(places, at)]]
            if backend in self._here:
                return backend
        nearest = 2.0
        best: Backend | None = None
        for circle in circles:
            found = circle.next(at, self._here, tried)
            if found is not None and found[0] / circle.worth < nearest:
                nearest = found[0] / circle.worth
                best = found[1]
        return best
