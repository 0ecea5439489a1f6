"""Instructions per request for each strategy, over round robin: what a strategy costs, on a machine however busy.

    python -m bench.strategy_counts [NAME ...]

The engine serves sixteen clients over three backends, each client's next request sent as soon as it has its answer, so
that there is always load to look at. All requests come from one address, as in the case `policies` of `make bench`:
strategies that hash have one key, and with `bounded_hash` its backend is nearly always full. Counted is as in
bench/check.py: what `run_once()` needs, under callgrind, (instructions for 2 N requests - those for N) / N.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.e2e.harness.ports import HeldPort
from tests.transcripts.stage import Stage

from headgate.balancing.base import Context
from headgate.balancing.registry import BUILT_IN, build
from headgate.engine import hash64
from headgate.engine.clock import clock
from headgate.engine.stats import BackendTotals

from .check import ROOT, callgrind, make_mark, per_request, surroundings
from .conversation import CASES

CLIENTS = 16
BACKENDS = 3
WARM_UP = 200
REQUESTS = 400
# One of ten balancers, with a pool of which it uses all.
OPTIONS: dict[str, dict[str, object]] = {"random_subset": {"balancer": 3, "balancers": 10}}
BASE = "round_robin"


class Crowd:
    """Clients that keep asking, the engine with one strategy, and backends that answer in the order of the requests."""

    def __init__(self, directory: Path, name: str) -> None:
        self._case = CASES[0]
        self._ports = [HeldPort() for _ in range(BACKENDS)]
        listening = {each.fileno(): each for each in (port.listen() for port in self._ports)}
        self._stage = Stage(directory, {f"b{n}": port for n, port in enumerate(self._ports)}, {}, {})
        context = Context(random.Random(1), clock(self._stage.engine), hash64)
        self._stage.use(build(name, context, OPTIONS.get(name)))
        self._log = self._stage.engine.access_log
        self._stage.engine.access_log = None
        self._listening = listening
        self._backends: dict[int, socket.socket] = {}
        self._clients: dict[int, socket.socket] = {}
        self._asked: deque[socket.socket] = deque()
        self._poller = select.poll()
        for number in listening:
            self._poller.register(number, select.POLLIN)
        for _ in range(CLIENTS):
            client = socket.create_connection(self._stage.address)
            client.sendall(self._case.request)
            self._clients[client.fileno()] = client
            self._poller.register(client, select.POLLIN)

    def play(self, count: int) -> None:
        """Until so many more requests are answered."""
        while count > 0:
            self._stage.settle()
            for number, _ in self._poller.poll(0):
                if number in self._clients:
                    client = self._clients[number]
                    if not client.recv(65536).startswith(b"HTTP/1.1 200 "):
                        raise AssertionError("a request failed")
                    client.sendall(self._case.request)
                    count -= 1
                elif number in self._listening:
                    backend = self._listening[number].accept()[0]
                    self._backends[backend.fileno()] = backend
                    self._poller.register(backend, select.POLLIN)
                else:
                    backend = self._backends[number]
                    asked = backend.recv(65536)
                    if asked.endswith(b"\r\n\r\n"):
                        self._asked.append(backend)
            # All others wait, so that so many are in flight whenever a backend is picked.
            if len(self._asked) == CLIENTS and count > 0:
                self._asked.popleft().sendall(self._case.response)
        self._stage.settle()

    def totals(self, number: int) -> BackendTotals:
        """The counters of one backend."""
        return self._stage.totals(f"b{number}")

    def close(self) -> None:
        for each in (*self._clients.values(), *self._backends.values(), *self._listening.values()):
            each.close()
        self._stage.engine.access_log = self._log
        self._stage.close()
        for port in self._ports:
            port.close()


def _play(names: Sequence[str], library: str) -> None:
    mark: Callable[[], object] = ctypes.CDLL(library).mark
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            crowd = Crowd(Path(directory), name)
            for times in (WARM_UP, REQUESTS, 2 * REQUESTS):
                crowd.play(times)
                mark()
            crowd.close()


def count(names: Sequence[str], keep: Path | None = None) -> dict[str, float]:
    """Strategy -> instructions per request. keep: where callgrind's files are to be left."""
    with tempfile.TemporaryDirectory() as directory:
        out = (keep or Path(directory)) / "out"
        play = (sys.executable, "-m", "bench.strategy_counts", "--play", str(make_mark()), *names)
        subprocess.run([*callgrind(out), *play], cwd=directory, env=surroundings(ROOT), capture_output=True, check=True)
        return {name: per_request(out, number, REQUESTS) for number, name in enumerate(names)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.strategy_counts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="strategies (default: all)")
    parser.add_argument("--play", metavar="MARK.so", help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave callgrind's files there")
    options = parser.parse_args()
    if options.play:
        _play(options.names, options.play)
        return 0
    if shutil.which("valgrind") is None:
        print("this needs valgrind (Debian: apt-get install valgrind)", file=sys.stderr)
        return 2
    names = [BASE, *(name for name in options.names or BUILT_IN if name != BASE)]
    try:
        counts = count(names, options.keep)
    except subprocess.CalledProcessError as error:
        print(error.stderr.decode(errors="replace"), file=sys.stderr)
        return 1
    print(f"| strategy | instructions per request | over {BASE} |\n|---|---:|---:|")
    for name, figure in counts.items():
        print(f"| `{name}` | {figure:,.0f} | {figure - counts[BASE]:+,.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
