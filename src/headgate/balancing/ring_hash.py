"""Ring hash: the same key to the same backend; when one leaves, only its own keys move.

The ring itself is `headgate.engine.tables.Circle`: each backend has the same number of places, a key goes to the one
with the smallest distance / share. So shares need no places of their own, 100 backends are put in order within 1 ms,
and a backend that starts slowly draws its keys in by and by, each once, the same ones in every worker and every time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from zlib import crc32

from headgate.balancing import options
from headgate.balancing.base import Backend, Context, Grounds, Request, usable
from headgate.balancing.hash_key import RANKED, level_position, ranking, reader, shown
from headgate.balancing.signature import Takes
from headgate.engine.reading import hashed
from headgate.engine.tables import Circle, Continuum

# Shares differ from exact ones by 1/sqrt(places), 4 %; four times as many would halve that, and cost four times as much
# at each change (512: about 0.5 ms for 100 backends).
PLACES = 512
# nginx's and Ketama's, for each unit of weight.
KETAMA_POINTS = 160


def identity(backend: Backend) -> bytes:
    """What a backend's places are drawn from: its name, so that a restart or a new address changes nothing."""
    return backend.name.encode("utf-8", "surrogateescape")


class Ring:
    """Backends on a `Circle`.

    Those that leave keep their places for the time being, with no share: most come back soon, and then neither change
    costs more than setting shares. A slow start costs no more either. Newcomers, and those of a new weight, are added
    behind the others. The whole is put in order anew when a quarter of it was added, or more are away than here.
    """

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._index: dict[bytes, int] = {}
        self._weights: list[int] = []
        self.circle = Circle([], [])
        """What keys are looked up on; another one after some updates."""
        self.backends: list[Backend | None] = []
        """By index; None = away."""
        self._at: dict[Backend, int] = {}
        self.find = self.circle.find

    def update(self, backends: Sequence[Backend]) -> None:
        names = [identity(backend) for backend in backends]
        new = [
            backend
            for name, backend in zip(names, backends, strict=True)
            if (at := self._index.get(name)) is None or self._weights[at] != backend.weight
        ]
        known = len(self._weights)
        if known > 2 * len(names) or 4 * (self.circle.late + len(new)) > known:
            self._index = {name: at for at, name in enumerate(names)}
            self._weights = [backend.weight for backend in backends]
            self.circle = Circle(names, self._weights, self._places)
            self.find = self.circle.find
        elif new:
            for at, backend in enumerate(new, known):
                self._index[identity(backend)] = at
            self._weights += [backend.weight for backend in new]
            self.circle.add([identity(backend) for backend in new], [backend.weight for backend in new])
        self.backends = [None] * len(self._weights)
        shares = [0.0] * len(self._weights)
        self._at = {}
        for name, backend in zip(names, backends, strict=True):
            place = self._at[backend] = self._index[name]
            self.backends[place] = backend
            shares[place] = backend.share
        self.circle.set_shares(shares)

    def find_other(self, key: int, tried: Collection[Backend]) -> int:
        """Index of where a key goes as if those tried were not there; -1 if nobody is left."""
        return self.circle.find_other(key, [self._at[backend] for backend in tried if backend in self._at])

    @property
    def places(self) -> int:
        """In all, those of backends that are away included."""
        return len(self.circle)


class KetamaRing:
    """The same for nginx's ring."""

    def __init__(self) -> None:
        self._continuum = Continuum([])
        self.backends: list[Backend | None] = []
        self.find = self._continuum.find

    def update(self, backends: Sequence[Backend]) -> None:
        self.backends = list(backends)
        self._continuum = continuum(backends)
        self.find = self._continuum.find

    def find_other(self, key: int, tried: Collection[Backend]) -> int:
        """The owner of the next point of somebody not tried; -1 if nobody is left."""
        return self._continuum.find_other(key, [at for at, backend in enumerate(self.backends) if backend in tried])


class RingHash:
    """Consistent hashing (D. Karger et al. 1997) by client, header, cookie, path or query argument. O(1).

    Keys spread by share up to a deviation of 1/sqrt(places); which requests come with which key is not the balancer's
    to choose, so no shares are promised. No size, order or history of the set has a part in it: all workers and all
    balancers agree, whatever each has seen. An attempt that fails goes to where the key would go without that backend.

    key: "client" (the default), "path", "header:NAME", "cookie:NAME" or "query:NAME"; `header` and `cookie` name one
    shorter. A request without it goes by its client's address.
    places: for each backend; more make shares more exact.
    compatible: "nginx" makes the same choice as `hash KEY consistent` there, point for point (ketama with CRC-32, 160
    points for each unit of weight), for moving without moving keys. A backend is called there what follows "//" in its
    url. Weights are whole there, so a slow start goes in steps of one point of 160.
    """

    __signature__ = Takes(key=None, header=None, cookie=None, places=None, compatible=None)

    def __init__(
        self,
        context: Context,
        *,
        key: str | None = None,
        header: str | None = None,
        cookie: str | None = None,
        places: int | None = None,
        compatible: str | None = None,
    ) -> None:
        read = options.read("ring_hash", key=key, header=header, cookie=cookie, places=places, compatible=compatible)
        like_nginx = compatible is not None
        self._key = reader(read, text=like_nginx)
        self._hash64 = context.hash64
        self._hash: Callable[[bytes, int], int] = crc32 if like_nginx else context.hash64
        self._ring: Ring | KetamaRing = KetamaRing() if like_nginx else Ring(places or PLACES)
        self._find = self._ring.find

    def update(self, backends: Sequence[Backend]) -> None:
        self._ring.update(usable(backends))
        self._find = self._ring.find

    def position(self, request: Request) -> float:
        """Which priority level serves this request's key; see `AffineStrategy`."""
        return level_position(self._hash64, self._key(request))

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        value = hashed(self._hash, self._key(request), 0)
        found = self._ring.find_other(value, tried) if tried else self._find(value)
        return self._ring.backends[found] if found >= 0 else None

    def explain(self, request: Request) -> Grounds:
        """The order in which a key's backends come; see `ExplainingStrategy`."""
        key = self._key(request)
        value = self._hash(key, 0)
        order: list[Backend] = []
        for _ in range(RANKED):
            found = self._ring.find_other(value, order)
            backend = self._ring.backends[found] if found >= 0 else None
            if backend is None:
                break
            order.append(backend)
        return Grounds(f"the order of the key {shown(key)} on the ring: 0 has it", ranking(order))


def continuum(backends: Sequence[Backend]) -> Continuum:
    """nginx's ring (ngx_http_upstream_hash_module.c, `hash ... consistent`): CRC-32 of host, NUL, port and the point
    before; of two equal points the first counts."""
    points: dict[int, int] = {}
    for index, backend in enumerate(backends):
        server = backend.url.partition("://")[2] or backend.url
        if backend.url.startswith("unix:"):
            host, port = backend.url[5:], ""
        else:
            host, colon, port = server.rpartition(":")
            if not colon or not port.isdigit():
                host, port = server, ""
        base = crc32(host.encode("utf-8", "surrogateescape") + b"\0" + port.encode("ascii"))
        point = 0
        for _ in range(max(1, round(backend.share * KETAMA_POINTS))):
            point = crc32(point.to_bytes(4, "little"), base)
            points.setdefault(point, index)
    return Continuum(sorted(points.items()))
