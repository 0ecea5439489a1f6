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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).with_name("run_supervisor.py")
TIMEOUT_S = 60.0  # what is waited for takes a second; a machine that does five other things takes its time


class Supervisor:
    """A supervisor process; `log` grows as it writes, `wait_log` waits for a line."""

    def __init__(
        self,
        path: Path,
        mode: str = "",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        activate: socket.socket | None = None,
    ) -> None:
        self.log = ""
        self._news = threading.Condition()
        path_ = os.pathsep.join(sys.path)
        command = [sys.executable, str(RUN), str(path), *arguments]
        if activate is not None:
            # What systemd does: the socket is descriptor 3, and the variables name the pid that exec keeps.
            shell = f'exec 3<&{activate.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
            command = ["/bin/bash", "-c", shell, "bash", *command]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "FAKE_WORKER": mode, "PYTHONPATH": path_, **(environment or {})},
            pass_fds=() if activate is None else (activate.fileno(),),
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
        **how: Any,
    ) -> Supervisor:
        port = backend.getsockname()[1]
        path.write_text(
            f'workers = {workers}\n[supervisor]\ndrain = "{drain}"\nwatchdog = "1s"\n[[listeners]]\nbind = "{bind}"\n'
            f'[pools.web]\nbackends = ["http://127.0.0.1:{port}"]\nhealth = {health}\n'
        )
        started.append(Supervisor(path, mode, **how))
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


def test_a_reload_changes_what_differs_and_refuses_mistakes(start: Starter, tmp_path: Path) -> None:
    supervisor = start()
    ready(supervisor)
    path = tmp_path / "headgate.toml"
    text = path.read_text()
    path.write_text(text.replace("[pools.web]", '[pools.web]\nstrategy = "p2c"'))
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_log("reload: pool web: strategy round_robin becomes p2c")
    supervisor.wait_log("reload: new configuration in force")
    path.write_text(text.replace("[pools.web]", "[pools.web]\nstratgy = 1").replace("drain", "dran"))
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_log("reload: .*stratgy")
    supervisor.wait_log("reload: .*dran")
    supervisor.wait_log("the old one stays")
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.wait_end() == 0


def test_workers_come_and_go_by_reload_and_signal(start: Starter, tmp_path: Path) -> None:
    supervisor = start()
    address = ready(supervisor)
    first = ask(address)
    path = tmp_path / "headgate.toml"
    path.write_text(path.read_text().replace("workers = 1", "workers = 3"))
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_log("workers: 3, were 1")
    supervisor.wait_log("reload: new configuration in force")
    supervisor.process.send_signal(signal.SIGTTOU)
    supervisor.wait_log("workers: 2, were 3")
    supervisor.wait_log("worker 2 has finished")
    # The same file again: what was changed at run time stays, and it says so.
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_log(r"reload: workers: 2 \(set at run time\) stays; the file says 3")
    supervisor.process.send_signal(signal.SIGTTIN)
    supervisor.wait_log("workers: 3, were 2")
    pids: set[int] = set()
    deadline = time.monotonic() + TIMEOUT_S
    while len(pids) < 3 and time.monotonic() < deadline:
        pids.add(ask(address))
    assert len(pids) == 3
    assert first in pids, "who served before serves on"
    assert "died" not in supervisor.log


def test_listeners_come_and_go_by_reload(start: Starter, tmp_path: Path) -> None:
    with socket.socket() as free, socket.socket() as taken:
        for sock in (free, taken):
            sock.bind(("127.0.0.1", 0))
        taken.listen()
        new = free.getsockname()
        free.close()
        supervisor = start()
        address = ready(supervisor)
        path = tmp_path / "headgate.toml"
        text = path.read_text()
        more = f'\n[[listeners]]\nbind = "127.0.0.1:{new[1]}"\n'
        path.write_text(f'{text}{more}[[listeners]]\nbind = "127.0.0.1:{taken.getsockname()[1]}"\n')
        supervisor.process.send_signal(signal.SIGHUP)
        supervisor.wait_log("reload: cannot bind .*already in use")
        supervisor.wait_log("the old one stays")
        with socket.socket() as client:
            assert client.connect_ex(new) != 0, "all or nothing"
        path.write_text(text + more)
        supervisor.process.send_signal(signal.SIGHUP)
        supervisor.wait_log("reload: new configuration in force")
        assert ask(new) == ask(address)
        path.write_text(text)
        supervisor.process.send_signal(signal.SIGHUP)
        supervisor.wait_log(f"reload: listener 127.0.0.1:{new[1]}: accepts no more")


def test_what_a_worker_cannot_build_is_refused_beforehand(start: Starter, tmp_path: Path) -> None:
    supervisor = start("cannot")
    ready(supervisor)
    path = tmp_path / "headgate.toml"
    path.write_text(path.read_text().replace("[pools.web]", '[pools.web]\nstrategy = "p2c"'))
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_log("reload: no strategy 'best'")
    supervisor.wait_log("the old one stays")
    assert supervisor.log.count("applied 1") == 1
    assert "applied 2" not in supervisor.log


def test_a_file_that_changes_is_read_again(start: Starter, tmp_path: Path) -> None:
    supervisor = start(arguments=["--watch"])
    ready(supervisor)
    path = tmp_path / "headgate.toml"
    path.write_text(path.read_text().replace("[pools.web]", '[pools.web]\nstrategy = "p2c"'))
    supervisor.wait_log("reload: pool web: strategy round_robin becomes p2c")


def test_a_worker_that_hangs_is_killed_and_replaced(start: Starter) -> None:
    supervisor = start("hang", workers=2)
    ready(supervisor)
    supervisor.wait_log(r"worker \d died \(killed: no sign of life for 1 s\)")


def test_systemd_hears_of_it_and_opens_the_socket(start: Starter, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.socket() as opened:
        manager.bind(str(path))
        manager.settimeout(TIMEOUT_S)
        opened.bind(("127.0.0.1", 0))
        opened.listen()

        def told(word: str) -> str:
            while word not in (text := manager.recv(4096).decode()):
                pass
            return text

        bind = f"127.0.0.1:{opened.getsockname()[1]}"
        environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}
        supervisor = start(bind=bind, environment=environment, activate=opened)
        assert "STATUS=1 workers, 1 pools, 1 backends" in told("READY=1")
        ready(supervisor)
        ask(opened.getsockname())
        told("WATCHDOG=1")
        supervisor.process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in told("RELOADING=1")
        told("READY=1")
        supervisor.process.send_signal(signal.SIGTERM)
        told("STOPPING=1")
        assert supervisor.wait_end() == 0
