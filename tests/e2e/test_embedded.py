"""The load balancer inside a user's asyncio program, on the default event loop and on uvloop."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

from headgate import Backend as EngineBackend
from headgate import CannotBind, ConfigError, LoadBalancer, NotRunning, Request
from headgate.api import CannotStart
from headgate.cli.admin_client import Connection as Admin
from headgate.cli.common import CommandError

from .conftest import MakeBackend
from .harness.backends import Backend, Connection
from .harness.client import Client, fetch, head
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.waiting import PATIENCE_S, eventually

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run_loop(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one kind of event loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return run


def address_of(balancer: LoadBalancer) -> tuple[str, int]:
    host, _, port = balancer.addresses[0].rpartition(":")
    return host, int(port)


async def names(balancer: LoadBalancer, count: int) -> list[str]:
    """Which backends answer; asked from a thread, since the loop's own thread carries the requests."""
    address = address_of(balancer)

    def ask() -> list[str]:
        with Client(address) as client:
            return [client.get().body.decode() for _ in range(count)]

    return await asyncio.to_thread(ask)


def urls(backends: Sequence[Backend]) -> list[str]:
    return [backend.url for backend in backends]


def test_it_balances_beside_other_work(run_loop: Run, three: list[Backend]) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        async with LoadBalancer(to=urls(three), listen="127.0.0.1:0") as balancer:
            other = asyncio.create_task(tick())
            assert Counter(await names(balancer, 30)) == {"a": 10, "b": 10, "c": 10}
            other.cancel()
            assert {view.total for view in balancer.pools["web"].backends} == {10}
            assert [view["totalRequests"] for view in balancer.status()["backends"]] == [10, 10, 10]
            address = address_of(balancer)
        assert ticks > 100
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(fetch, address)
        with pytest.raises(NotRunning):
            balancer.status()

    run_loop(main())


def test_backends_come_and_go(run_loop: Run, three: list[Backend]) -> None:
    async def until(balancer: LoadBalancer, wanted: set[str]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            # Each look is a round of real requests, so this waits on the network, not on the clock.
            seen = set(await names(balancer, 6))
            while seen != wanted:
                seen = set(await names(balancer, 6))

    async def main() -> None:
        a, b, c = three
        web = {"backends": [a.url, b.url], "health": {"interval": "100ms"}, "slow_start": "off"}
        config = {"access_log": {"format": "off"}, "listeners": [{"bind": "127.0.0.1:0"}], "pools": {"web": web}}
        async with LoadBalancer(config) as balancer:
            pool = balancer.pools["web"]
            assert set(await names(balancer, 6)) == {"a", "b"}
            pool.add(c.url)
            await until(balancer, {"a", "b", "c"})
            pool.remove(a.url)
            assert set(await names(balancer, 6)) == {"b", "c"}
            pool.disable(b.url)
            assert set(await names(balancer, 6)) == {"c"}
            pool.enable(b.url)
            await until(balancer, {"b", "c"})
            pool.drain(c.url)
            assert set(await names(balancer, 6)) == {"b"}
            assert pool[c.url].state == "draining"
            pool.enable(c.url)
            await until(balancer, {"b", "c"})
            with pytest.raises(ValueError, match="256"):
                pool.set_weight(b.url, 257)
            with pytest.raises(KeyError):
                pool["http://nowhere:1"]

    run_loop(main())


def test_weights_and_strategies_change_while_it_runs(run_loop: Run, three: list[Backend]) -> None:
    class Last:
        """Always the last of those it may pick."""

        def update(self, backends: Sequence[EngineBackend]) -> None:
            self.backends = list(backends)

        def pick(self, request: Request, tried: Collection[EngineBackend]) -> EngineBackend | None:
            return next((one for one in reversed(self.backends) if one not in tried), None)

    async def main() -> None:
        options = {"strategy": "weighted_round_robin", "listen": "127.0.0.1:0"}
        async with LoadBalancer(to=urls(three), **options) as balancer:
            pool = balancer.pools["web"]
            assert Counter(await names(balancer, 30)) == {"a": 10, "b": 10, "c": 10}
            pool.set_weight(three[0].url, 3)
            assert Counter(await names(balancer, 50)) == {"a": 30, "b": 10, "c": 10}
            pool.set_strategy(Last)
            assert await names(balancer, 4) == ["c"] * 4
            pool.set_strategy("round_robin")
            assert Counter(await names(balancer, 30)) == {"a": 18, "b": 6, "c": 6}
            with pytest.raises(ValueError, match="round_robbin"):
                pool.set_strategy("round_robbin")
            assert pool.strategy == "round_robin"

    run_loop(main())


def test_leaving_lets_requests_finish(run_loop: Run, make_backend: MakeBackend) -> None:
    release = threading.Event()

    def hold(connection: Connection) -> None:
        for _ in connection.each():
            if release.wait(PATIENCE_S):
                connection.respond(b"finished")

    backend = make_backend(hold)

    async def main() -> None:
        balancer = LoadBalancer(to=[backend.url], listen="127.0.0.1:0")
        await balancer.start()
        with Client(address_of(balancer)) as client:
            client.send(head("GET", "/"))
            await asyncio.to_thread(backend.wait_requests, 1)
            stopping = asyncio.create_task(balancer.stop())
            await asyncio.sleep(0)
            assert not stopping.done()
            release.set()
            answer = await asyncio.to_thread(client.response)
            assert answer.body == b"finished"
            await stopping
        assert not balancer.running

    run_loop(main())


def test_it_may_be_started_again(run_loop: Run, three: list[Backend]) -> None:
    async def main() -> None:
        balancer = LoadBalancer(to=urls(three), listen="127.0.0.1:0")
        for _ in range(3):
            async with balancer:
                assert len(await names(balancer, 3)) == 3
                with pytest.raises(RuntimeError):
                    await balancer.start()

    run_loop(main())


def test_two_side_by_side(run_loop: Run, three: list[Backend]) -> None:
    async def main() -> None:
        first = LoadBalancer(to=[three[0].url], listen="127.0.0.1:0")
        second = LoadBalancer(to=[three[1].url], listen="127.0.0.1:0")
        async with first, second:
            assert await names(first, 3) == ["a"] * 3
            assert await names(second, 3) == ["b"] * 3

    run_loop(main())


def test_an_address_in_use_is_an_exception(run_loop: Run, three: list[Backend]) -> None:
    async def main() -> None:
        with HeldPort() as port, port.listen():
            balancer = LoadBalancer(to=urls(three), listen=port.bind)
            with pytest.raises(CannotBind, match=str(port.number)):
                await balancer.start()
            assert not balancer.running

    run_loop(main())


def test_mistakes_are_an_exception() -> None:
    with pytest.raises(ConfigError) as caught:
        LoadBalancer({"listeners": [{"bind": "nowhere"}], "pools": {"web": {"backends": [], "strategy": "robin"}}})
    assert "bind" in str(caught.value)
    assert "robin" in str(caught.value)


PROGRAM = """
import sys
from headgate import LoadBalancer

print("starting", flush=True)
LoadBalancer({"listeners": [{"bind": sys.argv[1]}], "workers": int(sys.argv[2]), "access_log": {"format": "off"},
              "pools": {"web": {"backends": [sys.argv[3]], "health": {"type": "none"}}}}).run()
print("finished", flush=True)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_run_blocks_until_a_signal(
    processes: Processes, tmp_path: Path, port: HeldPort, make_backend: MakeBackend, workers: int
) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    program = processes.start([sys.executable, script, port.bind, str(workers), make_backend().url])
    eventually(lambda: port.accepts() or not program.running, "the listener to open")
    assert fetch(port.address).status == 200
    program.signal(signal.SIGTERM)
    started = time.monotonic()
    assert program.wait_exit() == 0, program.output
    assert time.monotonic() - started < 5
    assert program.stdout.all == ["starting", "finished"]


def embedded(admin: dict[str, object], *backends: Backend) -> LoadBalancer:
    web = {"backends": urls(backends), "health": {"type": "none"}}
    listeners = [{"bind": "127.0.0.1:0"}]
    return LoadBalancer(
        {"listeners": listeners, "pools": {"web": web}, "access_log": {"format": "off"}, "admin": admin}
    )


def test_the_admin_api_where_it_is_configured(run_loop: Run, three: list[Backend], tmp_path: Path) -> None:
    place, state = f"unix:{tmp_path}/admin.sock", str(tmp_path / "state.json")

    def operate(first: bool) -> None:
        admin = Admin(place)
        status = admin.get("status")
        assert status["ready"] is True
        assert [listener["state"] for listener in status["listeners"]] == ["open"]
        if first:
            done = admin.post("pools", "web", "backends", three[0].url, "drain")
            assert (done["applied"], done["saved"]) == (True, True)
        assert [row["state"] for row in admin.get("backends")] == ["draining", "up", "up"]
        # What only the program can do is not passed over in silence.
        with pytest.raises(CommandError, match="part of a program"):
            admin.post("reload")
        with pytest.raises(CommandError, match="part of a program"):
            admin.post("listeners", status["listeners"][0]["bind"], "drain")

    async def main() -> None:
        for first in (True, False):
            async with embedded({"bind": place, "state_file": state}, *three) as balancer:
                await asyncio.to_thread(operate, first)
                assert set(await names(balancer, 4)) == {"b", "c"}
            assert not (tmp_path / "admin.sock").exists()
        async with LoadBalancer(to=urls(three), listen="127.0.0.1:0"):
            pass

    run_loop(main())


def test_what_is_configured_of_the_admin_api_is_never_ignored(three: list[Backend], tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("nonsense")
    place = f"unix:{tmp_path}/admin.sock"

    async def main() -> None:
        with pytest.raises(CannotStart, match=r"set admin\.bind, or remove"):
            await embedded({"token": "a-token-of-24-characters"}, *three).start()
        with pytest.raises(CannotStart, match="not a state file"):
            await embedded({"bind": place, "state_file": str(tmp_path / "state.json")}, *three).start()
        assert not (tmp_path / "admin.sock").exists()

    asyncio.run(main())
