"""What readers of the stream are told: everything, then differences, within bounds, whoever does not keep up."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from headgate.admin import documents as doc
from headgate.admin import feed as module
from headgate.admin.feed import Feed
from headgate.admin.meters import POINTS, TURN
from headgate.admin.reader import WAITING_BYTES, Reader
from headgate.config.validate import validate

from .world import TREE, World


class Clock:
    def __init__(self) -> None:
        self.s = 5000.0

    def now(self) -> float:
        return self.s

    def wall(self) -> float:
        return 1_700_000_000 + self.s


class Show:
    """A feed over a world, looked at by hand, a second at a time."""

    def __init__(self, tree: dict[str, Any] | None = None, backends: int = 64) -> None:
        self.clock = Clock()
        self.world = World(validate(tree or TREE), backends=backends, wall=self.clock.wall)
        self.feed = Feed(self.world, asyncio.get_running_loop(), now=self.clock.now, wall=self.clock.wall)
        self.world.controller.watch_events(self.feed._happened)
        self.feed.look()

    def second(self) -> None:
        self.clock.s += 1
        self.feed.look()

    def traffic(self, count: int, name: str = "a", *, failed: bool = False, ms: float = 10) -> None:
        record = self.world.controller.backend("web", name)
        segment = self.world.segment
        for _ in range(count):
            segment.add_worker(0, "requests")
            segment.add_worker(0, "status", index=5 if failed else 2)
            segment.add_backend(0, record.slot, "attempts")
            segment.add_backend(0, record.slot, "failed" if failed else "succeeded")
            segment.add_first_byte(0, record.slot, int(ms * 1e6))
            segment.add_latency(0, self.world.controller.pool_slots["web"], int(ms * 1e6))

    async def reader(self, **query: Any) -> tuple[AsyncGenerator[bytes, None], dict[str, Any]]:
        stream = self.feed.read(doc.StreamQuery(**query))
        name, data = event(await anext(stream))
        assert name == "state"
        return stream, data

    def close(self) -> None:
        self.feed.close()
        self.world.close()


def event(data: bytes) -> tuple[str, dict[str, Any]]:
    """One server-sent event."""
    first, second, *rest = data.decode().split("\n")
    assert rest == ["", ""]
    return first.removeprefix("event: "), json.loads(second.removeprefix("data: "))


async def told(stream: AsyncGenerator[bytes, None]) -> tuple[str, dict[str, Any]]:
    return event(await asyncio.wait_for(anext(stream), 10))


def shown(test: Callable[[Show], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with a show."""

    def run() -> None:
        async def main() -> None:
            show = Show()
            try:
                await test(show)
            finally:
                show.close()

        asyncio.run(main())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@shown
async def test_everything_first(show: Show) -> None:
    show.traffic(30)
    show.second()
    _, data = await show.reader()
    assert data["totals"]["requests"] == 30
    assert [(one["state"]["pool"], one["state"]["name"], one["state"]["state"]) for one in data["backends"]] == [
        ("web", "a", "up"),
        ("web", "b", "up"),
        ("api", "http://127.0.0.1:3", "up"),
    ]
    rate, failures, active, ms, requests, failed = data["backends"][0]["numbers"]
    assert (rate, failures, active, requests, failed) == (30, 0, 0, 30, 0)
    assert ms == pytest.approx(10)
    assert data["seconds"] == [[1_700_005_001, 30.0, 0.0, *data["recent"], 0, 0]]
    assert data["recent"][0] == pytest.approx(10, rel=0.032)
    assert [route["pathPrefix"] for route in data["routes"]] == ["/", "/api"]
    assert data["poolNumbers"][0][:2] == ["web", 30.0]


@shown
async def test_then_only_what_is_different(show: Show) -> None:
    stream, first = await show.reader()
    for _ in range(3):  # what the state said may be repeated, and the worker acknowledges what it runs
        show.second()
        await told(stream)
    show.second()
    assert set((await told(stream))[1]) == {"now", "row", "recent"}
    show.traffic(5, "b", failed=True)
    show.second()
    name, tick = await told(stream)
    assert name == "tick"
    assert [row[1:3] for row in tick["numbers"]] == [[5.0, 5.0]]
    assert tick["numbers"][0][0] == first["backends"][1]["state"]["id"]
    assert tick["row"][1:3] == [5.0, 5.0]
    assert tick["totals"]["statuses"]["5xx"] == 5
    assert "states" not in tick


@shown
async def test_an_event_is_told_at_once_with_the_state_it_is_about(show: Show) -> None:
    stream, _ = await show.reader()
    show.world.controller.drain_backend("web", "a")
    name, data = await told(stream)  # nobody looks meanwhile: it is not a tick's
    assert name == "change"
    assert [(one["what"], one["backend"]) for one in data["events"]] == [("draining", "a")]
    assert [(one["name"], one["state"]) for one in data["states"]] == [("a", "draining")]


@shown
async def test_a_changed_configuration_is_told_whole(show: Show) -> None:
    stream, first = await show.reader()
    ids = {one["state"]["name"]: one["state"]["id"] for one in first["backends"]}
    show.world.controller.add_backend("web", "http://127.0.0.1:9", name="c")
    name, data = await told(stream)
    assert name == "state"
    after = {one["state"]["name"]: one["state"]["id"] for one in data["backends"]}
    assert after.items() >= ids.items()
    assert "c" in after
    assert data["seconds"] is None
    show.world.controller.remove_backend("web", "a")
    found = await told(stream)
    while found[0] != "state":
        found = await told(stream)
    assert "a" not in [one["state"]["name"] for one in found[1]["backends"]]


@shown
async def test_another_weight_is_not_everything_anew(show: Show) -> None:
    stream, _ = await show.reader()
    show.world.controller.set_weight("web", "a", 7)
    name, data = await told(stream)
    assert name == "change"
    assert [(one["name"], one["weight"]) for one in data["states"]] == [("a", 7)]


@shown
async def test_who_was_here_before_is_told_what_is_new(show: Show) -> None:
    for _ in range(10):
        show.second()
    show.world.controller.note("reloaded", "2 differences")
    _, first = await show.reader()
    last = first["seconds"][-1][0]
    for _ in range(3):
        show.second()
    show.world.controller.note("reloaded", "0 differences")
    _, again = await show.reader(run=first["run"], after=last, event=first["events"][-1]["number"])
    assert [row[0] for row in again["seconds"]] == [last + 1, last + 2, last + 3]
    assert [one["reason"] for one in again["events"]] == ["0 differences"]
    _, other = await show.reader(run="another run", after=last, event=99)
    assert len(other["seconds"]) == 13
    assert len(other["events"]) > 2


@shown
async def test_counters_that_begin_anew_make_no_rate(show: Show) -> None:
    show.traffic(1000)
    show.second()
    record = show.world.controller.backend("web", "a")
    show.world.segment.clear_backend(record.slot)
    show.world.segment.clear_pool(show.world.controller.pool_slots["web"])
    show.second()
    _, data = await show.reader()
    assert data["backends"][0]["numbers"][:2] == [0.0, 0.0]
    assert data["poolNumbers"][0][1] == 0.0
    assert data["seconds"][-1][3] is None


@shown
async def test_one_look_serves_all(show: Show) -> None:
    readers = [await show.reader() for _ in range(20)]
    looks = 0
    whole = show.world.segment.backend_totals

    class Counted:
        def __getattr__(self, name: str) -> Any:
            nonlocal looks
            looks += name == "backend_totals"
            return getattr(segment, name)

    segment = show.world.segment
    assert whole is not None
    show.world.controller._segment = Counted()  # type: ignore[assignment]
    show.second()
    assert looks == 3  # one for each backend
    assert {(await told(stream))[0] for stream, _ in readers} == {"tick"}
    show.world.controller._segment = segment
    for stream, _ in readers:
        await stream.aclose()
    assert not show.feed._readers


@shown
async def test_who_does_not_read_keeps_a_bounded_amount_and_is_told_everything_later(show: Show) -> None:
    stream, _ = await show.reader()
    (reader,) = show.feed._readers
    show.second()
    for number in range(10_000):
        show.world.controller.note("reloaded", "x" * 200)
        if number % 10 == 0:
            show.second()
        assert reader._bytes <= WAITING_BYTES
    assert reader.behind
    name, data = await told(stream)
    assert name == "state"
    assert data["events"][-1]["number"] == show.world.controller.events[-1].number
    show.second()
    while (await told(stream))[0] != "tick":
        pass


def test_nothing_grows_with_10_000_events_and_a_day() -> None:
    async def main() -> None:
        show = Show()
        stream, _ = await show.reader()

        async def half() -> int:
            for look in range(120):
                show.clock.s += 359  # twelve hours in all; each look makes a row and ends a minute
                show.traffic(2, ms=1 + look % 50)
                for number in range(50):
                    show.world.controller.note("reloaded", f"{number} differences")
                show.second()
                while (await told(stream))[0] != "tick":
                    pass
            return tracemalloc.get_traced_memory()[0]

        # The rings fill up in the first day; what is there then is there for good.
        show.feed.history.seconds.extend([(0, 0.0, 0.0, 1.0, 1.0, 1.0, 0, 0)] * 900)
        show.feed.history.minutes.extend([(0, 0.0, 0.0, 1.0, 1.0, 1.0, 0, 0)] * 1440)
        tracemalloc.start()
        first = await half()
        second = await half()
        tracemalloc.stop()
        assert second - first < 200_000, "it grows"
        assert show.world.controller.events[-1].number > 10_000
        assert len(show.feed._backends["web", "a"].meter.points) == POINTS
        assert len(show.world.controller.events) == 1000
        _, everything = await show.reader()
        assert len(json.dumps(everything)) < 400_000
        show.close()

    asyncio.run(main())


def test_looks_keep_their_distance_when_the_loop_is_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look right behind a late one would make a rate of next to no time."""

    async def main() -> None:
        show = Show()
        clock = 100.0
        planned: list[tuple[float, Callable[[], None]]] = []
        looks: list[float] = []

        class Loop:
            def time(self) -> float:
                return clock

            def call_at(self, when: float, call: Callable[[], None]) -> None:
                planned.append((when, call))

        monkeypatch.setattr(show.feed, "_loop", Loop())
        monkeypatch.setattr(show.feed, "look", lambda: looks.append(clock))
        show.feed.start()
        for late in (0.0, 0.95, 0.0, 0.4, 0.0, 3.7, 0.0, 0.0):
            when, call = planned.pop()
            clock = when + late
            call()
        distances = [round(after - before, 6) for before, after in pairwise(looks)]
        assert distances == [1.0, 1.95, 0.9, 1.4, 0.9, 4.7, 0.9, 1.0]
        show.close()

    asyncio.run(main())


def test_many_backends_are_read_by_turns() -> None:
    many = 3 * TURN + 1
    tree = {
        "listeners": [{"bind": "127.0.0.1:18080"}],
        "pools": {
            "web": {"backends": [f"http://127.0.0.1:{1024 + n}" for n in range(many)], "health": {"type": "none"}}
        },
    }

    async def main() -> None:
        show = Show(tree, backends=1024)
        stream, first = await show.reader()
        assert len(first["backends"]) == many
        for _ in range(5):
            show.second()
            await told(stream)
        records = show.world.controller.backends()
        seen: dict[int, list[float]] = {}
        sizes = []
        for _ in range(8):
            for record in records:
                show.world.segment.add_backend(0, record.slot, "attempts", 3)
            show.second()
            data = (await told(stream))[1]
            sizes.append(len(data["numbers"]))
            for row in data["numbers"]:
                seen.setdefault(row[0], []).append(row[1])
        assert max(sizes) <= TURN
        assert len(seen) == many
        # Over the time since its own last look, so everybody's rate is right once all of it has been seen.
        assert all(rates[-1] == 3 for rates in seen.values())
        # A state does not wait for its turn.
        show.world.controller.disable_backend("web", records[-1].config.name)
        assert [one["name"] for one in (await told(stream))[1]["states"]] == [records[-1].config.name]
        show.close()

    asyncio.run(main())


def test_a_reader_is_woken_once_for_each() -> None:
    async def main() -> None:
        reader = Reader()
        reader.offer(b"one")
        reader.offer(b"two")
        assert [await reader.take(), await reader.take()] == [b"one", b"two"]
        waiting = asyncio.ensure_future(reader.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        reader.offer(b"x" * (WAITING_BYTES + 1))
        assert await waiting is None
        reader.offer(b"three")
        assert await reader.take() == b"three"

    asyncio.run(main())


def test_events_that_come_together_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        show = Show()
        stream, _ = await show.reader()
        for name in "ab":
            show.world.controller.disable_backend("web", name)
        _, data = await told(stream)
        assert [one["backend"] for one in data["events"]] == ["a", "b"]
        assert len(data["states"]) == 2
        show.close()

    monkeypatch.setattr(module, "SOON_S", 0.001)
    asyncio.run(main())
