"""What a pick costs: microseconds per call for each strategy, with 3 and with 1,000 backends.

Run with `python bench/strategies.py`. Picks are timed in batches; between them attempts begin and end, so that the
strategies that look at the load have something to look at. The time of `done` is part of the figure where there is
one. Of all batches the lower quartile is shown: what disturbs a batch only ever makes it longer.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from random import Random
from statistics import quantiles
from zlib import crc32

from headgate.balancing.base import Backend, Context, Outcome, Strategy
from headgate.balancing.registry import BUILT_IN, build

IN_FLIGHT = 64
BATCH = 16
BATCHES = 2_000
UPDATES = 25
# One of ten balancers: its subset is small, whatever the pool.
OPTIONS: dict[str, dict[str, object]] = {"random_subset": {"balancer": 3, "balancers": 10}}

try:
    hash64: Callable[[bytes, int], int] = import_module("headgate.engine.hashing").hash64
except ImportError:  # the engine is not built: a figure all the same, for a hash of about the same cost

    def hash64(data: bytes, seed: int = 0) -> int:
        return crc32(data, seed) * 0x9E37_79B9 & 0xFFFF_FFFF_FFFF_FFFF


class _Backend:
    __slots__ = ("active", "name", "share", "slot", "url", "weight")

    def __init__(self, slot: int, weight: int) -> None:
        self.slot = slot
        self.name = self.url = f"http://10.0.{slot // 250}.{slot % 250 + 1}:8080"
        self.weight = weight
        self.share = float(weight)
        self.active = 0


class _Request:
    method, path, host, client, idempotent = "GET", b"/", b"example.org", "192.0.2.7", True

    def __init__(self, number: int) -> None:
        self.client_bytes = bytes(10) + b"\xff\xff" + (0xC0000200 + number).to_bytes(4, "big")

    def header(self, name: str) -> bytes | None:
        return None

    def cookie(self, name: str) -> bytes | None:
        return None


class _Outcome:
    kind, status, first_byte_s, total_s, ok = 0, 200, 0.001, 0.002, True


def pick_cost(strategy: Strategy, requests: Sequence[_Request]) -> float:
    """Seconds for one pick and, where there is one, one `done`."""
    pick = strategy.pick
    done: Callable[[Backend, Outcome], None] | None = getattr(strategy, "done", None)
    clock = time.perf_counter
    outcome = _Outcome()
    flying: deque[_Backend] = deque()
    times = []
    for number in range(BATCHES):
        batch = requests[number * BATCH % len(requests) :][:BATCH]
        start = clock()
        picked = [pick(request, ()) for request in batch]
        elapsed = clock() - start
        for backend in picked:
            assert isinstance(backend, _Backend)
            backend.active += 1
            flying.append(backend)
        ended = [flying.popleft() for _ in range(len(flying) - IN_FLIGHT)]
        for backend in ended:
            backend.active -= 1
        if done is not None:
            start = clock()
            for backend in ended:
                done(backend, outcome)
            elapsed += clock() - start
        times.append(elapsed / BATCH)
    return quantiles(times, n=4)[0]


def cost(name: str, n: int, weighted: bool, requests: Sequence[_Request]) -> tuple[float, float]:
    """(seconds for a pick, seconds for an update that takes one backend out or puts it back)."""
    strategy = build(name, Context(Random(1), time.monotonic, hash64), OPTIONS.get(name))
    backends = [_Backend(slot, 1 + slot % 5 if weighted else 1) for slot in range(n)]
    strategy.update(backends)
    return pick_cost(strategy, requests), min(_update_cost(strategy, backends) for _ in range(UPDATES))


def _update_cost(strategy: Strategy, backends: Sequence[_Backend]) -> float:
    fewer = backends[:-1]
    start = time.perf_counter()
    strategy.update(fewer)
    strategy.update(backends)
    return (time.perf_counter() - start) / 2


def main() -> int:
    requests = [_Request(number) for number in range(64 * BATCH)]
    print(f"{'strategy':<22}{'weights':<9}{'pick, 3':>10}{'pick, 1000':>12}{'update, 100':>13}{'update, 1000':>14}")
    for name in BUILT_IN:
        for weighted in (False, True):
            small, _ = cost(name, 3, weighted, requests)
            _, hundred = cost(name, 100, weighted, requests)
            large, thousand = cost(name, 1000, weighted, requests)
            print(
                f"{name:<22}{'1 to 5' if weighted else 'equal':<9}"
                f"{small * 1e6:>7.2f} µs{large * 1e6:>9.2f} µs{hundred * 1e3:>10.2f} ms{thousand * 1e3:>11.2f} ms"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
