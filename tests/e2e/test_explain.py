"""Explain and reality agree: what `POST /explain` says of a request is what becomes of it."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headgate.balancing.registry import BUILT_IN
from headgate.balancing.sticky import cookie_value
from headgate.cli.admin_client import Connection

from .conftest import MakeBackend, Run
from .harness.backends import Backend
from .harness.client import Client
from .harness.headgate import COMMAND, Headgate
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.waiting import eventually

REQUESTS = 500
SECRET = "a secret of the tests, long enough"
OPTIONS: Mapping[str, Mapping[str, object]] = {
    "random_subset": {"balancer": 1, "balancers": 3, "size": 3},
    "ring_hash": {"key": "header:X-Key"},
    "maglev": {"key": "query:user", "table_size": 251},
    "bounded_hash": {"key": "path"},
    # Long, so that what is learned does not fade between the question and the request.
    **{name: {"decay": "10m"} for name in ("least_time", "peak_ewma", "prequal")},
}
STRATEGIES = (*BUILT_IN, "mine:Grumpy")
MINE = '''
"""A strategy of somebody's own: it says nothing of itself, and draws from Python's own random source."""
import random

class Grumpy:
    def __init__(self):
        self.last = None
    def update(self, backends):
        self.backends = backends
    def pick(self, request, tried):
        left = [one for one in self.backends if one not in tried and one is not self.last] or self.backends
        self.last = random.choice(left)
        return self.last
'''


def host_of(strategy: str) -> str:
    return f"{strategy.partition(':')[0].replace('_', '-')}.test"


def pools(backends: list[Backend], dead: HeldPort, drawn: random.Random) -> dict[str, Any]:
    """One for each strategy, over the same servers: with weights, a priority that stands by, one that is down."""
    made: dict[str, Any] = {}
    for number, strategy in enumerate(STRATEGIES):
        members: list[dict[str, object]] = [
            {"url": backend.url, "name": backend.name, "weight": drawn.choice([1, 1, 2, 3])} for backend in backends
        ]
        members.append({"url": dead.url, "name": "dead"})
        if number % 3 == 1:
            members[-3] |= {"priority": 1}
            members[-2] |= {"priority": 1}
        made[strategy.replace(":", "-")] = {
            "strategy": {"name": strategy, **OPTIONS.get(strategy, {})},
            "backends": members,
            "sticky": {"secret": SECRET, "name": "bound"} if number % 2 else False,
            "slow_start": "off",
            "health": {"interval": "1h", "timeout": "1s", "fall": 1},
        }
    return made


def a_request(drawn: random.Random, names: list[str]) -> dict[str, Any]:
    """Somebody, somewhere, wants something."""
    strategy = drawn.choice(STRATEGIES)
    host = drawn.choice([host_of(strategy)] * 8 + [host_of(strategy).upper(), "nobody.test", f"x.{host_of(strategy)}"])
    path = drawn.choice(["/", "/cart", "/api", "/api/v1/x", "/apix", "/%61pi", "//api"])
    if drawn.random() < 0.5:
        path += f"?user={drawn.randrange(40)}"
    headers = [("Host", host), ("X-Forwarded-For", f"198.51.{drawn.randrange(4)}.{drawn.randrange(200)}")]
    if drawn.random() < 0.5:
        headers.append(("X-Key", f"key {drawn.randrange(50)}"))
    if drawn.random() < 0.4:
        name = drawn.choice([*names, "dead", "stranger"])
        value = cookie_value(SECRET.encode(), strategy.replace(":", "-"), name).decode()
        headers.append(("Cookie", f"other=1; bound={value}; more=2"))
    return {"method": drawn.choice(["GET", "GET", "HEAD", "DELETE"]), "path": path, "headers": headers}


def ask(admin: Connection, headgate: Headgate, request: Mapping[str, Any]) -> dict[str, Any]:
    said = admin.post(
        "explain",
        body={
            "method": request["method"],
            "url": f"{headgate.url.rstrip('/')}{request['path']}",
            "headers": request["headers"],
        },
    )
    assert isinstance(said, dict)
    return said


def test_500_requests_go_where_it_was_said(
    processes: Processes, tmp_path: Path, port: HeldPort, make_backend: MakeBackend, admin: Connection
) -> None:
    drawn = random.Random(7)
    backends = [make_backend(name=name) for name in "abcdef"]
    names = [backend.name for backend in backends]
    (tmp_path / "mine.py").write_text(MINE)
    with HeldPort() as dead:
        made = pools(backends, dead, drawn)
        routes = [{"host": host_of(strategy), "pool": strategy.replace(":", "-")} for strategy in STRATEGIES]
        routes.append({"host": "*.random.test", "pool": "p2c"})
        routes += [{"host": host, "path_prefix": "/api", "pool": "maglev"} for host in ("p2c.test", "random.test")]
        config = {
            "listeners": [{"bind": port.bind, "trusted_proxies": ["127.0.0.0/8"]}],
            "routes": routes,
            "pools": made,
            "admin": {"bind": admin.address},
            "access_log": {"format": "off"},
        }
        headgate = Headgate.run(processes, tmp_path, config, port, arguments=["--app-dir", tmp_path])
        for pool in made:
            admin.post("pools", pool, "backends", "e", "drain")
            admin.post("pools", pool, "backends", "f", "disable")
        wrong = []
        seen: Counter[str] = Counter()
        with headgate.client() as client:
            for number in range(REQUESTS):
                request = a_request(drawn, names)
                said = ask(admin, headgate, request)
                went = send(client, request)
                seen[said["strategy"] if said["picked"] else str(said["status"])] += 1
                seen[said["pickedBy"]] += 1
                if (said["picked"] or str(said["status"])) != went:
                    wrong.append((number, request, said["outcome"], went))
                assert "dead" not in went
        assert not wrong, wrong[:3]
    # All of it was about something.
    assert all(seen[strategy] for strategy in STRATEGIES), seen
    assert min(seen["404"], seen["sticky"], seen["strategy"]) >= 20, seen


def send(client: Client, request: Mapping[str, Any]) -> str:
    """Which backend answered; else the status."""
    lines = [f"{request['method']} {request['path']} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request["headers"]]
    client.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    response = client.response(request["method"])
    return response.header("X-Backend") or str(response.status)


def decided(admin: Connection, **query: object) -> list[dict[str, Any]]:
    """Decisions, once there are any: a worker writes them when it has answered."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = admin.get("decisions", **query)["decisions"]
        return bool(found)

    eventually(look, f"a decision about {query}")
    return found


def test_each_worker_speaks_for_itself(run: Run, port: HeldPort, make_backend: MakeBackend, admin: Connection) -> None:
    """Two workers take turns of their own; which of them served is in the decision about the request."""
    backends = [make_backend(name=name) for name in "abc"]
    run(
        {
            "workers": 2,
            "listeners": [{"bind": port.bind, "trusted_proxies": ["127.0.0.0/8"]}],
            "pools": {"web": {"backends": [{"url": one.url, "name": one.name} for one in backends], "health": False}},
            "decisions": {"sample": 1.0, "query": "names"},
            "admin": {"bind": admin.address},
            "access_log": {"format": "off"},
        }
    )
    workers = set()
    for number in range(24):
        said = admin.post("explain", body={"url": f"http://{port.bind}/?secret=1"})
        assert [view["worker"] for view in said["workers"]] == [0, 1]
        with Client(port.address) as client:
            went = client.get("/?secret=1", [("X-Request-ID", f"number-{number}")]).header("X-Backend")
        (decision,) = decided(admin, id=f"number-{number}")
        workers.add(decision["worker"])
        assert said["workers"][decision["worker"]]["picked"] == went
        assert [one["backend"] for one in decision["attempts"]] == [went]
        assert (decision["path"], decision["sampled"], decision["failed"]) == ("/?secret=*", True, False)
    # The kernel may give all to one of them; both are asked all the same.
    assert workers <= {0, 1}


def test_decisions_outlive_their_worker(run: Run, port: HeldPort, make_backend: MakeBackend, admin: Connection) -> None:
    """What failed is kept, with each attempt; a killed worker's are still there, and its replacement goes on."""

    def hang_up(connection: Any) -> None:
        for _ in connection.each():
            connection.reset()

    good = make_backend(name="good")
    bad = make_backend(hang_up, name="bad")
    headgate = run(
        {
            "listeners": [{"bind": port.bind, "trusted_proxies": ["127.0.0.0/8"]}],
            "pools": {
                "web": {
                    "backends": [{"url": bad.url, "name": "bad"}, {"url": good.url, "name": "good"}],
                    "health": False,
                    "breaker": False,
                }
            },
            "decisions": {"sample": False},
            "admin": {"bind": admin.address},
            "access_log": {"format": "off"},
        }
    )

    def retried(id: str) -> dict[str, Any]:
        with headgate.client() as client:  # a worker's first one goes to the first backend
            response = client.get("/?token=s3cret", [("X-Request-ID", id), ("Authorization", "s3cret")])
            assert response.status == 200
        (found,) = decided(admin, id=id, failed="true")
        return found

    first = retried("before")
    assert [(one["backend"], one["kind"]) for one in first["attempts"]] == [("bad", "reset"), ("good", "ok")]
    assert (first["status"], first["attemptsMade"], first["sampled"], first["kind"]) == (200, 2, False, "ok")
    assert "s3cret" not in json.dumps(admin.get("decisions"))
    (worker,) = headgate.workers()
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: headgate.workers() not in ([], [worker]) and port.accepts(), "the replacement")
    second = retried("after")
    rows = admin.get("decisions", backend="bad")["decisions"]
    assert [row["id"] for row in rows] == ["after", "before"]
    assert rows == [second, first]


def test_the_commands(
    run: Run, port: HeldPort, make_backend: MakeBackend, admin: Connection, processes: Processes, tmp_path: Path
) -> None:
    """What a person sees; and what the file alone says is what the balancer says."""
    backend = make_backend(name="a")
    with HeldPort() as dead:
        run(
            {
                "listeners": [{"bind": port.bind}],
                "routes": [{"pool": "web", "path_prefix": "/shop"}, {"pool": "web", "host": "shop.test"}],
                "pools": {
                    "web": {
                        "backends": [{"url": backend.url, "name": "a"}, {"url": dead.url, "name": "dead"}],
                        "health": {"interval": "1h", "timeout": "1s", "fall": 1},
                    }
                },
                "admin": {"bind": admin.address},
            }
        )

        def command(*words: str) -> str:
            process = processes.start([*COMMAND, *words])
            assert process.wait_exit() == 0, process.output
            return process.stdout.text

        url = f"http://{port.bind}/shop/x"
        said = command("explain", url, "--admin", admin.address)
        assert "=> goes to a (" in said
        assert "route     1: any host, paths below /shop -> pool web" in said
        assert "DOWN" in said
        assert "down (first check failed: connection refused)" in said
        named = command("explain", "GET", url, "-H", "Host: shop.test", "-c", str(tmp_path / "headgate.json"))
        assert "route     2: host shop.test, any path" in named
        assert "route 1 (*/shop -> web) matches too, but route 2 names the host (shop.test)" in named
        assert "every backend is thought to be up and idle" in named
        with Client(port.address) as client:
            assert client.get("/none").status == 404
        decided(admin, failed="true")
        listed = command("decisions", "--failed", "--admin", admin.address)
        assert " 404 no_route GET h.example/none - " in listed
        one = command("explain", "--id", listed.split()[1], "--admin", admin.address)
        assert "=> 404, no_route: No route matches host and path." in one
