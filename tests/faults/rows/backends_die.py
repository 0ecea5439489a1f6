"""Backends that refuse, vanish, die, hang, or close what they should not."""

from __future__ import annotations

import random
import signal
import time

from ...e2e.harness.waiting import PATIENCE_S
from .. import network
from ..load import Ask
from ..matrix import row
from ..servers import Connection
from ..world import ALL_METHODS, CLIENTS, GET, POST, World


@row(1)
def refused(world: World) -> None:
    """1 of 3 backends refuses (port closed): 0 failed of N for all methods (nothing was sent)."""
    dead, *_ = world.backends(3)
    world.headgate()
    dead.kill()
    load = world.load(*ALL_METHODS)
    world.run(2)
    if world.long:
        # It comes back, and goes again while connections to it are kept.
        dead.start()
        world.wait_state(dead, "up")
        world.run(2)
        dead.kill()
        world.run(2)
    result = load.stop()
    world.none_failed(result.where(lambda sample: sample.method != "POST") if world.long else result)
    world.once(result)


@row(2)
def blackhole(world: World) -> None:
    """SYNs to a backend vanish: 0 failed; at most the connect timeout is added, once per probe and not per request."""
    hole, *_ = world.backends(3, closes_after_each)
    world.headgate()
    load = world.load(*ALL_METHODS)
    world.run(1)
    fault = time.monotonic()
    network.drop_new_connections(hole.port.number)
    seen = world.wait_state(hole, "ejected", "down")
    attempts = world.backend(hole)["totalRequests"]
    end = world.run(1.5)
    result = load.stop()
    attempts = world.backend(hole)["totalRequests"] - attempts
    world.none_failed(result)
    world.once(result)
    control, during = result.between(0, fault), result.between(fault, seen)
    # Whoever came before the first attempt had run out waited for that long once, and was served elsewhere; which took
    # as long as it took others about that time.
    others = result.between(fault, end).where(lambda sample: sample.took < 1)
    limit = 1 + max(2 * control.longest, control.longest + 0.1, others.longest + 0.1) + 4 * during.stall
    world.note(longest=during.longest, noticed_s=seen - fault)
    assert during.longest <= limit, (during.longest, limit)
    # From then on nobody waits for it but a probe, one at a time.
    assert attempts <= 1 + (time.monotonic() - seen) / 10, attempts
    slowest = sorted(result.between(seen, end).samples, key=lambda sample: -sample.took)[:attempts]
    world.as_fast(result.between(seen, end).where(lambda sample: sample not in slowest), control)


def closes_after_each(connection: Connection) -> None:
    """A new connection for each request, so that all of them have to connect."""
    connection.serve(fields="Connection: close\r\n")


@row(3)
def killed_under_load(world: World) -> None:
    """A backend is killed mid-load: GET 0 failed; a POST in flight there is 502 exactly once, never sent twice."""
    victim, *others = world.backends(3)
    world.headgate()
    load = world.load(Ask(target="/?wait=20"), Ask("POST", "/?wait=20"), rate=15)
    world.run(1)
    for _ in range(10 if world.long else 2):
        victim.kill()
        world.run(0.7)
        victim.start()
        world.run(0.5)
    result = load.stop()
    world.none_failed(result.where(lambda sample: sample.method == "GET"), "GETs")
    world.once(result)
    posts = result.where(lambda sample: sample.method == "POST")
    answered = {entry.identity for server in world.servers for entry in server.seen("answer")}
    arrived = {entry.identity for server in others for entry in server.seen("head")}
    world.note(posts=len(posts), failed_posts=len(posts.failed))
    for sample in posts.failed:
        assert sample.status == 502, sample
        assert sample.identity not in arrived, f"{sample} was at another backend as well"
        # Answered: the answer was on its way out when the process died.
        assert sample.identity not in answered or sample.status == 502
    # One connection carries one request: not more can have been in flight than there were clients, each time.
    assert len(posts.failed) <= CLIENTS * (10 if world.long else 2)


@row(4)
def stopped(world: World) -> None:
    """A backend hangs (SIGSTOP): GET 0 failed or 504 at the timeout; others' p99 < 2x; no pile-up in front of it."""
    hanging, *_ = world.backends(3)
    # The short form needs an attempt to run out within it.
    first_byte_s = 5.0 if world.long else 1.5
    world.headgate(pool={"timeouts": {"first_byte": first_byte_s}})
    load = world.load(GET, clients=96, rate=3)
    fault = world.run(1.2)
    hanging.signal(signal.SIGSTOP)
    most = 0
    until = time.monotonic() + (8 if world.long else 3)
    gone = None
    while time.monotonic() < until or (gone is None and time.monotonic() < until + PATIENCE_S):
        row_now = world.backend(hanging)
        most = max(most, row_now["activeConnections"])
        if gone is None and row_now["state"] != "up":
            gone = time.monotonic()
        if gone is not None and time.monotonic() > gone + first_byte_s + 0.5:
            # Whoever waited has been answered by another; at most a probe waits now.
            assert row_now["activeConnections"] <= 1 + most // 10, row_now
        world.run(0.05, 0.05)
    hanging.signal(signal.SIGCONT)
    world.run(0.5)
    result = load.stop()
    assert gone is not None, "it was never taken out"
    world.note(most_waiting=most, noticed_s=gone - fault)
    assert set(result.reasons) <= {"GET status 504"}, result.reasons
    for sample in result.failed:
        assert sample.took >= first_byte_s
    world.none_failed(result)
    # Nobody was told to wait longer than one attempt, since the next backend is a good one.
    limit = first_byte_s + max(2 * result.between(0, fault).longest, 0.1) + 4 * result.stall + first_byte_s / 32
    assert result.longest <= limit, (result.longest, limit)
    # Those that waited there first, and were then answered by another, took the timeout; all others were not held up.
    others = result.between(fault).where(lambda sample: sample.took < first_byte_s)
    world.as_fast(others.where(lambda sample: sample.backend != hanging.name), result.between(0, fault))
    # No more waited there than came within the time it took to notice: a third of what arrives.
    assert most <= 96 * 3 / 3 * (gone - fault + 1), most


def resets_some(connection: Connection) -> None:
    """Answers the first request of each connection, and resets when a later one arrives, by chance."""
    chance = random.Random(connection.number)
    while True:
        request = connection.head()
        if request is None:
            return
        if connection.served and chance.random() < 0.25:
            connection.body(request)
            connection.note("reset", request.header("x-id") or "", request.method)
            connection.reset()
            return
        connection.serve(request)


@row(5)
def reset_before_the_answer(world: World) -> None:
    """A reused connection is reset before a byte of the answer: GET 0 failed; POST again only if unsent, else 502."""
    world.backends(3, resets_some)
    world.headgate()
    load = world.load(GET, GET, POST, rate=15)
    world.run(1.5)
    world.until_asked(load, 800)
    result = load.stop()
    resets = {entry.identity for server in world.servers for entry in server.seen("reset")}
    world.note(resets=len(resets))
    assert len(resets) > 20
    world.none_failed(result.where(lambda sample: sample.method == "GET"), "GETs")
    world.once(result)
    for sample in result.failed:
        assert (sample.status, sample.identity in resets) == (502, True), sample
    # A race is nobody's illness (the trap that makes others answer 502 to everything after a few).
    for backend in world.status()["backends"]:
        assert backend["healthy"], backend


def closes_idle(connection: Connection) -> None:
    """Ends every connection after three answers, or after some idle milliseconds between them, saying nothing."""
    chance = random.Random(connection.number)
    while connection.served < 3:
        if connection.served:
            connection.socket.settimeout(chance.uniform(0.002, 0.08))
        try:
            if not connection.serve():
                return
        except TimeoutError:
            return


@row(9)
def closed_while_idle(world: World) -> None:
    """Backends close idle connections as requests are sent: 0 failed of N GET, and never a failure of health."""
    world.backends(2, closes_idle)
    world.headgate()
    load = world.load(GET, rate=25)
    world.run(2.5)
    result = load.stop()
    world.none_failed(result)
    rows = world.status()["backends"]
    world.note(
        reused=sum(row["reusedConnections"] for row in rows), opened=sum(row["openedConnections"] for row in rows)
    )
    assert world.figures["reused"], "no connection was ever used again: there was no race"
    for backend in rows:
        assert (backend["state"], backend["failed"]) == ("up", 0), backend
    assert not [line for line in world.errors.splitlines() if "eject" in line], world.errors
