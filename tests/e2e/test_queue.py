"""Limits over several workers: never exceeded, nothing lost, first come first served; a dead worker keeps nothing."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import pytest

from .conftest import Balance
from .harness.client import Client
from .harness.headgate import Headgate
from .harness.ports import HeldPort
from .harness.waiting import PATIENCE_S, eventually

WORKERS = pytest.mark.parametrize("workers", [1, 4])


class Counting:
    """A backend in one thread that counts the requests and connections it has at a time. It answers each request after
    `service_s`, or with `service_s` None those that `answer` lets go. Of an event's sockets, ends come before all else:
    what was closed before a new connection began is not counted with it."""

    def __init__(self, service_s: float | None) -> None:
        self.port = HeldPort()
        self.service_s = service_s
        self.most_requests = 0
        self.most_connections = 0
        self.order: list[str] = []
        self._held: deque[tuple[float, socket.socket]] = deque()
        self._open: dict[socket.socket, bytes] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._listener = self.port.listen()
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return self.port.url

    @property
    def in_flight(self) -> int:
        with self._lock:
            return len(self._held)

    def answer(self, count: int = 1) -> None:
        """Let the oldest requests go."""
        with self._lock:
            for _ in range(min(count, len(self._held))):
                self._answer()

    def _answer(self) -> None:
        _, sock = self._held.popleft()
        if sock in self._open:
            try:
                sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except OSError:
                self._forget(sock)

    def _run(self) -> None:
        while not self._ended:
            ready = [key.fileobj for key, _ in self._selector.select(0.002 if self._held else 0.02)]
            with self._lock:
                for sock in ready:
                    if sock is not self._listener and isinstance(sock, socket.socket):
                        self._read(sock)
                if self._listener in ready:
                    self._accept()
                self.most_connections = max(self.most_connections, len(self._open))
                while self.service_s is not None and self._held and self._held[0][0] <= time.monotonic():
                    self._answer()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._forget_who_left()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open[sock] = b""
        self._selector.register(sock, selectors.EVENT_READ)

    def _forget_who_left(self) -> None:
        """Whoever left before something else came has said so by now, whatever the order of events."""
        for other in [*self._open]:
            try:
                if other.recv(1, socket.MSG_PEEK) == b"":
                    self._forget(other)
            except BlockingIOError:
                pass
            except OSError:
                self._forget(other)

    def _read(self, sock: socket.socket) -> None:
        if sock not in self._open:
            return
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(sock)
            return
        self._open[sock] += data
        # A killed worker's requests are over before a request by an old connection of another worker is begun.
        self._forget_who_left()
        if sock not in self._open:
            return
        while b"\r\n\r\n" in self._open[sock]:
            head, _, self._open[sock] = self._open[sock].partition(b"\r\n\r\n")
            self.order.append(head.split(b" ")[1].decode())
            self._held.append((time.monotonic() + (self.service_s or 0), sock))
            self.most_requests = max(self.most_requests, len(self._held))

    def _forget(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()
        del self._open[sock]
        # A client that is gone has no request in flight any more.
        self._held = deque(entry for entry in self._held if entry[1] is not sock)

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        for sock in [*self._open]:
            self._forget(sock)
        self._selector.close()
        self._listener.close()
        self.port.close()


MakeCounting = Callable[..., Counting]


@pytest.fixture
def make_counting() -> Iterator[MakeCounting]:
    made: list[Counting] = []

    def make(service_s: float | None = None) -> Counting:
        made.append(Counting(service_s))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


class Connect(Protocol):
    def __call__(self, headgate: Headgate, count: int) -> list[Client]: ...


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients that are closed with the test. (One that is left open is a ResourceWarning in whichever test the
    garbage collector happens to run.)"""
    made: list[Client] = []

    def many(headgate: Headgate, count: int) -> list[Client]:
        clients: list[Client] = []
        for _ in range(count):
            clients.append(headgate.client())
            made.append(clients[-1])
        return clients

    yield many
    for client in made:
        client.close()


def queue_of(headgate: Headgate) -> dict[str, Any]:
    (pool,) = headgate.get("/lb/status").json()["pools"]
    queue = pool["queue"]
    assert isinstance(queue, dict)
    return queue


def wait_waiting(headgate: Headgate, count: int, timeout_s: float = PATIENCE_S) -> None:
    eventually(lambda: queue_of(headgate)["waiting"] == count, f"{count} requests to wait", timeout_s)


def load(headgate: Headgate, clients: int, requests: int, keep: bool = True) -> list[int]:
    """Statuses of `clients` times `requests` requests."""
    statuses: list[int] = []

    def run() -> None:
        got = []
        client = headgate.client()
        for _ in range(requests):
            got.append(client.get().status)
            if not keep:
                client.close()
                client = headgate.client()
        client.close()
        statuses.extend(got)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@WORKERS
@pytest.mark.parametrize("limit", [{"max_requests": 3}, {"max_connections": 3}])
def test_a_limit_is_never_exceeded_and_nothing_is_lost(
    make_counting: MakeCounting, balance: Balance, workers: int, limit: dict[str, int]
) -> None:
    backends = [make_counting(0.002) for _ in range(2)]
    headgate = balance(
        *({"url": backend.url, **limit} for backend in backends),
        top={"workers": workers},
        strategy="p2c",
        queue={"timeout": "30s"},
    )
    statuses = load(headgate, 24, 25, keep=workers == 1)
    assert statuses == [200] * 600
    assert sum(len(backend.order) for backend in backends) == 600
    for backend in backends:
        most = backend.most_requests if "max_requests" in limit else backend.most_connections
        assert most == 3  # reached, and not exceeded
    queue = queue_of(headgate)
    assert (queue["waiting"], queue["timedOut"], queue["refused"], queue["left"]) == (0, 0, 0, 0)
    assert 0 < queue["queued"] <= 600


@WORKERS
def test_first_come_first_served(make_counting: MakeCounting, balance: Balance, connect: Connect, workers: int) -> None:
    backend = make_counting()
    headgate = balance({"url": backend.url, "max_requests": 1}, top={"workers": workers}, queue={"timeout": "30s"})
    clients = connect(headgate, 12)
    for n, client in enumerate(clients):
        client.send(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n)
        if n == 0:
            eventually(lambda: backend.in_flight == 1, "the first to hold the place")
        wait_waiting(headgate, n)
    for n, client in enumerate(clients):
        eventually(lambda: backend.in_flight == 1, "the next one")
        backend.answer()
        assert client.response().status == 200
        assert backend.order[: n + 1] == [f"/{m}" for m in range(n + 1)]
        client.close()
    wait_waiting(headgate, 0)


@WORKERS
def test_a_client_that_left_frees_its_place(
    make_counting: MakeCounting, balance: Balance, connect: Connect, workers: int
) -> None:
    backend = make_counting()
    headgate = balance(
        {"url": backend.url, "max_requests": 1}, top={"workers": workers}, queue={"size": 4, "timeout": "30s"}
    )
    clients = connect(headgate, 5)
    clients[0].send(b"GET /0 HTTP/1.1\r\nHost: h\r\n\r\n")
    eventually(lambda: backend.in_flight == 1, "the first to hold the place")
    for n, client in enumerate(clients[1:], 1):
        client.send(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n)
    wait_waiting(headgate, 4)
    refused = headgate.get()
    assert (refused.status, refused.json()["reason"]) == (503, "overloaded")
    assert refused.header("retry-after") is not None
    for client in clients[1:4]:
        client.close()
    wait_waiting(headgate, 1)
    backend.answer()
    assert clients[0].response().status == 200
    eventually(lambda: backend.in_flight == 1, "the one that stayed")
    backend.answer()
    assert clients[4].response().status == 200
    assert backend.order == ["/0", "/4"]
    assert queue_of(headgate)["left"] == 3
    headgate.process.stdout.wait_for(r" 499 .* backend=- attempts=0 .* queued=\d")


def owners(headgate: Headgate, clients: list[Client]) -> list[int]:
    """The worker that each client is connected to, by the kernel's tables."""
    inodes = {}
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            columns = line.split()
            inodes[columns[1].split(":")[1], columns[2].split(":")[1]] = f"socket:[{columns[9]}]"
    port = f"{headgate.address[1]:04X}"
    wanted = [inodes[port, f"{client.socket.getsockname()[1]:04X}"] for client in clients]
    found = {}
    for worker in headgate.workers():
        for name in os.listdir(f"/proc/{worker}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found[os.readlink(f"/proc/{worker}/fd/{name}")] = worker
    return [found.get(inode, 0) for inode in wanted]


def accepted(headgate: Headgate, clients: list[Client]) -> bool:
    return 0 not in owners(headgate, clients)


def spread(connect: Connect, headgate: Headgate, count: int) -> tuple[list[Client], list[int]]:
    """So many clients, accepted by more than one worker; and whose they are."""
    while True:
        clients = connect(headgate, count)
        eventually(partial(accepted, headgate, clients), "all to be accepted")
        mine = owners(headgate, clients)
        if len(set(mine)) > 1:
            return clients, mine
        for client in clients:
            client.close()


def test_a_killed_worker_gives_its_places_back(make_counting: MakeCounting, balance: Balance, connect: Connect) -> None:
    """Places in flight, connections, and places in the queue alike; who waits elsewhere is served."""
    backend = make_counting()
    headgate = balance(
        {"url": backend.url, "max_requests": 6, "max_connections": 6},
        top={"workers": 4},
        queue={"size": 40, "timeout": "30s"},
    )
    clients, workers = spread(connect, headgate, 46)
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_waiting(headgate, 40)
    # A place is taken a moment before the backend has the request.
    eventually(lambda: backend.in_flight == 6, "six requests in flight")
    # All but the one with the fewest clients.
    survivor = min(set(workers), key=workers.count)
    for worker in headgate.workers():
        if worker != survivor:
            os.kill(worker, signal.SIGKILL)
    alive = [client for client, worker in zip(clients, workers, strict=True) if worker == survivor]
    left = list(alive)

    def served() -> bool:
        backend.answer()
        for client in list(left):
            if select.select([client.socket], [], [], 0)[0]:
                assert client.response().status == 200
                left.remove(client)
        return not left

    eventually(served, "those of the living worker to be served")
    assert backend.most_requests <= 6
    wait_waiting(headgate, 0)
    # All six places are there again, and no more than these.
    again = connect(headgate, 7)
    for client in again:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_waiting(headgate, 1)
    eventually(lambda: backend.in_flight == 6, "six requests in flight")
    backend.answer(6)
    eventually(lambda: backend.in_flight == 1, "the seventh")
    backend.answer()


def test_a_stopped_worker_holds_nobody_up(make_counting: MakeCounting, balance: Balance, connect: Connect) -> None:
    """Its own requests wait with it; the places it does not take go to those who wait elsewhere."""
    backend = make_counting(0.001)
    headgate = balance({"url": backend.url, "max_requests": 1}, top={"workers": 2}, queue={"timeout": "30s"})
    backend.service_s = None
    clients, workers = spread(connect, headgate, 16)
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: backend.in_flight == 1, "the first to hold the place")
    wait_waiting(headgate, 15)
    # Not the one that holds the place; that one's clients are the ones that must get on.
    stopped = next(worker for worker in workers if worker != workers[0])
    os.kill(stopped, signal.SIGSTOP)
    try:
        backend.service_s = 0.001
        backend.answer()
        for client, worker in zip(clients, workers, strict=True):
            if worker != stopped:
                assert not waits(client, PATIENCE_S)
    finally:
        os.kill(stopped, signal.SIGCONT)
    for client in clients:
        client.socket.settimeout(PATIENCE_S)
        assert client.response().status == 200
    assert backend.most_requests == 1


def waits(client: Client, seconds: float = 0.3) -> bool:
    """Nothing came within this time."""
    client.socket.settimeout(seconds)
    try:
        return not client.socket.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True


def test_a_kept_connection_of_another_worker_makes_way(
    make_counting: MakeCounting, balance: Balance, connect: Connect
) -> None:
    """All connections may be kept idle by one worker while another has a request for the backend."""
    backend = make_counting(0.001)
    headgate = balance({"url": backend.url, "max_connections": 2}, top={"workers": 4}, queue={"timeout": "30s"})
    for _ in range(10):
        # A few clients, each at some worker; every one is served at once though the places are all kept by others.
        clients = connect(headgate, 8)
        for client in clients:
            assert client.get().status == 200
        for client in clients:
            client.close()
    assert backend.most_connections <= 2
    # Kept connections that nobody gives up stay for a minute, which is more than the queue's patience.
    assert queue_of(headgate)["timedOut"] == 0
