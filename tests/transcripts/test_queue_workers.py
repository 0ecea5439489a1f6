"""The queue where several workers have a part of it: their engines run here in one thread, as a test says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from headgate.balancing.base import Backend, Request

from ..e2e.harness.ports import HeldPort
from .conversation import get, ok
from .stage import InOrder, Stage


class Meanwhile(InOrder):
    """Something happens while a request is placed."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return super().pick(request, tried)


class Two:
    """Two workers before one backend, which takes one request at a time."""

    def __init__(self, directory: Path, leave: ExitStack) -> None:
        port = leave.enter_context(HeldPort())
        self._listening = leave.enter_context(port.listen())
        self._leave = leave
        self.strategy = Meanwhile()
        ports, pool, limits = {"a": port}, {"queue": {"timeout": "60s"}}, {"a": {"max_requests": 1}}
        for name in ("first", "second"):
            (directory / name).mkdir()
        self.first = Stage(directory / "first", ports, {}, pool, self.strategy, limits=limits, workers=2)
        leave.callback(self.first.close)
        self.second = Stage(directory / "second", ports, {}, pool, limits=limits, beside=self.first)
        leave.callback(self.second.close)

    def asks(self, stage: Stage, target: str) -> None:
        client = self._leave.enter_context(socket.create_connection(stage.address))
        client.sendall(get(target))

    def settle(self) -> None:
        for stage in (self.first, self.second) * 3:
            stage.settle()

    def waiting(self) -> int:
        return self.first.queue["waiting"]

    def accepts(self) -> socket.socket:
        self._listening.settimeout(10)
        return self._leave.enter_context(self._listening.accept()[0])

    def targets(self, connections: list[socket.socket]) -> list[str]:
        """What was asked by these connections, answered one after the other."""
        found = []
        for connection in connections:
            connection.setblocking(False)
            try:
                found.append(connection.recv(65536).split()[1].decode())
            except BlockingIOError:
                continue
            connection.sendall(ok())
        return found


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with ExitStack() as leave:
        yield Two(tmp_path, leave)


def test_who_came_first_is_decided_by_the_clock_and_not_by_when_a_batch_began(two: Two) -> None:
    two.asks(two.first, "/holds")
    two.settle()
    held = two.accepts()
    assert held.recv(65536).startswith(b"GET /holds ")

    def other() -> None:
        """The first worker's batch has begun, and goes on only when the other's request waits."""
        assert two.waiting() == 0
        two.asks(two.second, "/came-first")
        two.second.settle()
        assert two.waiting() == 1

    two.strategy.meanwhile = other
    two.asks(two.first, "/came-second")
    two.first.settle()
    assert two.waiting() == 2
    held.sendall(ok())
    order: list[str] = []
    connections = [held]
    two._listening.setblocking(False)
    while len(order) < 2:
        two.settle()
        with suppress(BlockingIOError):
            connections.append(two._leave.enter_context(two._listening.accept()[0]))
        order += two.targets(connections)
    assert order == ["/came-first", "/came-second"]
