"""A dashboard with a past that was made up: the real admin API over a real controller with real health checks, but the
traffic's counters are written by this file, a day of them at once. For screenshots, and for tests of the page alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from headgate.admin.feed import Feed
from headgate.admin.service import Service
from headgate.config.schema import Admin
from headgate.config.validate import validate
from headgate.observe.names import route_name

from ..unit.admin.world import TOKEN, World, bound


class Clock:
    """Stands still at some moment of the past until it is told to go on, and then runs."""

    def __init__(self, ago_s: float) -> None:
        self._offset = -ago_s
        self._stands: float | None = time.monotonic()
        self._wall = time.time() - time.monotonic()

    def now(self) -> float:
        return (time.monotonic() if self._stands is None else self._stands) + self._offset

    def wall(self) -> float:
        return self.now() + self._wall

    def step(self, for_s: float) -> None:
        self._offset += for_s

    def go(self) -> None:
        self._offset, self._stands = 0.0, None


class Traffic:
    """Makes up what workers would have counted. rate: requests a second in the middle of the day."""

    def __init__(self, world: World, rate: float) -> None:
        self.world = world
        self.rate = rate
        self.random = random.Random(7)
        self.slow: dict[str, float] = {}
        """Names of backends that are slower than others, and how many times."""
        self.failing: dict[str, float] = {}

    def second(self, wall: float, requests: int | None = None) -> None:
        """One second's requests, spread over those that are routable."""
        segment = self.world.segment
        draw = self.random
        records = self.world.controller.backends()
        working = [one for one in records if (one.routable or not one.checked) and one.weight > 0]
        daily = 0.6 + 0.4 * math.sin(wall / 86400 * 2 * math.pi)
        wave = 1 + 0.08 * math.sin(wall / 37)
        wanted = requests if requests is not None else int(draw.gauss(self.rate * daily * wave, self.rate * 0.03))
        slots = self.world.controller.pool_slots
        routes = self.world.controller.names.routes
        leading: dict[str, list[str]] = {}
        for route in self.world.controller.config.routes:
            leading.setdefault(route.pool, []).append(route_name(route))
        for _ in range(max(0, wanted) if working else 0):
            one = draw.choice(working)
            ms = draw.lognormvariate(2.1, 0.45) * self.slow.get(one.config.name, 1.0)
            failed = draw.random() < self.failing.get(one.config.name, 0.0002)
            segment.add_worker(0, "requests")
            segment.add_worker(0, "status", index=5 if failed else 2)
            segment.add_worker(0, "kind", index=8 if failed else 0)
            segment.add_worker(0, "answered", 0 if failed else 1)
            segment.add_worker(0, "bytes_sent", 4200)
            segment.add_backend(0, one.slot, "attempts")
            segment.add_backend(0, one.slot, "failed" if failed else "succeeded")
            segment.add_backend(0, one.slot, "status", index=5 if failed else 2)
            segment.add_first_byte(0, one.slot, int(ms * 0.8e6))
            segment.add_latency(0, slots[one.pool], int(ms * 1e6))
            segment.add_route(0, routes[draw.choice(leading[one.pool])], 5 if failed else 2, int(ms * 1e6))
        flight = max(0, int(draw.gauss(wanted * 0.012, 0.7)))
        segment.set_worker(0, "in_flight", flight)
        segment.set_worker(0, "connections", 40 + int(wanted * 0.3))


class Stage:
    """What a test or a screenshot works with. within: runs something in the API's thread."""

    def __init__(self, world: World, feed: Feed, traffic: Traffic, address: str, within: Callable[..., Any]) -> None:
        self.world = world
        self.feed = feed
        self.traffic = traffic
        self.address = address
        self.url = f"http://{address}/"
        self.within = within
        self.sockets: dict[str, socket.socket] = {}
        self.streaming = True
        """Do requests come, each second, from now on?"""

    def kill(self, name: str) -> None:
        """Nothing listens there any more."""
        sock = self.sockets.pop(name)

        def close() -> None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

        self.within(close)


def _accept(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        sock.accept()[0].close()


def pools_of(counts: Mapping[str, int], **keys: object) -> tuple[dict[str, Any], dict[str, socket.socket]]:
    """Pools with so many backends each, which accept connections; their sockets by name."""
    pools: dict[str, Any] = {}
    sockets = {}
    for pool, count in counts.items():
        backends = []
        for number in range(1, count + 1):
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            sock.listen(16)
            sock.setblocking(False)
            name = f"{pool}-{number:0{len(str(count))}d}"
            sockets[name] = sock
            backends.append({"url": f"http://127.0.0.1:{sock.getsockname()[1]}", "name": name})
        pools[pool] = {
            "backends": backends,
            "health": {"type": "tcp", "interval": "1s", "timeout": "1s", "fall": 2, "rise": 1},
            "strategy": "p2c",
            **keys,
        }
    return pools, sockets


@contextlib.contextmanager
def stage(
    pools: Mapping[str, Any],
    sockets: Mapping[str, socket.socket],
    *,
    routes: Sequence[Mapping[str, Any]] = (),
    rate: float = 60,
    past_s: int = 0,
    token: str = TOKEN,
    capacity: int = 2048,
) -> Iterator[Stage]:
    """Serve. past_s: so many seconds of traffic have been; a day's minutes go before them if it is more than none."""
    started = threading.Event()
    found: list[Any] = []
    first = next(iter(pools))
    tree = {
        "listeners": [{"bind": "127.0.0.1:18080"}],
        "pools": dict(pools),
        "routes": list(routes)
        or [{"pool": name, "path_prefix": "/" if name == first else f"/{name}"} for name in pools],
    }

    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = Clock(past_s + 86400 if past_s else 0)
        world = World(validate(tree), backends=capacity, wall=time.time)
        for sock in sockets.values():
            loop.add_reader(sock, _accept, sock)
        feed = Feed(world, loop, now=clock.now, wall=clock.wall)
        traffic = Traffic(world, rate)
        if past_s:
            for _ in range(1440):
                traffic.second(clock.wall(), int(traffic.rate))
                feed.look()
                clock.step(60)
            for _ in range(past_s):
                traffic.second(clock.wall())
                feed.look()
                clock.step(1)
        clock.go()
        # Only now: nothing above lets the checks, which have a deadline, run.
        await world.controller.first_round(2)
        feed._before = None  # the time that passed here is none that was lived through
        socket_ = bound()
        service = Service(world, Admin(token=token), socket_, loop, feed)
        await service.start()
        stop = asyncio.Event()
        made = Stage(world, feed, traffic, service.address, lambda: None)
        found.extend((made, loop, stop))
        started.set()
        while not stop.is_set():
            if made.streaming:
                traffic.second(clock.wall())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)
        await service.close()
        world.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    while not started.wait(0.1):
        assert thread.is_alive(), "the stage could not be set up"
    made, loop, stop = found

    def within(act: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return act()

        return asyncio.run_coroutine_threadsafe(call(), loop).result(10)

    made.within = within
    made.sockets = dict(sockets)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        for sock in made.sockets.values():
            sock.close()
