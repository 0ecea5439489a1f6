"""What goes from one version to the next: knowledge of backends, in the same or in another segment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec
import pytest

from headgate.config.addresses import Bind
from headgate.engine import stats
from headgate.errors import Kind
from headgate.resilience.breaker import State
from headgate.runtime import overrides
from headgate.runtime.controller import Controller
from headgate.runtime.knowledge import Knowledge
from headgate.runtime.messages import Trip
from headgate.runtime.upgrade import HandedListener, Handover

from .control_world import GOOD, Worker, World, config


@pytest.fixture
def world() -> Iterator[World]:
    made = World(3)
    yield made
    made.close()


def again(world: World, old: Controller, configuration: object, *, same: bool, segment: stats.Segment) -> Controller:
    """The next version's controller, from what the old one wrote down."""
    written = msgspec.msgpack.encode(old.knowledge())
    return Controller(
        configuration,  # type: ignore[arg-type]
        segment,
        loop=asyncio.get_running_loop(),
        lookup=world.lookup,
        wall=lambda: 2000.0,
        secret=b"s" * 32,
        changes=msgspec.msgpack.decode(msgspec.msgpack.encode(old.changes), type=overrides.Changes),
        knowledge=msgspec.msgpack.decode(written, type=Knowledge),
        same_segment=same,
    )


@pytest.mark.parametrize("same", [True, False])
def test_health_breakers_and_changes_go_along(world: World, same: bool) -> None:
    async def story() -> None:
        world.listeners[2].off()
        first = world.control(config(world.urls))
        worker = Worker(first)
        await first.first_round()
        worker.channel.send(Trip(first.backend("web", world.urls[0]).slot, Kind.RESET, "it resets"))
        await world.until(first, lambda: first.backend("web", world.urls[0]).breaker is State.OPEN)
        first.drain_backend("web", world.urls[1])
        first.set_weight("web", world.urls[1], 7)
        slots = first.snapshot().backend_slots
        flags = [world.segment.backend_flags(slot) for slot in slots.values()]
        with stats.Segment.create(4, backends=8, pools=4) as other:
            segment = world.segment if same else other
            second = again(world, first, config(world.urls), same=same, segment=segment)
            a, b, c = (second.backend("web", url) for url in world.urls)
            # At once, before any check of its own.
            assert a.breaker is State.OPEN
            assert "it resets" in a.reason
            assert (b.draining, b.config.weight, b.up) == (True, 7, True)
            assert (c.checked, c.up) == (True, False)
            assert [segment.backend_flags(record.slot) for record in (a, b, c)] == flags
            if same:
                assert second.snapshot().backend_slots == slots
                assert segment.backend_since_ms(c.slot) == 1_000_000, "nothing happened to it"
            second.close()
        first.close()

    asyncio.run(story())


def test_a_backend_that_is_gone_leaves_a_slot_that_rests(world: World) -> None:
    async def story() -> None:
        first = world.control(config(world.urls))
        await first.first_round()
        slot = first.backend("web", world.urls[0]).slot
        second = again(world, first, config(world.urls[1:]), same=True, segment=world.segment)
        second.recycling = False
        assert world.segment.backend_flags(slot) == 0
        added = second.add_backend("web", "http://127.0.0.1:1")
        assert added.slot != slot, "workers of the old version know another backend there"
        second.recycling = True
        worker = Worker(second)
        await worker.wait(lambda: worker.link.generation == second.generation)
        async with asyncio.timeout(10):
            while second._fleet.resting:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert second.add_backend("web", "http://127.0.0.1:2").slot == slot
        second.close()
        first.close()

    asyncio.run(story())


def test_the_same_name_with_another_address_is_another_backend(world: World) -> None:
    async def story() -> None:
        def named(url: str) -> object:
            pools = {"web": {"backends": [{"name": "a", "url": url}], "health": {"interval": "1h"}}}
            return type(config([])).from_dict({"listeners": [{"bind": ":1"}], "pools": pools})

        first = world.control(named(world.urls[0]))  # type: ignore[arg-type]
        await first.first_round()
        slot = first.backend("web", "a").slot
        assert world.segment.backend_flags(slot) == GOOD
        second = again(world, first, named(world.urls[1]), same=True, segment=world.segment)
        record = second.backend("web", "a")
        assert record.slot != slot
        assert not record.checked
        second.close()
        first.close()

    asyncio.run(story())


def test_a_handover_of_another_version_can_be_read() -> None:
    """Fields that are new here have defaults, fields that are new there are skipped."""
    made = Handover(
        version="0.0",
        changes=overrides.NONE,
        knowledge=Knowledge(),
        listeners=[HandedListener("x", Bind.parse("127.0.0.1:80"), 5, None)],
        workers=[],
        segment=3,
    )
    tree = msgspec.to_builtins(made)
    tree["of_the_future"] = time.time()
    del tree["descriptors"]
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(tree), type=Handover)
    assert read == made
    assert read.all_descriptors() == [5, 3]
