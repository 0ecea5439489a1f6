"""The supervisor as a process, with workers that only pretend: start, stop, deaths, signals, exit codes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run_supervisor.py")
TIMEOUT_S = 60.0  # what is waited for takes a second; a machine that does five other things takes its time


class Supervisor:
    """A supervisor process; `log` grows as it writes, `wait_log` waits for a line."""

    def __init__(self, path: Path, mode: str = "") -> None:
        self.log = ""
        self._news = threading.Condition()
        environment = {**os.environ, "FAKE_WORKER": mode, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, str(RUN), str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.log += line
                self._news.notify_all()
        with self._news:
            self.log += "<end>"
            self._news.notify_all()

    def wait_log(self, pattern: str, count: int = 1) -> re.Match[str]:
        """The `count`-th match; fails when the process ends without it."""
        deadline = time.monotonic() + TIMEOUT_S
        with self._news:
            while True:
                found = list(re.finditer(pattern, self.log))
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                assert left > 0, f"no {pattern!r} within {TIMEOUT_S} s in:\n{self.log}"
                assert not self.log.endswith("<end>"), f"ended without {pattern!r}:\n{self.log}"
                self._news.wait(left)

    def wait_end(self) -> int:
        code = self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(TIMEOUT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


Starter = Callable[..., Supervisor]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A backend that accepts."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(100)
        yield sock


@pytest.fixture
def start(tmp_path: Path, listener: socket.socket) -> Iterator[Starter]:
    started: list[Supervisor] = []
    path = tmp_path / "headgate.toml"

    def run(
        mode: str = "",
        *,
        bind: str = "127.0.0.1:0",
        workers: int = 1,
        drain: str = "30s",
        backend: socket.socket = listener,
        health: str = "{}",
    ) -> Supervisor:
        port = backend.getsockname()[1]
        path.write_text(
            f'workers = {workers}\n[supervisor]\ndrain = "{drain}"\n[[listeners]]\nbind = "{bind}"\n'
            f'[pools.web]\nbackends = ["http://127.0.0.1:{port}"]\nhealth = {health}\n'
        )
        started.append(Supervisor(path, mode))
        return started[-1]

    yield run
    for one in started:
        one.close()


def ready(supervisor: Supervisor) -> tuple[str, int]:
    """Wait until clients are let in; the address."""
    port = int(supervisor.wait_log(r"listening on http://127\.0\.0\.1:(\d+)")[1])
    supervisor.wait_log(r"(?m)^ready$")
    return "127.0.0.1", port


def ask(address: tuple[str, int]) -> int:
    """The pid of the worker that answers."""
    with socket.create_connection(address, TIMEOUT_S) as client:
        return int(client.makefile().read())


def test_it_serves_says_what_it_does_and_stops(start: Starter) -> None:
    supervisor = start(workers=2)
    address = ready(supervisor)
    assert "pool web: round_robin, 1 of 1 backends up" in supervisor.log
    assert ask(address) != supervisor.process.pid
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.wait_end() == 0
    with socket.socket() as client:
        assert client.connect_ex(address) != 0
    assert re.search(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info stopped$", supervisor.log)
    assert "Traceback" not in supervisor.log


def test_what_is_down_is_in_the_summary(start: Starter) -> None:
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        supervisor = start(backend=refusing)
        ready(supervisor)
    assert "pool web: round_robin, 0 of 1 backends up" in supervisor.log
    assert re.search(r"not up: http://127\.0\.0\.1:\d+ \(first check failed: connection refused\)", supervisor.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_lasts_as_long_as_it_may(start: Starter, number: signal.Signals) -> None:
    supervisor = start("slow", drain="500ms")
    ready(supervisor)
    began = time.monotonic()
    supervisor.process.send_signal(number)
    assert supervisor.wait_end() == 0
    assert time.monotonic() - began >= 0.5
    assert "worker 0: 1 requests were cut off at the deadline" in supervisor.log


def test_a_second_signal_ends_it_at_once(start: Starter) -> None:
    supervisor = start("slow", drain="1h")
    ready(supervisor)
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.wait_log("requests in flight have 3600 s to finish")
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.wait_end() == 0
    assert "ending at once" in supervisor.log


def test_a_stop_during_the_first_checks(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and checks may take long; a signal does not wait for them, and nobody is let in any more."""
    monkeypatch.setenv("FIRST_ROUND_S", str(TIMEOUT_S))
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # connecting hangs once its queue is full
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        supervisor = start("log", backend=full, health='{ interval = "1m", timeout = "1m" }')
        supervisor.wait_log("applied")
        supervisor.process.send_signal(signal.SIGTERM)
        assert supervisor.wait_end() == 0
    assert "listening" not in supervisor.log
    assert "stopped" in supervisor.log


def test_a_stop_during_the_start(start: Starter) -> None:
    supervisor = start("crash")
    supervisor.wait_log("died")
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.wait_end() in (0, 1)


def test_a_dead_worker_is_replaced_again_and_again(start: Starter) -> None:
    supervisor = start()
    address = ready(supervisor)
    killed = set()
    for number in range(5):
        pid = ask(address)
        assert pid not in killed
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        supervisor.wait_log(r"worker 0 died \(killed by SIGKILL\)", number + 1)
        assert ask(address) not in killed, "the listener outlives its worker: nobody is refused"


def test_a_taken_port_says_by_what(start: Starter) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        supervisor = start(bind=bind)
        assert supervisor.wait_end() == 3
        assert f"cannot bind {bind}: already in use by process {os.getpid()} (" in supervisor.log
    assert "Traceback" not in supervisor.log


@pytest.mark.parametrize(("mode", "code"), [("refuse", 3), ("reject", 2)])
def test_workers_that_cannot_start_say_why(start: Starter, mode: str, code: int) -> None:
    supervisor = start(mode)
    assert supervisor.wait_end() == code
    assert re.search("cannot start: .*no strategy 'best'", supervisor.log)
    assert "ready" not in supervisor.log
    assert "Traceback" not in supervisor.log


def test_workers_that_only_crash_are_given_up(start: Starter) -> None:
    supervisor = start("crash")
    assert supervisor.wait_end() == 1
    assert "cannot start: worker 0: killed by SIGKILL" in supervisor.log
    assert supervisor.log.count("died") == 2


def test_workers_go_when_the_supervisor_is_killed(start: Starter) -> None:
    supervisor = start()
    address = ready(supervisor)
    ask(address)
    supervisor.process.kill()
    supervisor.wait_log("<end>")  # the worker holds the other end of the log: it is gone, too
    with socket.socket() as client:
        assert client.connect_ex(address) != 0


def test_logs_are_reopened(start: Starter) -> None:
    supervisor = start(workers=2)
    ready(supervisor)
    supervisor.process.send_signal(signal.SIGUSR1)
    supervisor.wait_log("worker 0: reopened")
    supervisor.wait_log("worker 1: reopened")


def test_a_reload_changes_pools_and_refuses_the_rest(start: Starter, tmp_path: Path, listener: socket.socket) -> None:
    supervisor = start()
    ready(supervisor)
    path = tmp_path / "headgate.toml"
    text = path.read_text()
    path.write_text(text.replace("[pools.web]", '[pools.web]\nstrategy = "p2c"'))
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_log("SIGHUP: new configuration in force")
    path.write_text(text.replace("workers = 1", "workers = 2"))
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_log("SIGHUP: a change of `workers` needs a restart")
    path.write_text(text.replace("[pools.web]", "[pools.web]\nstratgy = 1"))
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_log("SIGHUP: .*stratgy")
    supervisor.wait_log("the old one stays", 2)
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.wait_end() == 0
