"""Whole pools: all down, flapping, lossy, behind a slow link, lying."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import socket
import time

from .. import network
from ..load import Ask, in_process
from ..matrix import row
from ..servers import Connection, path_of
from ..world import CLIENTS, GET, World, awaited

_CLONE_NEWNET = 0x40000000


@row(37)
def all_down(world: World) -> None:
    """All backends down: 503 at once, with Retry-After; the first passing check brings the pool back."""
    servers = world.backends(3)
    world.headgate()
    load = world.load(GET)
    world.run(0.5)
    for server in servers:
        server.kill()
    killed = time.monotonic()
    # Not when each is down or ejected: while fewer than half are routable an ejected one is asked, until its checks say
    # too that it is down.
    down = awaited(lambda: world.status()["pools"][0]["standIn"] is not None, "nothing to be routable")
    world.more(load, 100)
    back = time.monotonic()
    servers[0].start()
    recovered = world.wait_state(servers[0], "up")
    world.run(1)
    result = load.stop()
    world.note(noticed_s=down - killed, recovered_s=recovered - back)
    # The worker that said so does not ask them any more; and none of these can have met the one that comes back.
    during = result.between(down).where(lambda sample: sample.end < back)
    assert len(during) > 20
    assert during.statuses == {503: len(during)}, during.statuses
    assert all(sample.retry_after for sample in during.samples), "503 without Retry-After"
    # At once: nobody is asked.
    assert during.quantile(0.99) < 0.1 + 4 * during.stall, during.quantile(0.99)
    # Until it was known each was tried and refused, which is quick as well.
    until_known = result.between(killed + 0.1, down)
    assert set(until_known.statuses) <= {502, 503}, until_known.statuses
    # One pass is enough.
    assert "up: a check passed, and nothing else in the pool is routable" in world.errors, world.errors
    world.none_failed(result.between(recovered), "afterwards")
    # No herd: who came back gets what the clients ask for, once each, and nothing that was held back or is tried again.
    came = [entry for entry in servers[0].seen("head") if entry.time >= back]
    asked = len(result.between(back))
    assert len({entry.identity for entry in came}) == len(came) <= asked, (len(came), asked)
    busiest = max(sum(0 <= other.time - entry.time < 0.2 for other in came) for entry in came)
    world.note(after=len(came), busiest_200_ms=busiest)
    # 32 clients ask 10 times a second each; a pause of the machine brings what it held back.
    assert busiest <= 2 * CLIENTS * 10 * 0.2 + CLIENTS + CLIENTS * 10 * result.stall, busiest


@row(38)
def flapping(world: World) -> None:
    """A backend goes up and down with every check: at most 1 % of the GETs fail, and it is out most of the time."""
    flapper, *_ = world.backends(3)
    world.headgate()
    load = world.load(GET, GET, Ask("DELETE"), rate=15)
    world.run(0.5)
    for _ in range(30 if world.long else 4):
        flapper.kill()
        world.run(0.45, 1)
        world.more(load, 2 * CLIENTS)  # it is missed, however long the clients had to wait for the processor
        flapper.start()
        world.run(0.45, 1)
    result = load.stop()
    world.note(
        requests=len(result), failed=len(result.failed), **{f"to {name}": n for name, n in result.backends.items()}
    )
    assert len(result.failed) <= 0.01 * len(result), result.reasons
    # It was up half of the time, and would have had a sixth of all requests without a back-off that grows.
    assert result.backends[flapper.name] <= len(result) / 12, result.backends


@row(39)
def lossy(world: World) -> None:
    """10 % of all packets are lost, connect timeout 5 s: 0 failed, only latency."""
    world.backends(3)
    world.headgate(pool={"timeouts": {"connect": "5s"}})
    load = world.load(GET, Ask("POST"), Ask(size=20_000))
    world.run(0.5)
    network.lose(0.1)
    world.run(2.5)
    # Whoever still waits for a packet to be sent again is waited for.
    result = load.stop()
    network.lose_nothing()
    world.none_failed(result)
    world.once(result)
    world.note(p50=result.quantile(0.5), p99=result.quantile(0.99), retried=world.totals()["retries"])


@row(40)
def narrow_link(world: World) -> None:
    """Clients behind a link of 1 Mbit/s: back-pressure reaches the backends, and the worker does not grow."""
    blob = bytes(2**20)
    size = 50 * 2**20

    def script(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            if path_of(request) == "/":
                connection.serve(request)
                continue
            connection.send(f"HTTP/1.1 200 OK\r\nX-Backend: b\r\nContent-Length: {size}\r\n\r\n".encode())
            for _ in range(size // len(blob)):
                connection.send(blob)

    world.backends(3, script)
    shared = mmap.mmap(-1, 16)  # 0: 1 = go, 2 = end; 8..15: the process id of the clients

    def behind_the_link() -> int:
        """Download in a network of its own until the row says so; how many bytes came."""
        assert ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        shared[8:16] = os.getpid().to_bytes(8, "little")
        while not shared[0]:
            time.sleep(0.01)
        socks = [socket.create_connection(("10.99.0.1", 8080), 20) for _ in range(CLIENTS)]
        for sock in socks:
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
            sock.setblocking(False)
        came = 0
        while shared[0] == 1:
            time.sleep(0.02)
            for sock in socks:
                with contextlib.suppress(BlockingIOError):
                    came += len(sock.recv(65536))
        return came

    downloading = in_process(behind_the_link)
    awaited(lambda: any(shared[8:16]), "the clients to be in their network")
    pid = int.from_bytes(shared[8:16], "little")
    network.slow_link("narrow", pid, "10.99.0.1", "10.99.0.2", "1mbit")
    world.headgate(also=[{"bind": "10.99.0.1:8080"}])
    bystanders = world.load(GET)
    world.run(1)
    shared[0] = 1
    # Each has begun, and got what it may have before the link is felt: from then on little comes.
    awaited(lambda: world.totals()["connections"] >= 2 * CLIENTS, "the downloads to begin")
    taken = -1
    while (now := received(world)) > taken + 2**18:
        taken = now
        world.run(0.5)
    before = world.memory()
    end = time.monotonic() + (30 if world.long else 2)
    most = before
    while time.monotonic() < end:
        most = max(most, world.memory())
        time.sleep(0.05)
    sent = received(world)
    shared[0] = 2
    came = downloading()
    assert isinstance(came, int)
    result = bystanders.stop()
    world.note(received=came, from_backends=sent, growth_kib=(most - before) // 1024)
    assert came > 100_000, "the link carried nothing"
    # What is neither at the clients nor in flight waits in the kernel's send buffers: some megabytes each, never all.
    assert sent < CLIENTS * size / 5, sent
    assert most - before < 2 * 2**20, most - before
    world.none_failed(result, "others")


def received(world: World) -> int:
    """Bytes that came from backends so far."""
    return sum(backend["bytesReceived"] for backend in world.status()["backends"])


def failing_when_told(connection: Connection) -> None:
    """Mode 1: every request is answered 500, while a check (which only connects) passes."""
    while (request := connection.head()) is not None:
        if connection.mode:
            connection.body(request)
            connection.respond(b"broken", request, "500 Internal Server Error")
        else:
            connection.serve(request)


@row(41)
def lying_checks(world: World) -> None:
    """Checks pass while traffic gets 500: out after 5 errors; when all lie, at least half stay in rotation."""
    liar, *others = world.backends(3, failing_when_told)
    world.headgate()
    load = world.load(GET, Ask("POST"))
    world.run(0.7)
    liar.tell(1)
    began = time.monotonic()
    out = world.wait_state(liar, "ejected")
    world.run(0.5)
    for server in others:
        server.tell(1)
    world.run(1)
    states = [backend["state"] for backend in world.status()["backends"]]
    result = load.stop()
    errors = result.between(0, out).where(lambda sample: sample.status == 500)
    world.note(errors=len(errors), noticed_s=out - began, states=states)
    # Five in a row, and those that were under way; the application's own answers are no failures of the balancer's.
    assert 5 <= len(errors) <= 5 + CLIENTS, len(errors)
    world.none_failed(result)
    assert states.count("up") >= 2, states
    served = result.between(out + 0.6).backends
    assert len([name for name in served if name]) >= 2, served


@row(42)
def retry_storm(world: World) -> None:
    """Every answer is an error, at 1,000 requests a second: retries add 20 % at most, once the reserve is spent."""

    def broken(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            connection.respond(b"broken", request, "503 Service Unavailable")

    world.backends(3, broken)
    world.headgate()
    loads = [world.load(GET, clients=CLIENTS // 2, rate=1000 / CLIENTS, name=name) for name in "cd"]

    def asked() -> tuple[int, int]:
        """Requests of clients, and attempts at backends, so far."""
        status = world.status()
        return status["pools"][0]["totalTime"]["count"], sum(row["totalRequests"] for row in status["backends"])

    awaited(lambda: asked()[0] > 600, "the reserve to be spent")
    requests, attempts = asked()
    world.run(2)
    more_requests, more_attempts = asked()
    results = [load.stop() for load in loads]
    total_requests, total_attempts = asked()
    ratio = (more_attempts - attempts) / (more_requests - requests)
    world.note(ratio=ratio, asked=total_requests, attempts=total_attempts)
    # A request whose retry is under way is counted when it ends, its attempts when they begin.
    under_way = 2 * CLIENTS / (more_requests - requests)
    assert ratio <= 1.2 + under_way, ratio
    assert total_attempts <= 1.2 * total_requests + 100 + 2 * CLIENTS, (total_attempts, total_requests)
    # Retries there were: the budget is not simply nothing.
    assert total_attempts > 1.1 * total_requests
    for result in results:
        world.none_failed(result)
        assert set(result.statuses) == {503}
