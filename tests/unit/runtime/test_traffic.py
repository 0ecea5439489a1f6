"""Where listeners and routes count in the shared segment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate.config.schema import Config
from headgate.engine.stats import Segment
from headgate.observe.names import route_name
from headgate.runtime.knowledge import Knowledge
from headgate.runtime.traffic import OTHER, TrafficSlots


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment.create(1, backends=1, pools=1, routes=4, listeners=3) as made:
        yield made


def config(*paths: str, binds: tuple[str, ...] = ("127.0.0.1:8080",)) -> Config:
    return Config.from_dict(
        {
            "listeners": [{"bind": bind} for bind in binds],
            "pools": {"web": {"backends": ["http://127.0.0.1:1"]}},
            "routes": [{"pool": "web", "path_prefix": path} for path in paths],
        }
    )


def test_routes_are_called_by_what_they_match() -> None:
    tree = {
        "listeners": [{"bind": "127.0.0.1:8080"}],
        "pools": {"web": {"backends": ["http://127.0.0.1:1"]}},
        "routes": [
            {"pool": "web"},
            {"pool": "web", "host": "*.Shop.example", "path_prefix": "/api"},
            {"pool": "web", "host": "shop.example", "listener": "127.0.0.1:8080"},
        ],
    }
    names = [route_name(route) for route in Config.from_dict(tree).routes]
    assert names == ["*/", "*.shop.example/api", "127.0.0.1:8080 shop.example/"]


def test_each_has_a_slot_and_keeps_it(segment: Segment) -> None:
    slots = TrafficSlots(segment)
    slots.apply(config("/", "/api"), 1)
    assert slots.listeners == {OTHER: 0, "127.0.0.1:8080": 1}
    assert slots.routes == {OTHER: 0, "*/": 1, "*/api": 2}
    slots.apply(config("/api", "/new"), 2)
    assert slots.routes == {OTHER: 0, "*/api": 2, "*/new": 3}


def test_a_freed_slot_rests_and_comes_back_empty(segment: Segment) -> None:
    slots = TrafficSlots(segment)
    slots.apply(config("/a", "/b"), 1)
    segment.add_route(0, slots.routes["*/a"], 2, 1000)
    slots.apply(config("/b"), 2)
    assert slots.resting == 1
    slots.recycle(1)  # a worker still runs the first one
    slots.apply(config("/b", "/c"), 3)
    assert slots.routes["*/c"] == 3
    slots.recycle(2)
    slots.apply(config("/b", "/c", "/d"), 4)
    assert slots.routes["*/d"] == 1
    assert segment.route_totals(1)["status"] == [0] * 6


def test_who_finds_no_room_counts_with_the_others(segment: Segment) -> None:
    slots = TrafficSlots(segment)
    slots.apply(config("/a", "/b", "/c", "/d", "/e"), 1)
    assert len(slots.routes) == 4
    # A configuration is not refused for it, and when room is there again it is used.
    slots.apply(config("/d", "/e"), 2)
    slots.recycle(2)
    slots.apply(config("/d", "/e"), 3)
    assert {"*/d", "*/e"} <= slots.routes.keys()


def test_the_process_after_this_one_goes_on(segment: Segment) -> None:
    slots = TrafficSlots(segment)
    slots.apply(config("/a", "/b", binds=("127.0.0.1:1", "127.0.0.1:2")), 1)
    slots.apply(config("/b", binds=("127.0.0.1:2",)), 2)
    after = TrafficSlots(segment)
    after.take_over(Knowledge(**slots.knowledge()))
    assert (after.routes, after.listeners, after.resting) == (slots.routes, slots.listeners, 2)
    after.recycle(1)
    assert after.resting == 0
