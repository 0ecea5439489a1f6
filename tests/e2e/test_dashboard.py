"""What `GET /stream` says of a running balancer is what its client has counted; over restarts of workers, too."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..unit.admin.client import connected
from .conftest import MakeBackend
from .harness.backends import Connection
from .harness.client import fetch
from .harness.headgate import TOKEN, Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.waiting import PATIENCE_S, eventually


class Told:
    """A reader that keeps what it is told, as the page does: everything, then differences."""

    def __init__(self, address: str) -> None:
        self.sock = connected(address)
        self.sock.settimeout(4 * PATIENCE_S)  # who comes during an upgrade waits for the end of that
        lines = f"GET /stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        self.sock.sendall(lines.encode())
        self.file = self.sock.makefile("rb")
        while self.file.readline() != b"\r\n":
            pass
        self.run = ""
        self.totals: dict[str, Any] = {}
        self.requests: dict[int, int] = {}
        self.failed: dict[int, int] = {}
        self.pools: dict[str, int] = {}
        self.routes: dict[int, int] = {}
        self.workers: list[dict[str, Any]] = []
        self.rows: list[list[float]] = []
        self.events: list[str] = []
        self.hear()

    def hear(self) -> str:
        """The next message. Returns its name."""
        name = self.file.readline().decode().strip()
        if not name:
            raise EOFError
        data = json.loads(self.file.readline().removeprefix(b"data: "))
        self.file.readline()
        if name == "event: state":
            data["pools"] = data["poolNumbers"]
            data["numbers"] = [[one["state"]["id"], *one["numbers"]] for one in data["backends"]]
            self.rows += data["seconds"] or []
            self.run = data["run"]
        if data.get("totals"):
            before = self.totals
            self.totals = data["totals"]
            # No counter goes back.
            assert self.totals["requests"] >= before.get("requests", 0)
        for number, _, _, _, _, requests, failed in data.get("numbers", []):
            assert requests >= self.requests.get(number, 0)
            self.requests[number] = requests
            self.failed[number] = failed
        for row in data["routeNumbers"] if "routeNumbers" in data else data.get("routes", []):
            self.routes[row[0]] = row[3]
        for row in data.get("pools", []):
            self.pools[row[0]] = row[6]
        self.workers = data.get("workers") or self.workers
        self.rows += [data["row"]] if data.get("row") else []
        self.events += [one["what"] for one in data.get("events", [])]
        return name.removeprefix("event: ")

    def hear_out(self) -> None:
        """Until the stream ends."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self.hear()

    def until(self, requests: int) -> None:
        """Until that many are told of, and everything that is told with them: a client has its answer a moment before
        it is counted, so by the look after that. (What is told of an event in between has no counters.)"""
        while self.totals["requests"] < requests:
            self.hear()
        while self.hear() != "tick":
            pass

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def admin() -> Iterator[HeldPort]:
    with HeldPort() as held:
        yield held


@pytest.mark.parametrize("workers", [1, 4])
def test_the_stream_agrees_with_the_client(
    processes: Processes, tmp_path: Path, port: HeldPort, admin: HeldPort, make_backend: MakeBackend, workers: int
) -> None:
    def refuse(connection: Connection) -> None:
        for _ in connection.each():
            connection.respond(b"no", "500 Internal Server Error")

    good = [make_backend(name=name) for name in "ab"]
    bad = make_backend(refuse, "bad")
    config = configuration(
        port,
        {
            "web": pool(*[one.url for one in good]),
            "bad": pool(bad.url, breaker={"failure_threshold": 1000, "failure_rate": 1.0}),
        },
        routes=[{"pool": "web"}, {"pool": "bad", "path_prefix": "/bad"}],
        admin={"bind": admin.bind, "token": TOKEN},
        workers=workers,
    )
    headgate = Headgate.run(processes, tmp_path, config, port)
    told = Told(admin.bind)

    def load(fine: int, wrong: int) -> None:
        for number in range(fine + wrong):
            answer = fetch(port.address, "/" if number < fine else "/bad")
            assert answer.status == (200 if number < fine else 500)

    def agrees(fine: int, wrong: int) -> None:
        told.until(fine + wrong)
        assert told.totals["requests"] == fine + wrong
        assert (told.totals["statuses"]["2xx"], told.totals["statuses"]["5xx"]) == (fine, wrong)
        assert told.totals["outcomes"] == {"ok": fine + wrong}  # all were passed on
        assert sum(told.requests.values()) == fine + wrong
        assert sum(told.failed.values()) == wrong
        assert told.routes == {0: fine, 1: wrong}
        assert told.pools == {"web": fine, "bad": wrong}
        assert sum(worker["requests"] for worker in told.workers) == fine + wrong
        # Each row is a rate over about a second; a busy machine makes some longer, and none much shorter.
        assert 0 < sum(row[1] for row in told.rows) <= 1.3 * (fine + wrong)
        assert told.totals["inFlight"] == 0

    load(30, 6)
    agrees(30, 6)
    victim = headgate.workers()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in headgate.workers() and len(headgate.workers()) == workers, "the replacement")
    eventually(port.accepts, "somebody to accept")
    load(10, 4)
    agrees(40, 10)
    while "worker died" not in told.events:
        told.hear()
    told.close()
    assert headgate.stop() == 0


def test_an_upgrade_ends_the_streams_and_takes_nothing_away(
    processes: Processes, tmp_path: Path, port: HeldPort, admin: HeldPort, make_backend: MakeBackend
) -> None:
    """Whoever reads comes again, is told that it is another run, and that the counters have gone on."""
    config = configuration(port, {"web": pool(make_backend().url)}, admin={"bind": admin.bind, "token": TOKEN})
    headgate = Headgate.run(processes, tmp_path, config, port)
    told = Told(admin.bind)
    for _ in range(5):
        assert fetch(port.address).status == 200
    told.until(5)
    headgate.process.signal(signal.SIGUSR2)
    told.hear_out()
    told.close()
    again = Told(admin.bind)  # who comes meanwhile waits in the socket's queue
    assert again.run != told.run
    while "upgraded" not in again.events:
        again.hear()
    assert again.totals["requests"] == 5
    assert fetch(port.address).status == 200
    again.until(6)
    again.close()
    assert headgate.stop() == 0
