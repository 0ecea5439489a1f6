"""Several workers balance as one does."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..e2e.harness import memory
from ..e2e.harness.waiting import eventually
from ..faults.load import Ask, connect
from ..faults.servers import Connection, Server
from ..faults.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_four_workers_take_turns(world: World) -> None:
    world.backends(3)
    world.headgate(top={"workers": 4, "access_log": {"format": "off"}}, pool={"strategy": "round_robin"})
    result = world.load(Ask(target="/?wait=20"), clients=24, rate=0, each=200).join()
    world.none_failed(result)
    counts = result.backends
    mean = sum(counts.values()) / 3
    assert len(counts) == 3
    assert max(counts.values()) - min(counts.values()) <= 0.02 * mean, counts
    world.finish()


def holds(connection: Connection) -> None:
    """Answers nothing before it is told to."""
    while (request := connection.head()) is not None:
        while not connection.mode:
            time.sleep(0.01)
        connection.serve(request)


def test_four_workers_count_connections_as_one_does(world: World) -> None:
    """What one worker has in flight, the others count: with nothing answered meanwhile the backends differ by one.

    (With answers a backend gets as much less as the machine holds it up, which is what the strategy is for.)"""
    servers = world.backends(3, holds)
    world.headgate(
        top={"workers": 4, "access_log": {"format": "off"}},
        pool={"strategy": "least_connections", "timeouts": {"first_byte": "60s"}},
    )
    idle = {worker: memory.open_descriptors(worker) for worker in world.workers}
    with ExitStack() as stack:
        clients: list[socket.socket] = []
        while len({worker for worker, count in idle.items() if memory.open_descriptors(worker) > count + 8}) < 2:
            clients += [stack.enter_context(connect(world.address)) for _ in range(24)]
            assert len(clients) < 2400, "one worker takes all"
            time.sleep(0.05)
        # Some of each worker's, in no order.
        clients = random.Random(1).sample(clients, 24 * (len(clients) // 24))[:96]
        for number, client in enumerate(clients, 1):
            client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX-Id: %d\r\n\r\n" % number)
            eventually(lambda number=number: arrived(servers) == number, "it to arrive")  # type: ignore[misc]
        counts = [len(server.seen("head")) for server in servers]
        assert max(counts) - min(counts) <= 1, counts
        for server in servers:
            server.tell(1)
        for client in clients:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
    world.finish()


def arrived(servers: Sequence[Server]) -> int:
    return sum(len(server.seen("head")) for server in servers)
