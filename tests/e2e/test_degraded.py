"""A pool that is not what it should be: panic, backups, backends that ask for less, that start slowly, that drain."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from headgate import LoadBalancer

from .conftest import Balance, MakeBackend
from .harness.backends import Backend, Connection, Script
from .harness.client import fetch
from .harness.headgate import Headgate
from .harness.ports import HeldPort
from .harness.waiting import PATIENCE_S, eventually
from .harness.wire import Response

# Long enough that nothing comes back during a test.
OPENS_AT_TWO = {"failure_threshold": 2, "failure_rate": False, "recovery": "1h", "recovery_max": "1h"}
TCP = {"type": "tcp", "interval": "100ms"}


def answers(status: str, *fields: tuple[str, str]) -> Script:
    def answer(connection: Connection) -> None:
        for _ in connection.each():
            connection.respond(connection.backend.name.encode(), status, fields)

    return answer


def pool_status(headgate: Headgate) -> dict[str, Any]:
    (pool,) = headgate.get("/lb/status").json()["pools"]
    assert isinstance(pool, dict)
    return pool


def states(headgate: Headgate) -> Counter[str]:
    return Counter(backend["state"] for backend in headgate.status())


@pytest.mark.parametrize("panic", [True, False])
def test_panic_uses_ejected_backends_again_unless_it_is_off(
    make_backend: MakeBackend, balance: Balance, panic: bool
) -> None:
    """One of four is dead and two answer 500 to everything: one is left, which is fewer than half."""
    good = make_backend(name="good")
    bad = [make_backend(answers("500 Internal Server Error"), name) for name in ("bad1", "bad2")]
    with HeldPort() as dead:
        settings: dict[str, object] = {} if panic else {"panic": False}
        headgate = balance(good, *bad, dead.url, health=TCP, breaker=OPENS_AT_TWO, **settings)
        assert states(headgate) == {"up": 3, "down": 1}
        with headgate.client() as client:

            def all_ejected() -> bool:
                client.get()
                return states(headgate)["ejected"] == 2

            eventually(all_ejected, "both to be ejected")
            reasons = {backend["reason"] for backend in headgate.status() if backend["state"] == "ejected"}
            assert reasons == {"2 failures in a row: server error 500; out for 3600 s"}
            assert pool_status(headgate)["panic"] is panic
            served = Counter(client.get().body.decode() for _ in range(30))
        assert served == ({"good": 10, "bad1": 10, "bad2": 10} if panic else {"good": 30})
    said = "pool web: panic: 1 of 4 backends are routable: ejected ones are used again"
    if panic:
        eventually(lambda: said in headgate.process.output, "the log to say so")
    assert (said in headgate.process.output) is panic


def test_backups_serve_when_the_first_level_is_gone_and_stand_by_when_it_is_back(
    three: list[Backend], balance: Balance
) -> None:
    a, b, c = three
    backup: dict[str, object] = {"url": c.url, "priority": 1}
    headgate = balance(a, b, backup, health={**TCP, "rise": 1}, slow_start="off")
    assert set(headgate.names(20)) == {"a", "b"}
    a.stop()
    b.stop()
    # No request meets an error: those that find a and b dead go on to c, long before any check has noticed.
    assert headgate.names(20) == ["c"] * 20
    eventually(lambda: states(headgate) == {"down": 2, "up": 1}, "the checks to notice")
    assert headgate.names(20) == ["c"] * 20
    a.start()
    b.start()
    eventually(lambda: states(headgate) == {"up": 3}, "the first level to be back")
    assert set(headgate.names(20)) == {"a", "b"}


def test_a_backend_that_asks_for_less_gets_less_and_is_not_ejected(make_backend: MakeBackend, balance: Balance) -> None:
    busy = make_backend(answers("503 Service Unavailable", ("Retry-After", "30")), "busy")
    free = make_backend(name="free")
    headgate = balance(busy, free, health=TCP, breaker=OPENS_AT_TWO)
    assert set(headgate.names(20)) == {"free"}, "each was tried elsewhere"
    eventually(lambda: headgate.backend(busy.url)["part"] == 0.1, "it to get less")
    row = headgate.backend(busy.url)
    assert (row["state"], row["failed"]) == ("up", 0)
    assert headgate.backend(free.url)["part"] == 1.0
    said = f"backend web/{busy.url} gets less: it answered 503 with Retry-After, for 30 s"
    eventually(lambda: said in headgate.process.output, "the log to say so")


def test_one_that_comes_back_starts_slowly_and_gets_more(three: list[Backend], balance: Balance) -> None:
    a, b, _ = three
    headgate = balance(a, b, health={**TCP, "fall": 1, "rise": 1}, slow_start="6s", strategy="weighted_round_robin")
    assert [backend["part"] for backend in headgate.status()] == [1.0, 1.0], "what is there at the start is warm"
    b.stop()
    headgate.wait_health(b.url, False)
    b.start()
    headgate.wait_health(b.url, True)
    seen: list[float] = []

    def more() -> bool:
        seen.append(headgate.backend(b.url)["part"])
        return seen[-1] > max(seen[0], 0.2)

    eventually(more, "a larger share")
    assert seen == sorted(seen)
    assert seen[0] < 1.0
    assert headgate.backend(a.url)["part"] == 1.0


def test_a_drain_with_a_deadline_moves_bound_sessions_and_ends_connections(make_backend: MakeBackend) -> None:
    a_waits = threading.Event()

    def slow(connection: Connection) -> None:
        for request in connection.each():
            if request.target == "/slow":
                a_waits.set()
                connection.wait_ended()
                return
            connection.respond(connection.backend.name.encode())

    a, b = make_backend(slow, "a"), make_backend(name="b")
    config = {
        "listeners": [{"bind": "127.0.0.1:0"}],
        "access_log": {"format": "off"},
        "pools": {
            "web": {
                "backends": [{"url": a.url, "name": "a"}, {"url": b.url, "name": "b"}],
                "sticky": {"secret": "only for these tests"},
                "health": False,
            }
        },
    }

    async def main() -> None:
        async with LoadBalancer(config) as balancer:
            host, _, number = balancer.addresses[0].rpartition(":")
            address = (host, int(number))
            pool = balancer.pools["web"]
            bound: list[tuple[str, str]] = []

            async def ask(target: str = "/") -> Response:
                return await asyncio.to_thread(fetch, address, target, bound)

            while (answer := await ask()).body != b"a":
                pass
            (line,) = answer.headers("set-cookie")

            pool.drain("a", deadline_s=3600)
            assert {(await ask()).body for _ in range(6)} == {b"b"}, "no new sessions"
            bound.append(("Cookie", line.split(";")[0]))
            assert {(await ask()).body for _ in range(6)} == {b"a"}, "bound ones stay"
            in_flight = asyncio.create_task(ask("/slow"))
            await asyncio.to_thread(a_waits.wait, PATIENCE_S)

            pool.drain("a", deadline_s=0.1)  # another deadline
            assert (await in_flight).body == b"b", "cut off, and tried elsewhere"
            assert (pool["a"].state, pool["a"].active) == ("drained", 0)
            moved = await ask()
            assert moved.body == b"b"
            assert len(moved.headers("set-cookie")) == 1, "bound anew"
            await asyncio.to_thread(
                eventually,
                lambda: all(connection.ended.is_set() for connection in a.used_connections()),
                "its connections to end",
            )
            assert pool["a"].failed == 0, "nothing of that counts against it"
            pool.enable("a")
            assert (await ask()).body == b"a"

    asyncio.run(main())
