"""The schedule of checks and what their results add up to, against real servers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from headgate.health.check import Check, Probe
from headgate.health.http import HttpProbe
from headgate.health.monitor import Monitor, Plan
from headgate.health.tcp import TcpProbe
from headgate.resilience.health_state import State, Transition
from headgate.runtime.address import pack_address
from tests.unit.health.servers import OK, answers, backend, black_hole, dead_port, hangs

GET = HttpProbe(method="GET", path="/", host="app", accepts=lambda status: status == 200)


def plan(
    probe: Probe | None = None, *, interval_s: float = 0.02, timeout_s: float = 0.5, fall: int = 3, rise: int = 2
) -> Plan:
    return Plan(probe=probe or TcpProbe(), interval_s=interval_s, timeout_s=timeout_s, fall=fall, rise=rise)


class Reports:
    """What the monitor reported, awaitable."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[int, bool, str]] = asyncio.Queue()

    def __call__(self, slot: int, transition: Transition) -> None:
        self.queue.put_nowait((slot, transition.after is State.UP, transition.reason))

    async def next(self) -> tuple[int, bool, str]:
        async with asyncio.timeout(10):
            return await self.queue.get()


class Switch:
    """A listener at a fixed port that can be taken away and brought back."""

    def __init__(self) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.address = pack_address(socket.AF_INET, self._holder.getsockname())
        self._listener: socket.socket | None = None

    def on(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(self._holder.getsockname())
        self._listener.listen(1000)

    def off(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        self.off()
        self._holder.close()


def run(
    scenario: Callable[[Monitor, Reports], Awaitable[None]],
    urgent: Callable[[int], bool] = lambda slot: False,
    most_in_flight: int = 100,
) -> None:
    async def main() -> None:
        reports = Reports()
        monitor = Monitor(
            asyncio.get_running_loop(), reports, urgent=urgent, random=Random(1), most_in_flight=most_in_flight
        )
        try:
            await scenario(monitor, reports)
        finally:
            monitor.close()

    asyncio.run(main())


@asynccontextmanager
async def switch() -> AsyncIterator[Switch]:
    one = Switch()
    try:
        yield one
    finally:
        one.close()


def test_a_backend_goes_and_comes_back() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with switch() as server:
            server.on()
            monitor.watch(7, plan(), [server.address])
            assert await reports.next() == (7, True, "first check passed")
            server.off()
            assert await reports.next() == (7, False, "3 failures in a row, the last: check failed: connection refused")
            server.on()
            assert await reports.next() == (7, True, "2 checks passed")

    run(scenario)


def test_the_first_check_alone_decides_at_the_start() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        with dead_port() as address:
            monitor.watch(1, plan(interval_s=1000), [address])
            assert await monitor.first_round(5)
            assert await reports.next() == (1, False, "first check failed: connection refused")

    run(scenario)


def test_one_pass_is_enough_when_nothing_else_is_left() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with switch() as server:
            monitor.watch(1, plan(rise=50), [server.address])
            assert (await reports.next())[1] is False
            server.on()
            assert await reports.next() == (1, True, "a check passed, and nothing else in the pool is routable")

    run(scenario, urgent=lambda slot: slot == 1)


def test_between_two_states_checks_come_every_second_at_most() -> None:
    """An interval of an hour: without the fast one, nothing would ever come down."""

    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with switch() as server:
            server.on()
            monitor.watch(1, plan(interval_s=3600, fall=2), [server.address])
            assert (await reports.next())[1] is True
            server.off()
            monitor.connect_failed(1, "connection refused")
            assert await reports.next() == (1, False, "2 failures in a row, the last: check failed: connection refused")

    run(scenario)


def test_a_burst_of_failed_connections_is_one_step() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with switch() as server:
            server.on()
            monitor.watch(1, plan(interval_s=3600, fall=3), [server.address])
            assert (await reports.next())[1] is True
            for _ in range(100):
                monitor.connect_failed(1, "connection refused")
            assert reports.queue.empty()

    run(scenario)


def test_a_connection_that_fails_in_traffic_can_be_the_last_straw() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with switch() as server:
            server.on()
            monitor.watch(1, plan(interval_s=3600, fall=1), [server.address])
            assert (await reports.next())[1] is True
            monitor.connect_failed(1, "timed out")
            assert await reports.next() == (1, False, "1 failure in a row, the last: connect failed: timed out")

    run(scenario)


def test_hanging_backends_do_not_hold_up_the_others() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        with black_hole() as hole:
            async with backend(hangs) as silent, backend(answers(OK)) as good:
                monitor.watch(1, plan(GET, timeout_s=0.3), [hole])
                monitor.watch(2, plan(GET, timeout_s=0.3), [silent.address])
                monitor.watch(3, plan(GET), [good.address])
                assert await reports.next() == (3, True, "first check passed")
                later = sorted([await reports.next(), await reports.next()])
                assert later == [
                    (1, False, "first check failed: connect timed out"),
                    (2, False, "first check failed: no complete answer in time"),
                ]
                assert good.connections > 2

    run(scenario)


def test_a_check_never_takes_longer_than_its_timeout_however_many_addresses() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        with black_hole() as hole, dead_port() as dead:
            loop = asyncio.get_running_loop()
            started = loop.time()
            monitor.watch(1, plan(timeout_s=0.4, interval_s=100), [hole, dead, hole, hole])
            await reports.next()
            assert 0.3 <= loop.time() - started < 2

    run(scenario)


def test_an_address_that_fails_at_once_leaves_its_time_to_the_next() -> None:
    """localhost that is ::1 and 127.0.0.1, with a server on the second that needs more than half of the timeout."""

    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.35)
            writer.write(OK)

        with dead_port() as dead:
            async with backend(slow) as server:
                monitor.watch(1, plan(GET, timeout_s=0.6), [dead, server.address])
                assert await reports.next() == (1, True, "first check passed")

    run(scenario)


def test_without_an_address_nothing_is_checked_until_there_is_one() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with switch() as server:
            server.on()
            monitor.watch(1, plan(), [])
            assert await monitor.first_round(0)
            assert monitor.in_flight == 0
            monitor.set_addresses(1, [server.address])
            assert not await monitor.first_round(0)
            assert await reports.next() == (1, True, "first check passed")

    run(scenario)


def test_a_name_that_moves_is_checked_where_it_went() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with switch() as old, switch() as new:
            old.on()
            monitor.watch(1, plan(interval_s=3600, fall=1), [old.address])
            assert (await reports.next())[1] is True
            monitor.set_addresses(1, [new.address])
            assert (await reports.next())[1] is False

    run(scenario)


def test_what_is_not_watched_any_more_is_not_heard_of() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with backend(hangs) as silent:
            monitor.watch(1, plan(GET), [silent.address])
            await asyncio.sleep(0.05)
            assert monitor.in_flight == 1
            monitor.unwatch(1)
            assert monitor.in_flight == 0
            assert await monitor.first_round(0)
            monitor.connect_failed(1, "x")
            monitor.unwatch(1)
            assert reports.queue.empty()

    run(scenario)


def test_a_new_plan_keeps_what_is_known() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with backend(answers(b"HTTP/1.1 500 No\r\n\r\n")) as server:
            monitor.watch(1, plan(interval_s=3600), [server.address])
            assert (await reports.next())[1] is True
            monitor.watch(1, plan(GET, fall=2), [server.address])
            assert await reports.next() == (1, False, "2 failures in a row, the last: check failed: status 500")

    run(scenario)


def test_only_so_many_at_a_time_and_every_one_in_the_end() -> None:
    async def scenario(monitor: Monitor, reports: Reports) -> None:
        most = 0

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal most
            most = max(most, monitor.in_flight)
            writer.write(OK)

        async with backend(handler) as server:
            for slot in range(40):
                monitor.watch(slot, plan(GET, interval_s=3600), [server.address])
            assert await monitor.first_round(10)
            assert most == 4
            assert server.connections == 40

    run(scenario, most_in_flight=4)


def test_our_own_faults_do_not_count(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """No descriptor: no verdict, one complaint, and the check comes again."""
    real = Check.start
    broken = 5

    def start(self: Check) -> None:
        nonlocal broken
        if broken:
            broken -= 1
            self._finish(None)
        else:
            real(self)

    monkeypatch.setattr(Check, "start", start)

    async def scenario(monitor: Monitor, reports: Reports) -> None:
        async with switch() as server:
            server.on()
            monitor.watch(1, plan(), [server.address])
            assert await monitor.first_round(5)
            assert reports.queue.empty()
            assert await reports.next() == (1, True, "first check passed")

    with caplog.at_level(logging.ERROR, "headgate.health"):
        run(scenario)
    assert len(caplog.records) == 1


def test_rounds_drift_apart() -> None:
    """Checks that began together do not stay together: the load does not come in waves."""

    async def scenario(monitor: Monitor, reports: Reports) -> None:
        loop = asyncio.get_running_loop()
        started: list[float] = []
        enough = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            started.append(loop.time())
            if len(started) == 40:
                enough.set()
            writer.write(OK)

        async with backend(handler) as server:
            for slot in range(20):
                monitor.watch(slot, plan(GET, interval_s=1.4), [server.address])
            assert await monitor.first_round(5)
            async with asyncio.timeout(10):
                await enough.wait()
        first, second = started[:20], started[20:]
        assert max(first) - min(first) < 0.2
        assert max(second) - min(second) > 0.2

    run(scenario)
