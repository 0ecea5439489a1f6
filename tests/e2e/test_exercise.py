"""The well-known exercise: three `python -m http.server`; one is killed and started again, one is stopped."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .harness.client import fetch
from .harness.headgate import Headgate
from .harness.ports import HeldPort
from .harness.processes import Process, Processes
from .harness.tools import require
from .harness.waiting import eventually

INTERVAL_S = 0.5
RISE = 2


class Site:
    """One `python -m http.server` on a directory whose index says its name."""

    def __init__(self, processes: Processes, directory: Path, name: str) -> None:
        self.name = name
        self.port = HeldPort()
        self._processes = processes
        self._directory = directory / name
        self._directory.mkdir()
        (self._directory / "index.html").write_text(name)
        self.process = self.start()

    def start(self) -> Process:
        argv: list[str | Path] = [sys.executable, "-m", "http.server", "--bind", self.port.host]
        self.process = self._processes.start([*argv, "--directory", self._directory, str(self.port.number)])
        eventually(self.port.accepts, f"{self.name} to listen")
        return self.process


@pytest.fixture
def sites(processes: Processes, tmp_path: Path) -> Iterator[list[Site]]:
    sites = [Site(processes, tmp_path, name) for name in ("one", "two", "three")]
    yield sites
    for site in sites:
        site.port.close()


@pytest.fixture
def headgate(processes: Processes, port: HeldPort, sites: list[Site]) -> Headgate:
    """The balancer over the three, as a newcomer starts it; a hung backend is given up after three seconds. (The others
    are Python, too: after a second a busy machine may not have let them answer.)"""
    options = ["--health-path", "/", "--health-interval", f"{INTERVAL_S:g}s", "--timeout", "3s"]
    return Headgate.proxy(processes, port, [site.port.url for site in sites], *options)


def test_requests_alternate(headgate: Headgate) -> None:
    names = headgate.names(30)
    assert Counter(names) == {"one": 10, "two": 10, "three": 10}
    assert all(set(names[n : n + 3]) == {"one", "two", "three"} for n in range(0, 30, 3))


def test_a_killed_backend_costs_no_request_and_returns(
    headgate: Headgate, sites: list[Site], processes: Processes
) -> None:
    total = 1500
    answer = r"%{http_code} %{size_download} %{errormsg}\n"
    options = ["--parallel", "--parallel-max", "16", "--silent", "--output", "/dev/null", "--write-out", answer]
    load = processes.start([require("curl"), *options, f"{headgate.url}/?[1-{total}]"])
    load.stdout.wait_for("^200 ", count=total // 5)
    killed = sites[1]
    killed.process.kill()
    load.wait_exit(60)
    answers = load.stdout.matching("^[0-9]{3} ")
    failed = [line for line in answers if not line.startswith(("200 3 ", "200 5 "))]
    assert len(answers) == total
    # Only an answer whose first bytes had reached the client already may be cut off.
    assert len(failed) <= 1, failed
    assert all(line.startswith("200 ") for line in failed), failed

    headgate.wait_health(killed.port.url, False)
    assert set(headgate.names(10)) == {"one", "three"}

    killed.start()
    # Thirty, since it starts slowly: a tenth of what the others get.
    eventually(lambda: killed.name in headgate.names(30), "traffic to the restarted backend")
    # So many checks, and no more.
    headgate.process.stderr.wait_for(rf"{killed.port.number} up: {RISE} checks passed")


def test_a_hanging_backend_does_not_hold_up_the_others(headgate: Headgate, sites: list[Site]) -> None:
    hanging = sites[2]
    hanging.process.signal(signal.SIGSTOP)
    took: list[float] = []
    lock = threading.Lock()

    def ask(_: int) -> bytes:
        started = time.monotonic()
        body = fetch(headgate.address).body
        with lock:
            took.append(time.monotonic() - started)
        return body

    with ThreadPoolExecutor(6) as clients:
        bodies = Counter(clients.map(ask, range(60)))
    assert bodies[b"one"] + bodies[b"two"] == 60
    # Those sent to the hanging one were tried elsewhere after its time; all others were answered as ever.
    assert sorted(took)[39] < 0.5
    # Down by its checks, not only ejected by the traffic: then their passing again is what brings it back at once.
    eventually(lambda: headgate.backend(hanging.port.url)["state"] == "down", "the checks to fail")
    hanging.process.signal(signal.SIGCONT)
    headgate.wait_health(hanging.port.url, True)
    eventually(lambda: "three" in headgate.names(3), "traffic to the backend that hung")
