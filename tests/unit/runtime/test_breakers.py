"""The timer that drives all pools' breakers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from headgate.config.schema import Breaker
from headgate.errors import Kind
from headgate.resilience.breaker import State, Transition
from headgate.resilience.cause import Cause
from headgate.runtime.breakers import Breakers

QUICK = Breaker(recovery=0.03, recovery_max=0.03, success_threshold=1)
SLOW = Breaker(recovery=3600.0, recovery_max=3600.0)


def run(scenario: Callable[[Breakers, asyncio.Queue[tuple[int, State]], list[str]], Awaitable[None]]) -> None:
    async def main() -> None:
        changes: asyncio.Queue[tuple[int, State]] = asyncio.Queue()
        refused: list[str] = []

        def changed(slot: int, transition: Transition[int]) -> None:
            changes.put_nowait((slot, transition.after))

        loop = asyncio.get_running_loop()
        breakers = Breakers(loop, changed, lambda slot, reason: refused.append(reason), now=loop.time)
        for pool, slots in (("a", (0, 1)), ("b", (2, 3)), ("one", (4,))):
            breakers.configure(pool, SLOW if pool == "a" else QUICK)
            for slot in slots:
                breakers.add(pool, slot)
        try:
            async with asyncio.timeout(10):
                await scenario(breakers, changes, refused)
        finally:
            breakers.close()

    asyncio.run(main())


def test_the_nearest_of_all_pools_comes_first() -> None:
    async def scenario(breakers: Breakers, changes: asyncio.Queue[tuple[int, State]], refused: list[str]) -> None:
        breakers.trip("a", 0, Kind.RESET, "x", Cause.CONSECUTIVE_FAILURES)
        breakers.trip("b", 2, Kind.RESET, "x", Cause.CONSECUTIVE_FAILURES)
        assert [await changes.get() for _ in range(3)] == [(0, State.OPEN), (2, State.OPEN), (2, State.HALF_OPEN)]
        breakers.probed("b", 2, True, Kind.OK)
        assert await changes.get() == (2, State.CLOSED)

    run(scenario)


def test_a_failed_probe_opens_it_again() -> None:
    async def scenario(breakers: Breakers, changes: asyncio.Queue[tuple[int, State]], refused: list[str]) -> None:
        breakers.trip("b", 2, Kind.RESET, "x", Cause.CONSECUTIVE_FAILURES)
        for state in (State.OPEN, State.HALF_OPEN):
            assert await changes.get() == (2, state)
        breakers.probed("b", 2, False, Kind.RESET)
        for state in (State.OPEN, State.HALF_OPEN):
            assert await changes.get() == (2, state)

    run(scenario)


def test_what_is_removed_is_forgotten() -> None:
    async def scenario(breakers: Breakers, changes: asyncio.Queue[tuple[int, State]], refused: list[str]) -> None:
        breakers.trip("b", 2, Kind.RESET, "x", Cause.CONSECUTIVE_FAILURES)
        breakers.remove("b", 2)
        breakers.probed("b", 2, True, Kind.OK)
        breakers.trip("b", 2, Kind.RESET, "x", Cause.CONSECUTIVE_FAILURES)
        await asyncio.sleep(0.06)
        assert changes.qsize() == 1

    run(scenario)


def test_the_only_backend_stays_and_that_is_said_once() -> None:
    async def scenario(breakers: Breakers, changes: asyncio.Queue[tuple[int, State]], refused: list[str]) -> None:
        for _ in range(10):
            breakers.trip("one", 4, Kind.RESET, "5 failures in a row", Cause.CONSECUTIVE_FAILURES)
        assert changes.empty()
        assert refused == ["5 failures in a row; kept in use: it is the only backend of its pool"]

    run(scenario)


def test_switched_off_it_ignores_trips_but_not_ejections() -> None:
    async def scenario(breakers: Breakers, changes: asyncio.Queue[tuple[int, State]], refused: list[str]) -> None:
        breakers.configure("b", None)
        breakers.trip("b", 2, Kind.RESET, "x", Cause.CONSECUTIVE_FAILURES)
        assert changes.empty()
        breakers.eject("b", 2, Kind.CONNECT_REFUSED, "x", Cause.CONNECT_FAILURE)
        assert await changes.get() == (2, State.OPEN)
        breakers.configure("b", QUICK)
        breakers.trip("b", 2, Kind.RESET, "x", Cause.CONSECUTIVE_FAILURES)
        assert changes.empty(), "open already"

    run(scenario)
