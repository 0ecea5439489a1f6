"""Stand-ins for what the engine gives a strategy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from random import Random

from headgate.balancing.base import Backend, Context, Options, Strategy
from headgate.balancing.registry import build


class FakeBackend:
    """Compared by identity, like the engine's."""

    def __init__(self, name: str, weight: int = 1, active: int = 0, slot: int = 0) -> None:
        self.name = name
        self.url = f"http://{name}:80"
        self.weight = weight
        self.share_of_weight = 1.0
        self.active = active
        self.slot = slot

    @property
    def share(self) -> float:
        return self.weight * self.share_of_weight

    def __repr__(self) -> str:
        return f"{self.name}*{self.weight}"


class FakeRequest:
    method, host, idempotent = "GET", b"example.org", True

    def __init__(
        self,
        client: int = 1,
        path: bytes = b"/",
        headers: Mapping[str, bytes] | None = None,
        cookies: Mapping[str, bytes] | None = None,
    ) -> None:
        self.client_bytes = bytes(10) + b"\xff\xff" + client.to_bytes(4, "big")
        self.client = ".".join(str(part) for part in client.to_bytes(4, "big"))
        self.path = path
        self._headers = headers or {}
        self._cookies = cookies or {}

    def header(self, name: str) -> bytes | None:
        return self._headers.get(name)

    def cookie(self, name: str) -> bytes | None:
        return self._cookies.get(name)


class FakeOutcome:
    kind, status, first_byte_s, total_s, ok = 0, 200, 0.001, 0.002, True


REQUEST = FakeRequest()
OUTCOME = FakeOutcome()


def hash64(data: bytes, seed: int = 0) -> int:
    """In the place of the engine's compiled hash."""
    return int.from_bytes(blake2b(data, digest_size=8, key=seed.to_bytes(8, "big")).digest(), "big")


def context(seed: int = 1) -> Context:
    return Context(Random(seed), lambda: 0.0, hash64)


# What must be given; one balancer has all backends in its subset.
REQUIRED: dict[str, Options] = {"random_subset": {"balancer": 0, "balancers": 1}}


def make(name: str, backends: Sequence[Backend] = (), seed: int = 1, **options: object) -> Strategy:
    strategy = build(name, context(seed), {**REQUIRED.get(name, {}), **options})
    strategy.update(backends)
    return strategy


def several(n: int, weights: Sequence[int] = (1,)) -> list[FakeBackend]:
    """n backends named a, b, … (b0, b1, … where letters do not suffice), weights repeated as needed."""
    names = [chr(ord("a") + i) for i in range(n)] if n <= 26 else [f"b{i}" for i in range(n)]
    return [FakeBackend(name, weights[i % len(weights)], slot=i) for i, name in enumerate(names)]


def picks(strategy: Strategy, n: int, tried: Sequence[Backend] = ()) -> str:
    """Names of the next n picks, each by another client."""
    return " ".join(picked.name if picked else "-" for picked in _run(strategy, n, tried))


def shares(strategy: Strategy, n: int) -> Counter[Backend | None]:
    return Counter(_run(strategy, n, ()))


def _run(strategy: Strategy, n: int, tried: Sequence[Backend]) -> Iterable[Backend | None]:
    return [strategy.pick(FakeRequest(client), tried) for client in range(n)]
