"""Does size cost? 4,000 routes and 5,000 backends: start, reload, check, and what a request costs. `make bench-scale`.

    python -m bench.scale [--seconds S] [--rounds N]

All times are processor time, so that what else the machine does is not counted; on an idle one they are how long it
takes.

- load: the configuration file to a validated `Config`, in a process of its own, imports included. Goal: < 2 s.
- start: supervisor and worker until the first client is let in.
- check: `headgate check`, the whole command. Goal: < 1 s.
- reload: `POST /reload` of a file with another weight for every backend, until every worker runs it. Goal: < 1 s.
- request: processor time for a request to one pool of 3, with 4,000 routes and with one. Goal: 1.1 times.
  The two run side by side and are loaded in turns; the lowest of all rounds counts: other work only adds.

Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.harness.client import fetch
from tests.e2e.harness.ports import HeldPort
from tests.e2e.harness.processes import Process, Processes

from headgate.cli.admin_client import Connection

from . import cpu, load
from .proxies import LOAD_CORE, PROXY_CORE, Backends, _await_port

ROUTES = 4000
BACKENDS = 5000
POOLS = 100
CONNECTIONS = 32

_LOAD = "import sys; from headgate.config.load import load; load(sys.argv[1])"


def configuration(port: HeldPort, admin: Path, web: list[str], *, large: bool, weight: int = 1) -> dict[str, Any]:
    """One pool of three that all of the load goes to, by the last of all routes; and, if large, all the others."""
    pools: dict[str, Any] = {"web": {"backends": [f"http://{address}" for address in web], "health": {"type": "none"}}}
    routes: list[dict[str, str]] = []
    if large:
        per_pool = BACKENDS // POOLS
        for pool in range(POOLS):
            backends = [
                {"url": f"http://10.{pool}.{n // 200}.{n % 200 + 1}:9000", "weight": weight} for n in range(per_pool)
            ]
            pools[f"p{pool}"] = {"backends": backends, "health": {"type": "none"}}
        routes = [
            {"host": f"h{n // 4}.example", "path_prefix": f"/part{n % 4}", "pool": f"p{n % POOLS}"}
            for n in range(ROUTES - 1)
        ]
    return {
        "access_log": {"format": "off"},
        "admin": {"bind": f"unix:{admin}"},
        "listeners": [{"bind": port.bind}],
        "routes": [*routes, {"pool": "web"}],
        "pools": pools,
    }


class Balancer:
    """A running headgate with its configuration file."""

    def __init__(self, processes: Processes, directory: Path, name: str, web: list[str], *, large: bool) -> None:
        self.port = HeldPort()
        self.path = directory / f"{name}.json"
        self._admin = directory / f"{name}.sock"
        self._web = web
        self._large = large
        self._wrk = load.Wrk(directory, LOAD_CORE, CONNECTIONS, [], 0)
        self.write(1)
        self.process: Process = processes.start(
            ["taskset", "-c", str(PROXY_CORE), sys.executable, "-m", "headgate", "run", "-c", self.path]
        )
        _await_port(self.process, self.port.number)
        self.start_s = cpu.seconds(self.process.pid)
        self.admin = Connection(f"unix:{self._admin}")
        assert fetch(self.port.address).status == 200

    def write(self, weight: int) -> None:
        """The file, with this weight for all that carries no load."""
        tree = configuration(self.port, self._admin, self._web, large=self._large, weight=weight)
        self.path.write_text(json.dumps(tree))

    def reload(self) -> float:
        """Processor time until every worker runs it: supervisor and workers one after the other, as it happens."""
        generation = self.admin.get("status")["generation"]
        before = cpu.seconds(self.process.pid)
        changes = self.admin.post("reload")["changes"]
        took = cpu.seconds(self.process.pid) - before
        status = self.admin.get("status")
        assert len(changes) >= (BACKENDS if self._large else 0)
        assert all(worker["generation"] > generation for worker in status["workers"])
        return took

    def microseconds(self, seconds: int) -> float:
        """Processor time for one request, everything of the process tree."""
        before = cpu.seconds(self.process.pid)
        seen = self._wrk.run(self.port.url, seconds)
        assert not seen.errors, seen
        return (cpu.seconds(self.process.pid) - before) / seen.requests * 1e6


def timed(argv: list[str | Path]) -> float:
    """Processor seconds of a command that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser("bench.scale", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3, help="of each run of load")
    parser.add_argument("--rounds", type=int, default=5, help="of load, each with both")
    args = parser.parse_args()
    # Short: a unix socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="scale") as name, Processes() as processes:
        directory = Path(name)
        web = Backends(processes, directory).addresses(3)
        large = Balancer(processes, directory, "large", web, large=True)
        small = Balancer(processes, directory, "small", web, large=False)
        headgate = [sys.executable, "-m", "headgate"]
        found: list[tuple[str, float, float | None, str]] = [
            ("load", min(timed([sys.executable, "-c", _LOAD, large.path]) for _ in range(3)), 2.0, "s"),
            ("check", min(timed([*headgate, "check", "-c", large.path]) for _ in range(3)), 1.0, "s"),
            ("start", large.start_s, None, "s"),
        ]
        reloads = []
        for weight in (2, 3, 4):
            large.write(weight)
            reloads.append(large.reload())
        found.append(("reload", min(reloads), 1.0, "s"))
        costs = [(large.microseconds(args.seconds), small.microseconds(args.seconds)) for _ in range(args.rounds)]
        many, one = (min(column) for column in zip(*costs, strict=True))
        found += [("request, 1 route", one, None, "µs"), (f"request, {ROUTES} routes", many, None, "µs")]
        found.append(("ratio", many / one, 1.1, ""))
    for what, value, goal, unit in found:
        verdict = "" if goal is None else f"  goal {goal:g}: {'met' if value <= goal else 'MISSED'}"
        print(f"{what:24} {value:8.2f} {unit:2}{verdict}")
    return int(any(goal is not None and value > goal for _, value, goal, _ in found))


if __name__ == "__main__":
    sys.exit(main())
