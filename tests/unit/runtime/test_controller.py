"""The controller: snapshots, checks and breakers, with real backends and workers that only answer messages."""

from __future__ import annotations

import asyncio
import logging
import socket

import msgspec
import pytest

from headgate.config.schema import Breaker, Config, Health, Sticky
from headgate.engine import stats
from headgate.errors import Kind
from headgate.runtime.address import pack_address
from headgate.runtime.controller import Controller
from headgate.runtime.messages import (
    Applied,
    Failed,
    Log,
    Probed,
    Rejected,
    Trip,
)
from tests.unit.runtime.control_world import GOOD, NONE, RARELY, Worker, World, config, run


class TestSnapshots:
    def test_a_worker_gets_everything_it_needs(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            assert await controller.applied(5)
            snapshot = worker.snapshot
            assert snapshot.config == controller.config
            assert snapshot.pool_slots == {"web": 0}
            assert snapshot.backend_slots == {("web", url): slot for slot, url in enumerate(world.urls)}
            assert snapshot.addresses == {
                slot: [pack_address(socket.AF_INET, ("127.0.0.1", listener.port))]
                for slot, listener in enumerate(world.listeners)
            }
            assert set(snapshot.sticky_secrets) == {"web"}
            assert worker.link.generation == controller.generation == snapshot.generation > 0

        run(scenario, make=lambda world: config(world.urls, sticky=Sticky()))

    def test_changes_of_one_turn_make_one_snapshot(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            assert await controller.applied(5)
            before = len(worker.told)
            for weight in range(5):
                controller.set_weight("web", world.urls[0], weight)
            assert await controller.applied(5)
            assert len(worker.told) == before + 1
            assert worker.snapshot.config.pools["web"].backends[0].weight == 4

        run(scenario)

    def test_every_worker_must_acknowledge(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            Worker(controller, 0)
            slow = Worker(controller, 1, answers=False)
            assert not await controller.applied(0.05)
            slow.acknowledge()
            assert await controller.applied(5)

        run(scenario)

    def test_a_worker_that_refuses_is_said_so_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            workers = [Worker(controller, number, answers=False) for number in range(3)]
            await workers[0].wait(lambda: bool(workers[0].told))
            for worker in workers:
                worker.channel.send(Applied(controller.generation))
            assert await controller.applied(5)
            controller.set_weight("web", world.urls[0], 5)
            await workers[0].wait(lambda: len(workers[0].told) == 2)
            for worker in workers:
                worker.channel.send(Rejected(controller.generation, "no strategy 'best'"))
            assert not await controller.applied(5)
            assert workers[0].link.rejected == "no strategy 'best'"

        with caplog.at_level(logging.ERROR, "headgate.control"):
            run(scenario)
        assert [record.message for record in caplog.records] == [
            "the new state is refused, workers go on as before: no strategy 'best'"
        ]

    def test_the_same_secret_for_one_pool_and_another_for_the_next(self) -> None:
        def make(world: World) -> Config:
            pool = config(world.urls, sticky=Sticky()).pools["web"]
            given = msgspec.structs.replace(pool, sticky=Sticky(secret="x" * 16))
            return Config(pools={"a": pool, "b": pool, "c": given, "d": config(world.urls).pools["web"]})

        async def scenario(world: World, controller: Controller) -> None:
            secrets = controller.snapshot().sticky_secrets
            assert set(secrets) == {"a", "b", "c"}
            assert secrets["a"] != secrets["b"]
            assert secrets["c"] == b"x" * 16
            assert secrets == controller.snapshot().sticky_secrets

        run(scenario, make=make)


class TestHealth:
    def test_the_first_round_shows_who_is_there(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            world.listeners[1].off()
            assert world.flags(controller, 0) == stats.PRESENT | stats.ENABLED
            assert await controller.first_round(5)
            await asyncio.sleep(0)
            assert world.flags(controller, 0) == GOOD
            assert world.flags(controller, 1) == GOOD & ~stats.UP
            assert world.segment.generation > 0
            down = controller.backends()[1]
            assert world.segment.backend_state(down.slot) == (
                down.flags,
                1,
                "first check failed: connection refused",
                1_000_000,
            )

        with caplog.at_level(logging.INFO, "headgate.control"):
            run(scenario)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.message.startswith("backend web/http://127.0.0.1:")
        assert record.message.endswith(" down: first check failed: connection refused")

    def test_a_connection_that_fails_in_traffic_is_a_step_down(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            world.listeners[0].off()
            worker.channel.send(Failed(0, Kind.CONNECT_REFUSED, "connection refused"))
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD & ~stats.UP)
            assert controller.backends()[0].reason == "1 failure in a row, the last: connect failed: connection refused"

        run(scenario)

    def test_only_connect_failures_bear_on_the_check(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            worker.channel.send(Failed(0, Kind.RESET))
            worker.channel.send(Failed(7, Kind.CONNECT_REFUSED))  # a slot nobody has
            worker.channel.send(Log("info", "end"))
            await asyncio.sleep(0.01)
            assert world.flags(controller, 0) == GOOD

        run(scenario)

    def test_without_checks_a_backend_is_up_and_ejected_by_traffic(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            assert await controller.first_round(0)
            assert world.flags(controller, 0) == GOOD
            worker.channel.send(Failed(0, Kind.CONNECT_REFUSED, "connection refused"))
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD | stats.EJECTED)
            assert "connection refused" in controller.backends()[0].reason
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD | stats.HALF_OPEN)

        quick = Breaker(recovery=0.05, recovery_max=0.05)
        run(scenario, make=lambda world: config(world.urls, health=NONE, breaker=quick))

    def test_a_change_of_the_check_keeps_what_is_known(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            await controller.first_round(5)
            controller.apply(config(world.urls, health=Health(interval=1800.0)))
            assert world.flags(controller, 0) == GOOD
            controller.apply(config(world.urls, health=NONE))
            assert world.flags(controller, 0) == GOOD
            controller.apply(config(world.urls, health=RARELY))
            assert world.flags(controller, 0) == GOOD

        run(scenario)


class TestBreaker:
    def test_open_half_open_and_closed_again(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            worker.channel.send(Trip(0, Kind.BAD_STATUS, "5 failures in a row: bad_status"))
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD | stats.EJECTED)
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD | stats.HALF_OPEN)
            assert world.segment.claim_probe(0, 0)
            worker.channel.send(Probed(0, True, Kind.OK))
            await world.until(controller, lambda: world.segment.probe_holder(0) is None)
            assert world.flags(controller, 0) == GOOD | stats.HALF_OPEN
            worker.channel.send(Probed(0, True, Kind.OK))
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD)
            assert [event.what for event in controller.events if event.backend == world.urls[0]] == [
                "added",
                "up",
                "ejected",
                "half-open",
                "readmitted",
            ]

        quick = Breaker(recovery=0.05, recovery_max=0.05, success_threshold=2)
        with caplog.at_level(logging.INFO, "headgate.control"):
            run(scenario, make=lambda world: config(world.urls, breaker=quick))
        assert " ejected: 5 failures in a row: bad_status; out for 0.05 s" in caplog.records[0].message

    def test_at_most_half_and_never_the_only_one(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            for _ in range(3):
                for slot in range(2):
                    worker.channel.send(Trip(slot, Kind.RESET, "5 failures in a row: reset"))
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD | stats.EJECTED)
            await asyncio.sleep(0.01)
            assert world.flags(controller, 1) == GOOD

        with caplog.at_level(logging.INFO, "headgate.control"):
            run(scenario)
        assert sum("kept in use" in record.message for record in caplog.records) == 1

    def test_a_breaker_that_is_off_stays_closed(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            worker.channel.send(Trip(0, Kind.RESET, "x"))
            await asyncio.sleep(0.01)
            assert world.flags(controller, 0) == GOOD

        run(scenario, make=lambda world: config(world.urls, breaker=None))

    def test_a_check_that_passes_again_clears_what_connect_errors_opened(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            worker.channel.send(Trip(0, Kind.CONNECT_REFUSED, "x"))
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD | stats.EJECTED)
            world.listeners[0].off()
            await world.until(controller, lambda: world.flags(controller, 0) == (GOOD | stats.EJECTED) & ~stats.UP)
            assert "connection refused" in controller.backends()[0].reason
            world.listeners[0].on()
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD)

        run(scenario, make=lambda world: config(world.urls, health=Health(interval=0.02, timeout=0.02, fall=1, rise=1)))
