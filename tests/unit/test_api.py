"""The Python API on the real engine: a balancer, its backends and its clients in one event loop."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import tomllib
from collections.abc import Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

import headgate
from headgate import (
    Backend,
    CannotBind,
    CannotStart,
    Config,
    ConfigError,
    Context,
    LoadBalancer,
    NotRunning,
    Request,
)
from tests.unit.api_world import exchange, get, names, servers

ROOT = Path(__file__).parents[2]
Scenario = Callable[[], Coroutine[Any, Any, None]]

PATIENCE_S = 5.0


def run(scenario: Scenario) -> None:
    asyncio.run(scenario())
    gc.collect()  # what was left open is complained about here, and not in some other test


class Last:
    """Always the last backend of the set."""

    def __init__(self) -> None:
        self._backends: list[Backend] = []

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        return next((backend for backend in reversed(self._backends) if backend not in tried), None)


class Named(Last):
    """The backend whose name an option gives, or the client's X-Backend field."""

    def __init__(self, context: Context, name: str) -> None:
        super().__init__()
        assert context.clock() > 0
        self._name = name

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        wanted = (request.header("X-Backend") or self._name.encode()).decode()
        return next((backend for backend in self._backends if backend.name == wanted), None)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (states change by messages; there is no event to await)
            await asyncio.sleep(0.005)


async def refused(address: str) -> None:
    """Wait until nobody accepts at an address."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # the socket was closed while this client waited to be accepted
                continue
            writer.close()


# Running


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_requests_are_balanced_in_any_event_loop(runner: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def scenario() -> None:
        async with (
            servers("a", "b", "c") as (a, b, c),
            LoadBalancer(to=[a.url, b.url, c.url], listen="127.0.0.1:0") as balancer,
        ):
            (address,) = balancer.addresses
            assert await names(address, 6) == ["a", "b", "c"] * 2

    runner(scenario())


def test_start_returns_when_clients_are_let_in_and_backends_are_checked() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b):
            balancer = LoadBalancer(to=[a.url, b.url], listen="127.0.0.1:0")
            assert not balancer.running
            await balancer.start()
            assert balancer.running
            assert [backend.state for backend in balancer.pools["web"].backends] == ["up", "up"]
            address = balancer.addresses[0]
            await balancer.stop()
            assert not balancer.running
            with pytest.raises(ConnectionRefusedError):
                await get(address)

    run(scenario)


def test_it_can_be_started_again_and_remembers_what_was_changed() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b):
            balancer = LoadBalancer(to=[a.url], listen="127.0.0.1:0")
            async with balancer:
                balancer.pools["web"].add(b.url)
            async with balancer:
                assert sorted(await names(balancer.addresses[0], 2)) == ["a", "b"]

    run(scenario)


def test_starting_twice_is_an_error() -> None:
    async def scenario() -> None:
        async with servers("a") as (a,), LoadBalancer(to=[a.url], listen="127.0.0.1:0") as balancer:
            with pytest.raises(RuntimeError, match="runs already"):
                await balancer.start()

    run(scenario)


def test_two_balancers_live_in_one_loop() -> None:
    async def scenario() -> None:
        async with (
            servers("a", "b") as (a, b),
            LoadBalancer(to=[a.url], listen="127.0.0.1:0") as one,
            LoadBalancer(to=[b.url], listen="127.0.0.1:0") as other,
        ):
            assert await names(one.addresses[0], 2) == ["a", "a"]
            assert await names(other.addresses[0], 2) == ["b", "b"]

    run(scenario)


def test_one_balancer_stands_behind_another_on_a_unix_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        address = f"unix:{tmp_path}/inner.sock"
        async with (
            servers("a", "b") as (a, b),
            LoadBalancer(to=[a.url, b.url], listen=address) as inner,
            LoadBalancer(to=[address], listen="127.0.0.1:0") as outer,
        ):
            assert inner.addresses == [address]
            assert sorted(await names(outer.addresses[0], 2)) == ["a", "b"]
        assert not (tmp_path / "inner.sock").exists()

    run(scenario)


def test_a_request_in_flight_is_finished_and_new_clients_are_refused_meanwhile() -> None:
    async def scenario() -> None:
        async with servers("a") as (a,):
            balancer = LoadBalancer(to=[a.url], listen="127.0.0.1:0")
            await balancer.start()
            address = balancer.addresses[0]
            request = asyncio.create_task(get(address, "/wait"))
            await a.waiting.wait()
            stopping = asyncio.create_task(balancer.stop(drain_s=30))
            await asyncio.sleep(0)
            await refused(address)
            assert not stopping.done()
            a.open.set()
            assert await request == (200, "a")
            await stopping

    run(scenario)


def test_what_is_not_finished_in_time_is_cut_off() -> None:
    async def scenario() -> None:
        async with servers("a") as (a,):
            balancer = LoadBalancer(to=[a.url], listen="127.0.0.1:0")
            await balancer.start()
            request = asyncio.create_task(exchange(balancer.addresses[0], "/wait"))
            await a.waiting.wait()
            slow = asyncio.create_task(balancer.stop(drain_s=30))
            await asyncio.sleep(0)
            await balancer.stop(drain_s=0)
            await slow
            head, body = await request
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"drain_deadline" in body

    run(scenario)


def test_nothing_is_left_behind() -> None:
    async def scenario() -> None:
        async with servers("a") as (a,):
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                async with LoadBalancer(to=[a.url], listen="127.0.0.1:0") as balancer:
                    assert await names(balancer.addresses[0], 2) == ["a", "a"]
                del balancer

            def all_closed() -> bool:
                gc.collect()  # the segment is unmapped with the last object that points into it
                return len(os.listdir("/proc/self/fd")) <= before

            await until(all_closed)

    run(scenario)


# What goes wrong


def test_an_address_that_is_taken_is_named_and_nothing_is_left_behind() -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            before = len(os.listdir("/proc/self/fd"))
            balancer = LoadBalancer(
                to=["http://127.0.0.1:9"], listen=["127.0.0.1:0", f"127.0.0.1:{port}"], health_type="none"
            )
            with pytest.raises(CannotBind, match=rf"127\.0\.0\.1:{port}: already in use by"):
                await balancer.start()
            assert not balancer.running
            assert len(os.listdir("/proc/self/fd")) == before

    run(scenario)


def test_a_strategy_that_cannot_be_built_stops_the_start() -> None:
    async def scenario() -> None:
        balancer = LoadBalancer(to=["http://127.0.0.1:9"], listen="127.0.0.1:0", strategy="no_such_module:Class")
        with pytest.raises(CannotStart, match="no_such_module"):
            await balancer.start()
        assert not balancer.running

    run(scenario)


def test_all_mistakes_of_a_configuration_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        LoadBalancer({"listeners": [{"bind": 8080}], "pools": {"web": {"backends": ["ftp://x"], "strategi": "p2c"}}})
    assert {problem.key for problem in caught.value.problems} >= {
        "listeners[0].bind",
        "pools.web.backends[0].url",
        "pools.web.strategi",
    }


def test_what_is_no_strategy_is_a_mistake_like_any_other() -> None:
    with pytest.raises(ConfigError, match=r"pools\.web\.strategy: 5 is no strategy: it has no update and no pick"):
        LoadBalancer(to=["http://127.0.0.1:9"], strategy=5)


def test_a_configuration_and_keywords_do_not_go_together() -> None:
    with pytest.raises(TypeError, match="strategy"):
        LoadBalancer({}, strategy="p2c")


def test_what_only_a_running_balancer_has_says_so() -> None:
    balancer = LoadBalancer(to=["http://127.0.0.1:9"])
    for what in (
        lambda: balancer.addresses,
        balancer.status,
        lambda: balancer.pools["web"].backends,
        lambda: balancer.pools["web"].drain("x"),
    ):
        with pytest.raises(NotRunning):
            what()
    assert list(balancer.pools) == ["web"]


def test_changes_that_cannot_be_change_nothing() -> None:
    async def scenario() -> None:
        async with servers("a") as (a,), LoadBalancer(to=[a.url], listen="127.0.0.1:0") as balancer:
            pool = balancer.pools["web"]
            before = balancer.config
            with pytest.raises(ValueError, match="already"):
                pool.add(a.url)
            with pytest.raises(ValueError, match="not a URL"):
                pool.add("127.0.0.1:80")
            with pytest.raises(ValueError, match="weight"):
                pool.set_weight(a.url, 257)
            with pytest.raises(ValueError, match="no backend 'b'"):
                pool.remove("b")
            with pytest.raises(ValueError, match="nonsense"):
                pool.set_strategy("nonsense")
            with pytest.raises(ValueError, match="colour"):
                pool.set_strategy(Last, colour="red")
            with pytest.raises(KeyError):
                balancer.pools["api"]
            with pytest.raises(KeyError):
                pool["b"]
            assert balancer.config == before
            assert await names(balancer.addresses[0], 1) == ["a"]

    run(scenario)


# Looking at it


def test_backends_show_state_reason_and_counters() -> None:
    async def scenario() -> None:
        async with servers("a") as (a,):
            to = [{"url": a.url, "name": "first", "weight": 3}, {"url": "http://127.0.0.1:9", "name": "dead"}]
            async with LoadBalancer(to=to, listen="127.0.0.1:0") as balancer:
                await names(balancer.addresses[0], 4)
                first, dead = balancer.pools["web"].backends
                assert (first.name, first.url, first.weight) == ("first", a.url, 3)
                assert (first.state, first.healthy, first.total, first.active) == ("up", True, 4, 0)
                assert (dead.state, dead.healthy) == ("down", False)
                assert "connection refused" in dead.reason
                request = asyncio.create_task(get(balancer.addresses[0], "/wait"))
                await a.waiting.wait()
                assert balancer.pools["web"]["first"].active == 1
                a.open.set()
                await request

    run(scenario)


def test_status_is_what_the_status_page_says() -> None:
    async def scenario() -> None:
        async with servers("a") as (a,), LoadBalancer(to=[a.url], listen="127.0.0.1:0") as balancer:
            await names(balancer.addresses[0], 3)
            document = balancer.status()
            assert document["backends"][0]["totalRequests"] == 3
            page = json.loads((await exchange(balancer.addresses[0], "/lb/status"))[1])
            assert page["backends"] == document["backends"]
            assert page.keys() == document.keys()

    run(scenario)


# Changing it while it runs


def at_once(*urls: str) -> dict[str, object]:
    """A configuration in which who comes (back) has its full part at once."""
    pool = {"backends": list(urls), "slow_start": "off"}
    return {"access_log": {"format": "off"}, "listeners": [{"bind": "127.0.0.1:0"}], "pools": {"web": pool}}


def test_a_backend_that_is_added_gets_requests_once_it_is_checked() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b), LoadBalancer(at_once(a.url)) as balancer:
            pool = balancer.pools["web"]
            added = pool.add(b.url, weight=2, name="second")
            assert (added.state, added.weight) == ("unchecked", 2)
            assert (await pool.wait_until("second", lambda backend: backend.healthy)).state == "up"
            assert sorted(await names(balancer.addresses[0], 6)) == ["a", "a", "b", "b", "b", "b"]

    run(scenario)


def test_a_removed_backend_finishes_what_it_has_and_gets_nothing_new() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b), LoadBalancer(to=[a.url, b.url], listen="127.0.0.1:0") as balancer:
            address = balancer.addresses[0]
            request = asyncio.create_task(get(address, "/wait"))
            await a.waiting.wait()
            balancer.pools["web"].remove(a.url)
            assert await names(address, 4) == ["b"] * 4
            a.open.set()
            assert await request == (200, "a")
            assert [backend.url for backend in balancer.pools["web"].backends] == [b.url]

    run(scenario)


@pytest.mark.parametrize("how", ["disable", "drain"])
def test_a_backend_is_taken_out_and_let_back(how: str) -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b), LoadBalancer(at_once(a.url, b.url)) as balancer:
            pool = balancer.pools["web"]
            getattr(pool, how)(a.url)
            assert pool[a.url].state == {"disable": "disabled", "drain": "draining"}[how]
            assert await names(balancer.addresses[0], 4) == ["b"] * 4
            pool.enable(a.url)
            assert sorted(await names(balancer.addresses[0], 4)) == ["a", "a", "b", "b"]

    run(scenario)


def test_a_draining_backend_keeps_its_sessions_and_a_disabled_one_does_not() -> None:
    async def scenario() -> None:
        async with (
            servers("a", "b") as (a, b),
            LoadBalancer(to=[a.url, b.url], listen="127.0.0.1:0", sticky={"secret": "0123456789abcdef"}) as balancer,
        ):
            address, pool = balancer.addresses[0], balancer.pools["web"]
            head, body = await exchange(address)
            assert body == b"a"
            cookie = next(line for line in head.decode().split("\r\n") if line.startswith("Set-Cookie"))
            cookie = cookie.split(": ")[1].split(";")[0]
            assert [(await get(address, Cookie=cookie))[1] for _ in range(3)] == ["a"] * 3
            pool.drain(a.url)
            assert (await get(address, Cookie=cookie))[1] == "a"
            assert (await get(address))[1] == "b"
            pool.disable(a.url)
            assert (await get(address, Cookie=cookie))[1] == "b"

    run(scenario)


def test_weights_change() -> None:
    async def scenario() -> None:
        async with (
            servers("a", "b") as (a, b),
            LoadBalancer(to=[a.url, b.url], listen="127.0.0.1:0", strategy="weighted_round_robin") as balancer,
        ):
            pool = balancer.pools["web"]
            pool.set_weight(a.url, 3)
            assert sorted(await names(balancer.addresses[0], 8)) == ["a"] * 6 + ["b"] * 2
            pool.set_weight(a.url, 0)
            assert await names(balancer.addresses[0], 3) == ["b"] * 3

    run(scenario)


def test_a_backend_that_dies_is_left_out_and_its_requests_succeed_elsewhere() -> None:
    async def scenario() -> None:
        async with servers("b") as (b,):
            async with servers("a") as (a,):
                balancer = LoadBalancer(to=[a.url, b.url], listen="127.0.0.1:0", health_type="none")
                await balancer.start()
                assert await names(balancer.addresses[0], 2) == ["a", "b"]
            assert await names(balancer.addresses[0], 6) == ["b"] * 6
            await until(lambda: balancer.pools["web"][a.url].state == "ejected")
            await balancer.stop()

    run(scenario)


def test_the_breaker_takes_a_backend_out_that_answers_with_errors() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b), LoadBalancer(to=[a.url, b.url], listen="127.0.0.1:0") as balancer:
            address = balancer.addresses[0]
            for _ in range(10):
                await get(address, "/fail")
            await until(lambda: any(backend.state == "ejected" for backend in balancer.pools["web"].backends))
            assert len(set(await names(address, 4))) == 1

    run(scenario)


def test_waiting_for_a_backend_ends_with_its_time_or_with_the_backend() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b), LoadBalancer(to=[a.url, b.url], listen="127.0.0.1:0") as balancer:
            pool = balancer.pools["web"]
            with pytest.raises(TimeoutError):
                await pool.wait_until(a.url, lambda backend: backend.weight == 7, timeout_s=0.03)
            waiting = asyncio.create_task(pool.wait_until(b.url, lambda backend: backend.weight == 7))
            await asyncio.sleep(0)
            pool.remove(b.url)
            with pytest.raises(KeyError):
                await waiting

    run(scenario)


# Strategies


def test_a_strategy_may_be_a_name_a_class_or_an_object() -> None:
    async def scenario() -> None:
        async with (
            servers("a", "b") as (a, b),
            LoadBalancer(to=[a.url, b.url], listen="127.0.0.1:0", strategy=Last) as balancer,
        ):
            address, pool = balancer.addresses[0], balancer.pools["web"]
            assert pool.strategy == f"{__name__}:Last"
            assert await names(address, 3) == ["b"] * 3
            pool.set_strategy("round_robin")
            assert pool.strategy == "round_robin"
            assert await names(address, 2) == ["a", "b"]
            mine = Last()
            pool.set_strategy(mine)
            assert await names(address, 2) == ["b", "b"]
            pool.set_strategy(Last())
            assert pool.strategy != f"{__name__}:Last", "another object is another strategy"
            pool.set_strategy({"name": "p2c"})
            assert pool.strategy == "p2c"

    run(scenario)


def test_a_strategy_of_ones_own_gets_options_and_context_and_sees_the_request() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b):
            config = {
                "listeners": [{"bind": "127.0.0.1:0"}],
                "access_log": {"format": "off"},
                "pools": {"web": {"backends": [{"url": a.url, "name": "a"}, {"url": b.url, "name": "b"}]}},
            }
            async with LoadBalancer(config) as balancer:
                address = balancer.addresses[0]
                balancer.pools["web"].set_strategy(lambda context: Named(context, "b"))
                assert await names(address, 2) == ["b", "b"]
                assert await get(address, **{"X-Backend": "a"}) == (200, "a")

    run(scenario)


def test_a_strategy_object_stands_in_a_whole_configuration_too() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b):
            tree = {
                "listeners": [{"bind": "127.0.0.1:0"}],
                "access_log": {"format": "off"},
                "pools": {"web": {"backends": [a.url, b.url], "strategy": Last()}},
            }
            async with LoadBalancer(tree) as balancer:
                assert await names(balancer.addresses[0], 2) == ["b", "b"]

    run(scenario)


# Whole configurations


def test_another_configuration_is_taken_over_without_losing_what_stays() -> None:
    async def scenario() -> None:
        async with servers("a", "b") as (a, b):
            tree: dict[str, Any] = {
                "listeners": [{"bind": "127.0.0.1:0"}],
                "access_log": {"format": "off"},
                "pools": {"web": {"backends": [a.url]}},
            }
            async with LoadBalancer(Config.from_dict(tree)) as balancer:
                address = balancer.addresses[0]
                assert await names(address, 2) == ["a", "a"]
                tree["pools"]["api"] = {"backends": [b.url]}
                tree["routes"] = [{"pool": "web"}, {"pool": "api", "path_prefix": "/api"}]
                balancer.apply(tree)
                await until(lambda: balancer.pools["api"].backends[0].healthy)
                assert (await get(address, "/api"))[1] == "b"
                assert (await get(address, "/"))[1] == "a"
                assert balancer.pools["web"].backends[0].total == 3
                with pytest.raises(ValueError, match="listeners"):
                    balancer.apply({**tree, "listeners": [{"bind": "127.0.0.1:1"}]})

    run(scenario)


def test_a_configuration_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lb.toml"

    async def scenario() -> None:
        async with servers("a") as (a,):
            path.write_text(
                f'access_log.format = "off"\n[[listeners]]\nbind = "127.0.0.1:0"\n[pools.web]\nbackends = ["{a.url}"]\n'
            )
            async with LoadBalancer(path) as balancer:
                assert await names(balancer.addresses[0], 1) == ["a"]

    run(scenario)


# The package


def test_the_package_offers_what_it_promises() -> None:
    for name in headgate.__all__:
        assert getattr(headgate, name) is not None
    assert set(headgate.__all__) <= set(dir(headgate))
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = headgate.no_such_thing


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert headgate.__version__ == project["version"]
