"""What a row is given: backends, the balancer and load as processes, ways to look at them, and their end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..e2e.harness import memory
from ..e2e.harness.ports import HeldPort
from ..e2e.harness.waiting import PATIENCE_S, eventually
from ..e2e.harness.wire import Reader, Response
from .load import Address, Ask, Load, Result, connect
from .servers import Script, Server, application

# The page's short timeouts; everything else is the default.
TIMEOUTS = {"connect": "1s", "first_byte": "5s", "body_idle": "5s"}

GET = Ask()
POST = Ask("POST")
ALL_METHODS = [GET, GET, POST, Ask("PUT"), Ask("DELETE"), Ask("HEAD"), Ask("POST", size=20_000, chunked=True)]

Span = tuple[float, float]
"""From when to when, in monotonic seconds."""

# More clients than the 30 that the matrix asks for.
CLIENTS = 32


class World:
    """The surroundings of one row. `long`: take as long as the fault does in practice."""

    def __init__(self, directory: Path, *, long: bool = False) -> None:
        self.directory = directory
        self.long = long
        self.figures: dict[str, object] = {}
        self.servers: list[Server] = []
        self.exact = True
        """Is every request accounted for? Not those that died with a worker that was killed."""
        self._loads: list[Load] = []
        self._port = HeldPort()
        self.address: Address = self._port.address
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path = directory / "access.log"
        self.error_path = directory / "stderr.log"

    # -- parts

    def backends(self, count: int, script: Script = application, *, quiet: bool = False) -> list[Server]:
        """That many more backends, listening."""
        made = [Server(self.directory, chr(97 + len(self.servers) + n), script, quiet=quiet) for n in range(count)]
        self.servers += made
        return made

    def headgate(
        self,
        *,
        pool: dict[str, object] | None = None,
        listener: dict[str, object] | None = None,
        top: dict[str, object] | None = None,
        urls: Sequence[str] | None = None,
        prefix: Sequence[str] = (),
        stdout: int | None = None,
        bind: str | None = None,
        also: Sequence[dict[str, object]] = (),
    ) -> None:
        """Start the balancer over the backends (or `urls`), with default settings but for TIMEOUTS and what is given.

        prefix: a command to start it by. stdout: where its access log goes, instead of `log_path`. also: more
        listeners.
        """
        if bind is not None and bind.startswith("unix:"):
            self.address = bind.removeprefix("unix:")
        timeouts = {**TIMEOUTS, **(pool or {}).get("timeouts", {})}  # type: ignore[dict-item]
        web = {"backends": list(urls or [server.url for server in self.servers]), **(pool or {}), "timeouts": timeouts}
        first = {"bind": bind or self._port.bind, "status_path": "/lb/status", "status_allow": ["0.0.0.0/0", "unix"]}
        config = {"listeners": [{**first, **(listener or {})}, *also], "pools": {"web": web}, **(top or {})}
        path = self.directory / "headgate.json"
        path.write_text(json.dumps(config))
        argv = [*prefix, sys.executable, "-m", "headgate", "run", "-c", str(path)]
        # The admin API's socket has its process id in its name where another has the plain one; rows side by side have
        # the same process ids.
        environment = {**os.environ, "RUNTIME_DIRECTORY": str(self.directory)}
        with self.log_path.open("wb") as log, self.error_path.open("wb") as errors:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=errors,
                env=environment,
            )
        eventually(self._answers, "the balancer to answer", 3 * PATIENCE_S)

    def _answers(self) -> bool:
        assert self.running, self.errors
        try:
            return self.get("/lb/status").status == 200
        except OSError:
            return False

    def load(self, *asks: Ask, clients: int = CLIENTS, rate: float = 10.0, name: str = "c", each: int = 0) -> Load:
        """Clients that ask until `stop`, or `each` so often; `rate` is of each, per second."""
        load = Load(self.address, asks or [GET], clients=clients, rate=rate, name=name, each=each)
        self._loads.append(load)
        return load

    def adopt(self, load: Load) -> None:
        """A load that was started otherwise ends with the row."""
        self._loads.append(load)

    # -- time

    def run(self, seconds: float, long: float | None = None) -> float:
        """Let things go on for that time (in long form for `long`, five times as long when not given). The time now."""
        before = [load.count for load in self._loads]
        time.sleep(seconds if not self.long else long if long is not None else 5 * seconds)
        # Time says little on a busy machine: each load that runs gets at least a few answers in it.
        if seconds >= 0.5:
            waiting = [(load, count + 20) for load, count in zip(self._loads, before, strict=True) if load.running]
            eventually(lambda: all(load.count >= count for load, count in waiting), "the clients to be answered")
        return time.monotonic()

    def more(self, load: Load, count: int) -> float:
        """Let things go on until the clients have made so many more requests, that is: begun some since, where there
        are more than clients. The time now."""
        return self.until_asked(load, load.count + count)

    def until_asked(self, load: Load, count: int) -> float:
        """Let things go on until the clients have made so many requests. The time now."""
        return awaited(lambda: load.count >= count, f"{count} requests", 4 * PATIENCE_S)

    # -- looking

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers."""
        return memory.children(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Tell the balancer."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait_end(self) -> int:
        """Wait until the balancer has ended; its exit status. (There may be another one after it.)"""
        assert self._process is not None
        code = self._process.wait(PATIENCE_S * 2)
        self._process = None
        return code

    def wait_errors(self, text: str, count: int = 1, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the balancer has written this to standard error so often."""
        try:
            eventually(lambda: self.errors.count(text) >= count, f"{text!r} {count} times", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; what it has written by now:\n{self.errors[-3000:]}") from None

    def wait_upgraded(self, count: int = 1) -> None:
        """Wait until the balancer was upgraded so often (SIGUSR2), step by step: two programs start one after the
        other, each with its workers, and on a busy machine that is a matter of many seconds."""
        for step, already in (("the new version takes over", 0), ("admin API on", 1), ("old workers finish", 0)):
            self.wait_errors(step, already + count, 4 * PATIENCE_S)  # as long as the balancer itself has patience

    def kill_worker(self, pid: int) -> Span:
        """SIGKILL, and wait until it is dead. When that was: from before the signal to after the end, since each may
        have to wait for the processor."""
        end = os.pidfd_open(pid)
        try:
            before = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            poller = select.poll()
            poller.register(end, select.POLLIN)
            assert poller.poll(PATIENCE_S * 1000), f"worker {pid} does not die"
            return before, time.monotonic()
        finally:
            os.close(end)

    @property
    def worker(self) -> int:
        """Process id of the only worker."""
        children = memory.children(self.pid)
        assert len(children) == 1, children
        return children[0]

    @property
    def errors(self) -> str:
        """What the balancer has written to standard error."""
        return self.error_path.read_text(errors="replace")

    @property
    def log(self) -> list[str]:
        """The access log's lines so far."""
        return self.log_path.read_text(errors="replace").splitlines()

    def get(self, target: str, timeout_s: float = PATIENCE_S) -> Response:
        """One GET on a connection of its own."""
        with connect(self.address, timeout_s) as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: h.example\r\nConnection: close\r\n\r\n".encode())
            return Reader(lambda: sock.recv(65536)).response()

    def status(self) -> dict[str, Any]:
        document = self.get("/lb/status").json()
        assert isinstance(document, dict)
        return document

    def totals(self) -> dict[str, Any]:
        totals = self.status()["totals"]
        assert isinstance(totals, dict)
        return totals

    def backend(self, server: Server) -> dict[str, Any]:
        """A backend as the status page shows it."""
        found: dict[str, Any] = next(row for row in self.status()["backends"] if row["url"].rstrip("/") == server.url)
        return found

    def wait_state(self, server: Server, *states: str, timeout_s: float = PATIENCE_S) -> float:
        """Wait until a backend is in one of these states. When that was seen."""
        eventually(lambda: self.backend(server)["state"] in states, f"{server.name} to be {states}", timeout_s, 0.03)
        return time.monotonic()

    def memory(self) -> int:
        """Resident bytes of the worker."""
        return memory.resident_bytes(self.worker)

    def descriptors(self) -> int:
        """Descriptors that the worker holds."""
        return memory.open_descriptors(self.worker)

    def lasting_descriptors(self) -> int:
        """Those that the worker holds without the pipes, and the connections to backends, that it keeps for the next
        request: of these there are as many as were once needed at a time, which goes by the load and by how the machine
        holds it up."""
        held = 0
        for path in Path(f"/proc/{self.worker}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                held += not os.readlink(path).startswith("pipe:")
        return held - self.idle()

    def idle(self) -> int:
        """Connections to backends that are kept for the next request."""
        return sum(backend["idleConnections"] for backend in self.status()["backends"])

    def processor_s(self) -> float:
        """Seconds of processor time the worker has used."""
        fields = Path(f"/proc/{self.worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- judging

    def note(self, **figures: object) -> None:
        """Figures for the report."""
        self.figures.update(
            {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
        )

    def none_failed(self, result: Result, what: str = "requests") -> None:
        """0 failed of N."""
        assert len(result) > 0, f"no {what} at all"
        self.note(**{what: len(result)})
        assert not result.failed, (
            f"{len(result.failed)} of {len(result)} {what} failed: {result.reasons}\n{self.evidence(result)}"
        )

    def evidence(self, result: Result) -> str:
        """The log lines of the first failed requests, and what the balancer said."""
        first = "\n".join(str(sample) for sample in result.failed[:3])
        lines = [line for line in self.log if " 200 " not in line][:12]
        return "\n".join([first, "access log without 200:", *lines, "stderr:", self.errors[-3000:]])

    def as_fast(self, fault: Result, control: Result, what: str = "p99") -> None:
        """The 99 % quantile is not more than twice that of the control phase, or 100 ms more.

        By how much the machine itself held processes up meanwhile is not the balancer's doing, and comes on top: on its
        way there and back a request may wait for the processor four times.
        """
        assert len(fault) >= 20, f"{len(fault)} requests to judge {what} by"
        assert len(control) >= 20, f"{len(control)} requests in the control phase"
        before, after = control.quantile(0.99), fault.quantile(0.99)
        self.note(**{f"{what} before": before, what: after})
        limit = max(2 * before, before + 0.1) + 4 * fault.stall
        if after > limit:
            slowest = sorted(fault.samples, key=lambda sample: -sample.took)[:5]
            raise AssertionError(
                f"{what} {after:.3f} s, {before:.3f} s before, the machine's longest pause {fault.stall:.3f} s\n"
                + "\n".join(f"{sample.took:.3f} s: {sample}" for sample in slowest)
            )

    def once(self, result: Result, servers: Sequence[Server] | None = None) -> None:
        """No request that is not idempotent was seen twice by backends; each answered one exactly once."""
        seen: dict[str, list[str]] = {}
        for server in servers or self.servers:
            for entry in server.seen("head"):
                if entry.method == "POST":
                    seen.setdefault(entry.identity, []).append(server.name)
        twice = {identity: names for identity, names in seen.items() if len(names) > 1}
        assert not twice, f"sent twice: {twice}"
        for sample in result.samples:
            if sample.method == "POST" and sample.status == 200:
                assert sample.identity in seen, f"{sample} was answered by nobody"

    # -- the end

    def finish(self) -> None:
        """What holds at the end of every row: the counters add up, nothing broke inside, it stops when told to."""
        for load in self._loads:
            load.kill()
        if self._process is None:
            return
        assert self.running, f"the balancer ended: {self.errors}"
        broken = [
            entry for server in self.servers for entry in server.journal() if entry.event in ("broken", "malformed")
        ]
        assert not broken, broken
        for server in self.servers:
            server.kill()
        # The page itself is the one exchange in flight that is left, once the clients and the backends are gone.
        eventually(lambda: self.totals()["inFlight"] <= 1, "the exchanges to end")
        try:
            eventually(self._adds_up, "the counters to add up")
        except AssertionError as error:
            raise AssertionError(f"{error}; they are {self.totals()}") from None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE_S)
        assert code == 0, f"exit status {code}: {self.errors}"
        for sign in ("Traceback", "AddressSanitizer", "exception in"):
            assert sign not in self.errors, self.errors

    def _adds_up(self) -> bool:
        """Each request has an outcome, or is in flight. (Another worker may just be counting: see `eventually`.)"""
        totals = self.totals()
        accounted = sum(totals["outcomes"].values()) + totals["inFlight"]
        return bool(totals["requests"] == accounted if self.exact else totals["requests"] >= accounted)

    def close(self) -> None:
        """End whatever runs."""
        for load in self._loads:
            load.kill()
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()
        for server in self.servers:
            server.close()
        self._port.close()


def awaited(check: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> float:
    """Wait for a condition; the time when it was seen."""
    eventually(check, what, timeout_s)
    return time.monotonic()
