"""The controller: names that move, changes while it runs, workers that come and go."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

import pytest

from headgate.config.addresses import BackendUrl
from headgate.config.schema import Backend, Config, Pool, Strategy
from headgate.engine import stats
from headgate.errors import Kind
from headgate.runtime.address import pack_address
from headgate.runtime.controller import Controller
from headgate.runtime.links import Link
from headgate.runtime.messages import (
    Addresses,
    Failed,
    Hello,
    Log,
    Message,
    Penalty,
    StrategyError,
    Trip,
)
from tests.unit.runtime.control_world import GOOD, RARELY, Worker, World, config, run


class TestNames:
    def test_a_name_without_address_is_unchecked_with_its_reason(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            assert await controller.first_round(5)
            await world.until(controller, lambda: "not known" in controller.backends()[0].reason)
            assert controller.backends()[0].reason == "no address for app.test: name or service not known"
            assert world.flags(controller, 0) == stats.PRESENT | stats.ENABLED
            assert controller.snapshot().addresses == {0: []}

        run(scenario, make=lambda world: config(["http://app.test:80"]))

    def test_a_name_that_begins_to_resolve_is_told_checked_and_used(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            address = pack_address(socket.AF_INET, ("127.0.0.1", world.listeners[0].port))
            world.names["app.test"] = [address]
            # The lookup is asked for by a connect failure; it comes a second after the last one.
            worker.channel.send(Failed(0, Kind.CONNECT_FAILED, "no address"))
            await worker.wait(lambda: Addresses(0, [address]) in worker.told)
            await world.until(controller, lambda: world.flags(controller, 0) == GOOD)
            assert controller.snapshot().addresses == {0: [address]}

        run(scenario, make=lambda world: config(["http://app.test:80"]))

    def test_one_name_serves_many_backends(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            await controller.first_round(5)
            await world.until(controller, lambda: all(world.flags(controller, number) == GOOD for number in range(2)))

        def make(world: World) -> Config:
            world.names["app.test"] = [pack_address(socket.AF_INET, ("127.0.0.1", world.listeners[0].port))]
            backends = tuple(Backend(url=BackendUrl.parse("http://app.test"), name=name) for name in "ab")
            return Config(pools={"web": Pool(backends=backends, health=RARELY)})

        run(scenario, make=make)


class TestChanges:
    def test_adding_and_removing(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            record = controller.add_backend("web", world.urls[1], weight=3, name="second")
            assert (record.slot, record.reason) == (1, "not checked yet")
            await world.until(controller, lambda: world.flags(controller, 1) == GOOD)
            assert world.segment.backend_weight(1) == 3
            assert await controller.applied(5)
            assert worker.snapshot.backend_slots == {("web", world.urls[0]): 0, ("web", "second"): 1}
            controller.remove_backend("web", "second")
            assert world.segment.backend_flags(1) == 0, "nobody may pick it from now on"
            assert await controller.applied(5)
            assert worker.snapshot.backend_slots == {("web", world.urls[0]): 0}
            controller.remove_backend("web", world.urls[0])
            assert controller.backends() == []

        run(scenario, make=lambda world: config(world.urls[:1]))

    def test_a_slot_is_not_used_again_before_all_workers_let_go_of_it(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            fast, slow = Worker(controller, 0), Worker(controller, 1)
            assert await controller.applied(5)
            slow.answers = False
            world.segment.add_backend(0, 1, "attempts", 9)
            controller.remove_backend("web", world.urls[1])
            assert not await controller.applied(0.02)
            assert fast.link.generation == controller.generation
            assert controller.add_backend("web", world.urls[1]).slot == 2
            world.segment.add_backend(0, 1, "active", 1)  # a download that goes on
            assert not await controller.applied(0.02)
            slow.acknowledge()
            assert await controller.applied(5)
            controller.remove_backend("web", world.urls[1])
            assert controller.add_backend("web", world.urls[1]).slot == 3
            world.segment.add_backend(0, 1, "active", -1)
            slow.answers = True
            assert await controller.applied(5)
            controller.remove_backend("web", world.urls[1])
            assert controller.add_backend("web", world.urls[1]).slot == 1
            assert world.segment.backend_totals(1).attempts == 0, "the last owner's numbers are gone"

        run(scenario)

    def test_another_url_under_the_same_name_is_another_backend(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            await controller.first_round(5)

            def named(url: str) -> Config:
                return Config(pools={"web": Pool(backends=(Backend(url=BackendUrl.parse(url), name="a"),))})

            controller.apply(named(world.urls[0]))
            first = controller.backends()[0].slot
            await controller.first_round(5)
            controller.apply(named(world.urls[1]))
            record = controller.backends()[0]
            assert record.slot != first
            assert not record.up
            assert world.segment.backend_flags(first) == 0

        run(scenario)

    def test_draining_disabling_and_back(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            await controller.first_round(5)
            url = world.urls[0]
            controller.drain_backend("web", url)
            assert world.flags(controller, 0) == GOOD | stats.DRAINING
            assert world.segment.backend_reason(0) == "draining"
            controller.disable_backend("web", url)
            assert world.flags(controller, 0) == GOOD & ~stats.ENABLED
            assert world.segment.backend_reason(0) == "disabled"
            controller.apply(controller.config)
            assert world.flags(controller, 0) == GOOD & ~stats.ENABLED, "a reload does not undo it"
            controller.enable_backend("web", url)
            controller.enable_backend("web", url)
            assert world.flags(controller, 0) == GOOD
            whats = [event.what for event in controller.events if event.backend == url]
            assert whats == ["added", "up", "draining", "disabled", "enabled"]

        run(scenario)

    def test_a_drain_with_a_deadline_ends_bound_sessions_too(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            await controller.first_round(5)
            url = world.urls[0]
            controller.drain_backend("web", url, deadline_s=3600)
            assert world.flags(controller, 0) == GOOD | stats.DRAINING
            until = "draining, bound sessions may stay until 1970-01-01T0{}Z"  # the world's clock stands still
            assert world.segment.backend_reason(0) == until.format("1:16:40.000")
            controller.drain_backend("web", url, deadline_s=7200)
            assert world.segment.backend_reason(0) == until.format("2:16:40.000")
            controller.drain_backend("web", url, deadline_s=0.01)
            await world.until(controller, lambda: bool(world.flags(controller, 0) & stats.DRAINED))
            assert world.flags(controller, 0) == GOOD | stats.DRAINING | stats.DRAINED
            assert world.segment.backend_reason(0) == "drained: the deadline has passed"
            controller.enable_backend("web", url)
            assert world.flags(controller, 0) == GOOD
            whats = [(event.what, event.reason) for event in controller.events if event.backend == url]
            assert whats[2:] == [
                ("draining", "bound sessions may stay for 3600 s"),
                ("drained", "the deadline has passed"),
                ("enabled", ""),
            ]

        run(scenario)

    @pytest.mark.parametrize("end", ["enable_backend", "disable_backend", "remove_backend"])
    def test_what_ends_a_drain_ends_its_deadline(self, end: str) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            await controller.first_round(5)
            url = world.urls[0]
            controller.drain_backend("web", url, deadline_s=0.005)
            getattr(controller, end)("web", url)
            controller.drain_backend("web", world.urls[1], deadline_s=0.01)
            await world.until(controller, lambda: bool(world.flags(controller, -1) & stats.DRAINED))
            assert not world.segment.backend_flags(0) & stats.DRAINED

        run(scenario)

    def test_one_that_is_added_later_starts_slowly_in_all_workers(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            await controller.first_round(5)
            assert world.segment.backend_ramp(0) == (0, 0)
            before = time.monotonic()
            controller.add_backend("web", world.urls[1])
            await world.until(controller, lambda: world.flags(controller, 1) == GOOD)
            from_ms, for_ms = world.segment.backend_ramp(1)
            assert before * 1000 - 1 <= from_ms <= time.monotonic() * 1000
            assert for_ms == 10_000

        run(scenario, make=lambda world: config(world.urls[:1]))

    def test_one_that_asks_for_less_gets_less(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            for _ in range(2):
                worker.channel.send(Penalty(0, 503, 7.0))
            await world.until(controller, lambda: world.segment.backend_ramp(0) != (0, 0))
            from_ms, for_ms = world.segment.backend_ramp(0)
            assert 0 < from_ms - time.monotonic() * 1000 <= 7000
            assert for_ms == 10_000
            assert world.segment.backend_penalty(0) == 503
            assert world.segment.pool_mark_totals(0)["penalties"] == [0, 1]
            assert world.flags(controller, 0) == GOOD
            worker.channel.send(Penalty(99, 503, 7.0))  # a backend that has been removed

        with caplog.at_level(logging.INFO, "headgate.control"):
            run(scenario)
        said = [record.message for record in caplog.records if "gets less" in record.message]
        assert len(said) == 1
        assert said[0].endswith("gets less: it answered 503 with Retry-After, for 7 s")

    def test_panic_is_told_when_it_comes_and_when_it_goes(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.first_round(5)
            worker.channel.send(Trip(0, Kind.RESET, "5 failures in a row"))
            await world.until(controller, lambda: bool(world.flags(controller, 0) & stats.EJECTED))
            assert not controller.in_panic
            controller.disable_backend("web", world.urls[1])
            controller.remove_backend("web", world.urls[2])
            await world.until(controller, lambda: "web" in controller.in_panic)
            controller.enable_backend("web", world.urls[1])
            await world.until(controller, lambda: not controller.in_panic)
            told = [(event.what, event.reason) for event in controller.events if event.backend == ""]
            assert told == [
                ("panic", "0 of 2 backends are routable: ejected ones are used again"),
                ("no panic any more", "1 of 2 backends are routable"),
            ]

        run(scenario, listeners=3)

    def test_weights_and_strategies(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            controller.set_weight("web", world.urls[0], 0)
            assert world.segment.backend_weight(0) == 0
            controller.set_strategy("web", {"name": "ip_hash", "key": "x"})
            assert await controller.applied(5)
            assert worker.snapshot.config.pools["web"].strategy == Strategy(name="ip_hash", options={"key": "x"})
            controller.set_strategy("web", "p2c")
            assert controller.config.pools["web"].strategy == Strategy(name="p2c")

        run(scenario)

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (lambda c: c.add_backend("wob", "http://127.0.0.1:1"), r"there is no pool 'wob' \(there is: web\)"),
            (lambda c: c.add_backend("web", "127.0.0.1:1"), r"did you mean \"http://127.0.0.1:1\""),
            (lambda c: c.add_backend("web", "http://127.0.0.1:1", weight=257), "256"),
            (lambda c: c.add_backend("web", "http://127.0.0.1:1", weight=-1), "0"),
            (lambda c: c.add_backend("web", "http://127.0.0.1:1", priority=16), "from 0 to 15"),
            (lambda c: c.add_backend("web", "http://127.0.0.1:1", weight=True), "number"),
            (lambda c: c.add_backend("web", c.config.pools["web"].backends[0].url.text), "already"),
            (lambda c: c.remove_backend("web", "http://127.0.0.1:1"), "no backend 'http://127.0.0.1:1'"),
            (lambda c: c.set_weight("web", c.config.pools["web"].backends[0].name, 1.5), "weight"),
            (lambda c: c.set_strategy("nope", "p2c"), "no pool"),
            (lambda c: c.set_strategy("web", 7), "strategy"),
            (lambda c: c.drain_backend("web", "nope"), "no backend 'nope'"),
            (lambda c: c.drain_backend("web", c.config.pools["web"].backends[0].name, -1), "in the past"),
            (lambda c: c.drain_backend("web", c.config.pools["web"].backends[0].name, float("nan")), "seconds"),
            (lambda c: c.drain_backend("web", c.config.pools["web"].backends[0].name, "5s"), "seconds"),
            (lambda c: c.backends("nope"), "no pool"),
        ],
    )
    def test_mistakes_change_nothing(self, change: Callable[[Controller], object], text: str) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            assert await controller.applied(5)
            before = controller.snapshot()
            with pytest.raises(ValueError, match=text):
                change(controller)
            assert await controller.applied(5)
            assert controller.snapshot() == before

        run(scenario)

    def test_no_room_in_the_segment(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            before = controller.snapshot()
            with pytest.raises(ValueError, match="no room for so many backends: the segment holds 8"):
                controller.apply(config(f"http://127.0.0.1:{port}" for port in range(1, 10)))
            with pytest.raises(ValueError, match="no room for so many pools: the segment holds 4"):
                controller.apply(Config(pools={name: Pool(backends=()) for name in "abcd"}))
            assert controller.snapshot() == before

        run(scenario)

    def test_pools_come_and_go(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            Worker(controller)
            pool = controller.config.pools["web"]
            controller.apply(Config(pools={"web": pool, "api": pool}))
            assert controller.snapshot().pool_slots == {"web": 0, "api": 1}
            assert [record.slot for record in controller.backends("api")] == [1]
            controller.apply(Config(pools={"api": pool}))
            assert controller.snapshot().pool_slots == {"api": 1}
            assert await controller.applied(5)
            controller.apply(Config(pools={"api": pool, "new": pool}))
            assert controller.snapshot().pool_slots == {"api": 1, "new": 0}

        run(scenario, listeners=1)


class TestWorkers:
    def test_what_they_say_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            workers = [Worker(controller, number) for number in range(2)]
            seen: list[Message] = []
            controller.on_message = lambda link, message: seen.append(message)
            for worker in workers:
                worker.channel.send(Hello(worker.link.worker, 4711))
                worker.channel.send(StrategyError("web", "KeyError: 'x'"))
            workers[1].channel.send(Log("warning", "the log file is full"))
            await world.until(controller, lambda: Log("warning", "the log file is full") in seen)
            assert [worker.link.pid for worker in workers] == [4711, 4711]

        with caplog.at_level(logging.INFO, "headgate.control"):
            run(scenario)
        assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
            "pool web: the strategy failed, round robin serves: KeyError: 'x'",
            "worker 1: the log file is full",
        ]

    def test_one_that_goes_leaves_no_gauge_and_holds_up_nobody(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            Worker(controller, 0)
            dying = Worker(controller, 1, answers=False)
            gone: list[Link] = []
            controller.on_gone = gone.append
            world.segment.add_backend(1, 0, "active", 5)
            world.segment.add_backend(1, 0, "attempts", 7)
            assert not await controller.applied(0.02)
            dying.channel.close()
            assert await controller.applied(5)
            assert gone == [dying.link]
            assert controller.links == (controller.links[0],)
            totals = world.segment.backend_totals(0)
            assert (totals.active, totals.attempts) == (0, 7)

        run(scenario)

    def test_closing_lets_go_of_them(self) -> None:
        async def scenario(world: World, controller: Controller) -> None:
            worker = Worker(controller)
            await controller.applied(5)
            controller.close()
            await worker.wait(lambda: worker.channel.eof)

        run(scenario)
