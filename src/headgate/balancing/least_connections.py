"""Least connections: the fewest attempts in flight per share.

Up to `SCAN_LIMIT` backends are looked at one by one for each pick, which is exact. Above it the backends stand in
buckets by load, as it was when last seen. The true counts move behind its back: sessions bound by a cookie go past
`pick`, and other workers have attempts of their own. So a bucket is only believed after a look at `active`:

- the count rose: noticed when the backend is next in the lowest bucket, and put right there;
- the count fell: it would never be looked at. `done` tells of our own attempts that ended; for the rest each pick looks
  at one more backend in turn, so that nothing stays unnoticed for longer than n picks.

Each attempt moves its backend up once and down once at most, so a pick costs O(1) moves; a load that no backend had
before costs one step in a heap of the loads there are, which are few.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from heapq import heappop, heappush
from math import inf

from headgate.balancing.base import Backend, Context, Grounds, Outcome, Request, Score, rotated, usable
from headgate.balancing.signature import Takes
from headgate.engine.reading import in_flight

# As plain Python the scan costs about 70 ns a backend and the buckets 0.5 µs at any size, so they meet here.
SCAN_LIMIT = 8
# More than any backend has in flight.
MANY = 1 << 29


class _Place:
    """A backend and what is believed of it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.share = backend.share
        self.count = backend.active + 1  # attempts in flight if the next one came here
        self.after: list[_Place] = []  # the order of the scan that follows a pick of this one


class _Buckets:
    """Places by load, in each bucket the one that waited longest first."""

    def __init__(self, places: Sequence[_Place]) -> None:
        self._buckets: dict[float, OrderedDict[_Place, None]] = {}
        self._loads: list[float] = []  # a heap; a load whose bucket ran empty is taken out when it comes to the top
        for place in places:
            self.add(place)

    def add(self, place: _Place) -> None:
        load = place.count / place.share
        bucket = self._buckets.get(load)
        if bucket is None:
            bucket = self._buckets[load] = OrderedDict()
            heappush(self._loads, load)
        bucket[place] = None

    def remove(self, place: _Place) -> None:
        del self._buckets[place.count / place.share][place]

    def move(self, place: _Place, count: int) -> None:
        self.remove(place)
        place.count = count
        self.add(place)

    def lowest(self) -> Backend | None:
        """The backend of lowest load, after a look at its true count; it goes to the end of its bucket."""
        loads = self._loads
        while loads:
            bucket = self._buckets[loads[0]]
            for place in bucket:
                active = in_flight(place.backend)
                if active < place.count:
                    bucket.move_to_end(place)
                    return place.backend
                self.move(place, active + 1)
                break
            else:
                del self._buckets[heappop(loads)]
        return None

    def ranking(self) -> list[_Place]:
        return [place for load in sorted(self._buckets) for place in self._buckets[load]]


class LeastConnections:
    """Lowest (active + 1) / share; on a tie the one that waited longest."""

    __signature__ = Takes(anywhere=True)

    def __init__(self, context: Context | None = None) -> None:
        self._places: list[_Place] = []
        self._place: dict[Backend, _Place] = {}
        self._scan: list[_Place] = []  # in the order in which ties are decided
        self._equal = True  # all shares are
        self._buckets: _Buckets | None = None
        self._looked = 0

    def update(self, backends: Sequence[Backend]) -> None:
        order = usable(backends)
        ranking = self._scan if self._buckets is None else self._buckets.ranking()
        first = rotated(order, [place.backend for place in ranking], 0)
        self._places = places = [_Place(backend) for backend in order]
        self._place = {place.backend: place for place in places}
        self._scan = places[first:] + places[:first]
        self._equal = len({place.share for place in places}) < 2
        self._looked = 0
        self._buckets = None
        if len(places) > SCAN_LIMIT:
            self._buckets = _Buckets(self._scan)
        else:
            for index, place in enumerate(places):
                place.after = places[index + 1 :] + places[: index + 1]

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        if self._buckets is not None:
            return self._pick_from(self._buckets, tried)
        scan = self._scan
        if tried:
            scan = [place for place in scan if place.backend not in tried]
        if not scan:
            return None
        if self._equal:
            fewest = MANY
            for place in scan:
                active = in_flight(place.backend)
                if active < fewest:
                    best = place
                    if not active:
                        break
                    fewest = active
        else:
            lowest = inf
            for place in scan:
                load = (in_flight(place.backend) + 1.0) / place.share
                if load < lowest:
                    best = place
                    lowest = load
        self._scan = best.after
        return best.backend

    def explain(self, request: Request) -> Grounds:
        """The loads that are compared; see `ExplainingStrategy`."""
        return Grounds(
            "(in flight + 1) per share: the lowest wins, on a tie the one that waited longest",
            {
                place.backend: Score(
                    (place.backend.active + 1) / place.share,
                    f"({place.backend.active} in flight + 1) / share {place.share:g}",
                )
                for place in self._places
            },
        )

    @property
    def done(self) -> Callable[[Backend, Outcome], None] | None:
        """Only the buckets have to be told of attempts that ended."""
        return None if self._buckets is None else self._ended

    def _ended(self, backend: Backend, outcome: Outcome) -> None:
        place = self._place.get(backend)
        # It may have left the set while the attempt was under way.
        if self._buckets is not None and place is not None and (count := in_flight(backend) + 1) < place.count:
            self._buckets.move(place, count)

    def _pick_from(self, buckets: _Buckets, tried: Collection[Backend]) -> Backend | None:
        places = self._places
        looked = self._looked
        place = places[looked]
        looked += 1
        self._looked = looked if looked < len(places) else 0
        count = in_flight(place.backend) + 1
        if count < place.count:
            buckets.move(place, count)
        if not tried:
            return buckets.lowest()
        aside = [self._place[backend] for backend in dict.fromkeys(tried) if backend in self._place]
        for place in aside:
            buckets.remove(place)
        chosen = buckets.lowest()
        for place in aside:
            buckets.add(place)
        return chosen
