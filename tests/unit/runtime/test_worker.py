"""A worker as a process of its own: how it comes up, how it ends, what it does not listen to."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from headgate.engine.stats import Segment
from headgate.runtime.messages import Applied, Apply, Drain, Drained, Hello, Listen, Log, Message, Rejected, Stop
from headgate.runtime.transport import MessageChannel
from tests.unit.runtime.worker_world import World, config, pool_tree

M = TypeVar("M", bound=Message)

TIMEOUT_S = 20.0


class Worker:
    """The process, and the supervisor's end of its control socket."""

    def __init__(self, segment_fd: int, *arguments: str) -> None:
        ours, theirs = socket.socketpair()
        self.channel = MessageChannel(ours)
        command = [sys.executable, "-W", "error", "-m", "headgate.runtime.worker"]
        command += ["--control", str(theirs.fileno()), "--segment", str(segment_fd), "--worker", "1", *arguments]
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), segment_fd),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self.said: list[Message] = []

    def wait_for(self, kind: type[M]) -> M:
        """The first message of a kind, now or soon."""
        while True:
            for message in self.said:
                if isinstance(message, kind):
                    return message
            assert not self.channel.eof, f"it ended after saying {self.said}"
            ready, _, _ = select.select([self.channel.fileno()], [], [], TIMEOUT_S)
            assert ready, f"it says no more than {self.said}"
            self.said += [message for message, _ in self.channel.receive()]

    def end(self) -> tuple[int, bytes]:
        """Exit code and what it wrote to standard error."""
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, errors


@contextmanager
def running(*arguments: str) -> Iterator[Worker]:
    with Segment.create(2, backends=32, pools=8) as segment:
        worker = Worker(segment.fd, *arguments)
        try:
            yield worker
        finally:
            worker.process.kill()
            worker.process.wait()
            if worker.process.stderr is not None:
                worker.process.stderr.close()
            worker.channel.close()


def apply(worker: Worker, **keys: Any) -> None:
    worker.channel.send(Apply(World().snapshot(config(web=pool_tree(**keys)))))


def test_it_comes_up_serves_and_drains() -> None:
    with running() as worker, socket.socket() as listening, socket.socket() as client:
        assert worker.wait_for(Hello) == Hello(1, worker.process.pid)
        apply(worker)
        assert worker.wait_for(Applied) == Applied(1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        worker.channel.send(Listen(config().listeners[0]), [listening.fileno()])
        client.settimeout(TIMEOUT_S)
        client.connect(listening.getsockname())
        client.sendall(b"GET /lb/status HTTP/1.1\r\nHost: example.test\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        worker.channel.send(Drain(5))
        assert worker.wait_for(Drained) == Drained(0)
        assert worker.end() == (0, b"")


def test_it_exits_with_0_when_it_is_stopped_and_when_its_supervisor_is_gone() -> None:
    with running() as worker:
        worker.wait_for(Hello)
        worker.channel.send(Stop())
        assert worker.end() == (0, b"")
    with running() as worker:
        apply(worker)
        worker.wait_for(Applied)
        worker.channel.close()
        assert worker.end() == (0, b"")


def test_it_obeys_its_supervisor_and_not_the_terminal() -> None:
    with running() as worker:
        worker.wait_for(Hello)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            worker.process.send_signal(number)
        apply(worker)
        assert worker.wait_for(Applied) == Applied(1)


def test_it_says_why_it_could_not_start(tmp_path: Path) -> None:
    with (tmp_path / "no-segment").open("w+b") as file:
        file.write(b"no segment")
        file.flush()
        worker = Worker(file.fileno())
        assert "could not start" in worker.wait_for(Log).text
        assert worker.end() == (3, b"")
        worker.channel.close()


def test_a_strategy_is_found_in_the_app_dir(tmp_path: Path) -> None:
    (tmp_path / "found_by_worker.py").write_text(
        "class First:\n"
        "    def update(self, backends): self.backends = backends\n"
        "    def pick(self, request, tried): return self.backends[0]\n"
    )
    with running("--app-dir", str(tmp_path)) as worker:
        apply(worker, strategy="found_by_worker:First")
        assert worker.wait_for(Applied) == Applied(1)
    with running() as worker:
        apply(worker, strategy="found_by_worker:First")
        assert "found_by_worker" in worker.wait_for(Rejected).text


def test_it_may_open_as_many_files_as_the_system_allows_and_has_a_name() -> None:
    with running() as worker:
        worker.wait_for(Hello)
        soft, hard = resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE)
        assert soft == hard
        assert Path(f"/proc/{worker.process.pid}/comm").read_text().strip() == "headgate-w1"


def test_what_it_logs_reaches_the_supervisor() -> None:
    with running() as worker:
        apply(worker)
        worker.wait_for(Applied)
        worker.channel.send(Hello(0, 0))
        log = worker.wait_for(Log)
        assert (log.level, log.text) == ("error", "a worker is not told Hello")


@pytest.mark.parametrize("missing", ["--control", "--segment", "--worker"])
def test_its_arguments_are_needed(missing: str) -> None:
    arguments = [f"{name}={9}" for name in ("--control", "--segment", "--worker") if name != missing]
    ended = subprocess.run(
        [sys.executable, "-m", "headgate.runtime.worker", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 2
    assert missing in ended.stderr
