"""Maglev: a key to a backend through one table, shared out very evenly."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Request, usable
from headgate.balancing.hash_key import RANKED, level_position, ranking, reader, shown
from headgate.balancing.ring_hash import identity
from headgate.balancing.signature import Takes
from headgate.engine.reading import hashed
from headgate.engine.tables import Maglev as Table

# The paper's small size and Envoy's default: shares are exact to 1 % for up to 600 equal backends.
TABLE_SIZE = 65_537
# With k of n tried a hash misses with k/n; after so many misses what is left is better listed than hashed for.
REHASHES = 20


class Maglev:
    """D. Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016, section 3.4. O(1).

    The table gives each backend its share nearly exactly, where a ring misses it by 4 %; so keys, if there are many,
    spread evenly. In return a change moves a few keys (about 1 in 100) between backends that stayed. Which requests
    come with which key is not the balancer's to choose, so no shares of requests are promised.

    Built from names and shares in the order of names: all workers and all balancers with the same set agree. A slow
    start gives entries of the table step by step. A failed attempt goes on by another hash of the same key.

    key, header, cookie: as for ring_hash.
    table_size: a prime, better 100 times the number of backends or more.
    """

    __signature__ = Takes(key=None, header=None, cookie=None, table_size=None)

    def __init__(
        self,
        context: Context,
        *,
        key: str | None = None,
        header: str | None = None,
        cookie: str | None = None,
        table_size: int | None = None,
    ) -> None:
        read = options.read("maglev", key=key, header=header, cookie=cookie, table_size=table_size)
        self._key = reader(read)
        self._hash64 = context.hash64
        self._size = table_size or TABLE_SIZE
        self._backends: list[Backend] = []
        self._table = Table([], [], self._size)

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = sorted(usable(backends), key=identity)
        names = [identity(backend) for backend in self._backends]
        self._table = Table(names, [backend.share for backend in self._backends], self._size)

    def position(self, request: Request) -> float:
        """Which priority level serves this request's key; see `AffineStrategy`."""
        return level_position(self._hash64, self._key(request))

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        key = self._key(request)
        found = self._table.find(hashed(self._hash64, key, 0))
        if found < 0:
            return None
        backend = self._backends[found]
        if tried and backend in tried:
            return self._pick_untried(key, tried)
        return backend

    def explain(self, request: Request) -> Grounds:
        """The order in which a key's backends come; see `ExplainingStrategy`."""
        order: list[Backend] = []
        while len(order) < RANKED and (backend := self.pick(request, order)) is not None:
            order.append(backend)
        return Grounds(f"the order of the key {shown(self._key(request))} in the table: 0 has it", ranking(order))

    def _pick_untried(self, key: bytes, tried: Collection[Backend]) -> Backend | None:
        for attempt in range(1, REHASHES):
            backend = self._backends[self._table.find(self._hash64(key, attempt))]
            if backend not in tried:
                return backend
        left = [backend for backend in self._backends if backend not in tried]
        return left[self._hash64(key, REHASHES) % len(left)] if left else None
