"""Backends whose answers break off, crawl, stall, are no HTTP, or too much of it."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable

from ..load import Ask, Sample
from ..matrix import row
from ..relay import Fate, Relay
from ..servers import Connection, body_of, identity_of, path_of, query_of
from ..world import CLIENTS, GET, POST, World, awaited

CUT = Ask(target="/cut?size=30000")
# The longest that one batch of the engine's events may take where the machine does not let it run.
BATCH_S = 0.5


def cutting(answer: Callable[[Connection, str, bytes], None]) -> Callable[[Connection], None]:
    """An application whose /cut is answered by `answer(connection, head, body)`, which ends the connection."""

    def script(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            if path_of(request) != "/cut":
                connection.serve(request)
                continue
            identity = identity_of(request)
            connection.note("cut", identity, request.method)
            head = f"HTTP/1.1 200 OK\r\nX-Backend: {connection.name}\r\nX-Id: {identity}\r\n"
            answer(connection, head, body_of(identity, int(query_of(request)["size"])))
            return

    return script


def breaks_off(connection: Connection, how: int) -> None:
    """0: a reset after what was sent has arrived; 1: a reset that overtakes it; 2: FIN."""
    if how == 0:
        time.sleep(0.03)
    if how < 2:
        connection.reset()


def half_by_length(connection: Connection, head: str, body: bytes) -> None:
    connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
    breaks_off(connection, connection.number % 3)


def half_in_chunks(connection: Connection, head: str, body: bytes) -> None:
    part = body[: len(body) // 2]
    connection.send(f"{head}Transfer-Encoding: chunked\r\n\r\n{len(part):x}\r\n".encode() + part + b"\r\n")
    breaks_off(connection, connection.number % 3)


def half_until_close(connection: Connection, head: str, body: bytes) -> None:
    connection.send(f"{head}\r\n".encode() + body[: len(body) // 2])
    breaks_off(connection, connection.number % 2)


def whole_until_close(connection: Connection, head: str, body: bytes) -> None:
    connection.send(f"{head}\r\n".encode() + body)
    connection.socket.shutdown(socket.SHUT_WR)
    connection.wait_end()


def is_cut(sample: Sample) -> bool:
    return sample.target.startswith("/cut")


def truncated(world: World, answer: Callable[[Connection, str, bytes], None]) -> None:
    """Answers to /cut break off under load: every client sees that, and nobody else sees anything."""
    world.backends(3, cutting(answer))
    world.headgate()
    load = world.load(CUT, GET, GET, Ask(size=20_000))
    world.run(1.5)
    world.until_asked(load, 400)
    result = load.stop()
    cut = result.where(is_cut)
    world.note(cut=len(cut), seen_as=dict(cut.reasons.most_common(4)))
    assert len(cut) > 50
    # 502 where the reset overtook every byte of each attempt: nothing was shown, so an answer could still be made.
    assert len(cut.failed) == len(cut), f"a half answer passed as a whole one: {cut.statuses}"
    assert any("Incomplete" in sample.failed or "Reset" in sample.failed for sample in cut.samples)
    world.none_failed(result.where(lambda sample: not is_cut(sample)), "others")
    awaited(lambda: any("/cut" in line and "truncated" in line for line in world.log), "the log to say truncated")


@row(6)
def reset_in_a_body_of_known_length(world: World) -> None:
    """A backend resets mid-body (Content-Length): the client sees the truncation, never a clean end; it is logged."""
    truncated(world, half_by_length)


@row(7)
def reset_in_a_chunked_body(world: World) -> None:
    """A backend resets mid-chunked body: no last chunk is made up; the client sees an abort."""
    truncated(world, half_in_chunks)


# Of an answer of some 90 bytes of head and 30,000 of body: nothing; within the status line, the head and its last line
# end; the head alone; within the body; all but its last byte.
POSITIONS = (0, 1, 9, 30, 60, -3, -1, 100, 1000, 10_000, 20_000, 29_000)


@row("06b")
def reset_at_byte_n(world: World) -> None:
    """A relay resets, or cuts, answers after N bytes, in head and body: no half passes as whole, no POST goes twice."""

    def script(connection: Connection) -> None:
        """In chunks or by length, as asked; a POST is answered as short as it may be."""
        while (request := connection.head()) is not None:
            if path_of(request) != "/chunked":
                connection.serve(request)
                continue
            identity = identity_of(request)
            body = body_of(identity, int(query_of(request)["size"]))
            head = f"HTTP/1.1 200 OK\r\nX-Backend: {connection.name}\r\nX-Id: {identity}\r\n"
            head += "Transfer-Encoding: chunked\r\n\r\n"
            parts = [body[at : at + 4000] for at in range(0, len(body), 4000)]
            connection.send(head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts))
            connection.send(b"0\r\n\r\n")

    def plan(mode: int, number: int) -> Fate:
        """Every third answer ends early, at each of the places, by reset and by cut in turns."""
        turn, breaks = divmod(number, 3)
        if not mode or breaks:
            return Fate()
        position = POSITIONS[turn % len(POSITIONS)]
        # From the end of the head: about there, since identities differ in length.
        return Fate(position if position >= 0 else 88 + position, ("reset", "cut")[turn // len(POSITIONS) % 2])

    whole, broken = world.backends(2, script)
    with contextlib.closing(Relay(broken.port.address, plan)) as relay:
        world.headgate(urls=[whole.url, relay.url])
        long, chunked = Ask(size=30_000), Ask(target="/chunked?size=30000")
        load = world.load(long, chunked, GET, POST, Ask("POST", size=20_000, chunked=True), rate=20)
        world.run(0.5)
        fault = time.monotonic()
        relay.tell(1)
        world.run(2.5)
        world.until_asked(load, 1500)
        result = load.stop()
        world.none_failed(result.where(lambda sample: sample.end < fault), "before")
        during = result.between(fault)
        world.note(during=len(during), seen_as=dict(during.reasons.most_common(6)))
        # The clients compare every body with what it must be: what came as whole was whole.
        for sample in during.failed:
            if sample.method == "POST":  # short answers: cut within the head, or the body's last bytes are missing
                assert sample.status == 502 or "Incomplete" in sample.failed or "Reset" in sample.failed, sample
            else:  # only what had begun to be shown could not be asked for elsewhere
                assert "Incomplete" in sample.failed or "Reset" in sample.failed, sample
        kinds = {sample.method for sample in during.failed}
        assert kinds == {"GET", "POST"}, "no answer was cut within its body"
        # What broke within its head was asked again elsewhere, and fewer failed than broke.
        assert world.totals()["retries"] > 10
        awaited(lambda: any("truncated" in line for line in world.log), "the log to say truncated")
        world.once(result)


@row(8)
def end_of_a_close_delimited_body(world: World) -> None:
    """An early FIN in a close-delimited body is relayed as complete (nobody can know); a reset in one is not."""

    def either(connection: Connection, head: str, body: bytes) -> None:
        (half_until_close if len(body) == 30_000 else whole_until_close)(connection, head, body)

    world.backends(3, cutting(either))
    world.headgate()
    load = world.load(CUT, Ask(target="/cut?size=29000"), GET)
    world.run(1.5)
    world.until_asked(load, 400)
    result = load.stop()
    cut = result.where(lambda sample: sample.target == CUT.target)
    assert len(cut) > 50
    assert len(cut.failed) == len(cut), cut.statuses
    world.none_failed(result.where(lambda sample: sample.target != CUT.target))


@row(10)
def head_byte_by_byte(world: World) -> None:
    """A head at 1 byte per 100 ms: served if complete within the timeout, else 504; the worker is not blocked."""

    def crawl(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            connection.body(request)
            if path_of(request) == "/":
                connection.serve(request)
                continue
            head = b"HTTP/1.1 204 N\r\nX-Id: " + identity_of(request).encode()
            head += b"\r\n\r\n" if path_of(request) == "/in-time" else b"\r\nX-Long: " + b"x" * 1000
            began = time.monotonic()
            for number, byte in enumerate(head, 1):
                connection.send(bytes([byte]))
                # By the clock: what a busy machine wakes this thread late by must not add up, byte by byte.
                time.sleep(max(0.0, began + 0.1 * number - time.monotonic()))

    world.backends(3, crawl)
    world.headgate()
    bystanders = world.load(GET, rate=5)
    fault = world.run(1, 1)
    late = world.load(Ask("POST", "/late"), clients=CLIENTS, rate=0, each=1, name="l")
    in_time = world.load(Ask("GET", "/in-time"), clients=CLIENTS, rate=0, each=1, name="t")
    served, cut = in_time.join(), late.join()
    others = bystanders.stop()
    world.none_failed(served, "served")
    assert served.statuses == {204: CLIENTS}
    assert cut.statuses == {504: CLIENTS}, cut.statuses
    # Not early, but for a batch of events: the engine reads its clock before each, and takes in who comes during it.
    assert cut.quantile(0) >= 5 - BATCH_S, cut.quantile(0)
    world.none_failed(others, "others")
    world.as_fast(others.between(fault), others.between(0, fault))
    world.once(cut)


@row(11)
def body_that_stalls(world: World) -> None:
    """A body stalls for ever: the idle timeout ends it, the client's connection is aborted, buffers are freed."""

    def stall(connection: Connection, head: str, body: bytes) -> None:
        connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
        connection.wait_end()
        connection.note("ended")

    world.backends(3, cutting(stall))
    world.headgate()
    bystanders = world.load(GET, rate=5)
    world.run(0.7, 1)
    before = world.memory()
    descriptors = world.lasting_descriptors()
    stalled = world.load(Ask(target="/cut?size=200000"), clients=64, rate=0, each=1, name="s")
    result = stalled.join()
    assert len(result.failed) == 64, result.statuses
    assert all("Incomplete" in sample.failed or "Reset" in sample.failed for sample in result.samples), result.reasons
    took = [sample.took for sample in result.samples]
    world.note(shortest_s=min(took), longest_s=max(took))
    # Late by the timer's slack (a 64th), not early.
    assert min(took) >= 5 - BATCH_S
    assert max(took) <= 5 * (1 + 1 / 32) + 0.5 + 4 * result.stall, (max(took), result.stall)
    awaited(lambda: sum(len(server.seen("ended")) for server in world.servers) == 64, "the backends to be let go")
    awaited(lambda: world.lasting_descriptors() <= descriptors + 8, "the descriptors to be closed")
    growth = world.memory() - before
    world.note(growth_kib=growth // 1024)
    # A buffer for each would be 64 x 64 KiB; free lists may keep some of it.
    assert growth < 4 * 2**20, growth
    world.none_failed(bystanders.stop(), "others")


@row(12)
def half_close(world: World) -> None:
    """A backend ends its sending side with the answer, and goes on reading: the answer is relayed whole."""

    def script(connection: Connection) -> None:
        """Mode 1: the end of the connection is not announced."""
        connection.serve(fields="" if connection.mode else "Connection: close\r\n")
        connection.socket.shutdown(socket.SHUT_WR)
        connection.wait_end()

    world.backends(3, script)
    world.headgate()
    load = world.load(GET, Ask(size=300_000), POST, Ask("POST", size=50_000))
    world.run(1)
    result = load.stop()
    world.none_failed(result)
    world.once(result)
    # Not announced: whatever a backend answered is relayed. A request that meets the FIN on its way is answered by
    # nobody: a GET is sent again, of a POST nobody can know (rows 5 and 9), and only of such a one.
    for server in world.servers:
        server.tell(1)
    load = world.load(GET, Ask(size=300_000), POST, name="d")
    world.run(1)
    result = load.stop()
    answered = {entry.identity for server in world.servers for entry in server.seen("answer")}
    world.none_failed(result.where(lambda sample: sample.method == "GET" or sample.identity in answered), "unannounced")
    assert {sample.status for sample in result.failed} <= {502}, result.reasons
    world.once(result)


NO_HTTP = [b"220 mail.example ESMTP ready\r\n", b"<html>hello</html>\n", b"\x15\x03\x01\x00\x02\x02\x28"]


@row(13)
def no_http(world: World) -> None:
    """Backends answer garbage, HTTP/0.9 or a TLS alert: 502 where it cannot be tried again; out after 5 in a row."""

    def babble(connection: Connection) -> None:
        request = connection.head()
        if request is not None:
            connection.body(request)
            connection.send(NO_HTTP[connection.number % 3])

    world.backends(2)
    (bad,) = world.backends(1, babble)
    world.headgate()
    load = world.load(GET, GET, GET, POST)
    world.wait_state(bad, "ejected")
    seen = len(bad.seen("head"))
    ejected = world.run(1)
    result = load.stop()
    world.none_failed(result.where(lambda sample: sample.method == "GET"), "GETs")
    world.once(result)
    world.note(requests_until_out=seen, failed_posts=len(result.failed))
    for sample in result.failed:
        assert sample.status == 502, sample
    # Five in a row, and those that were under way already.
    assert seen <= 5 + CLIENTS, seen
    assert not result.between(ejected - 0.5, ejected).failed


@row(14)
def endless_head(world: World) -> None:
    """A response head of 1 MB or 16 MB: 502, and the worker grows by less than 2 MB."""

    def huge(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            if path_of(request) == "/":
                connection.serve(request)
                continue
            connection.body(request)
            connection.send(b"HTTP/1.1 200 OK\r\n")
            line = b"X-Field: " + b"y" * 8000 + b"\r\n"
            for _ in range(int(path_of(request)[1:]) * 2**20 // len(line)):
                connection.send(line)
            return

    world.backends(3, huge)
    world.headgate()
    bystanders = world.load(GET, Ask(size=20_000))
    world.run(1)
    before = most = world.memory()
    heads = world.load(Ask("POST", "/1"), Ask("POST", "/16"), clients=8, rate=10, name="h")
    until = time.monotonic() + (2 if not world.long else 20)
    while time.monotonic() < until or heads.count < 40:
        most = max(most, world.memory())
        time.sleep(0.02)
    result, others = heads.stop(), bystanders.stop()
    world.note(heads=len(result), growth_kib=(most - before) // 1024)
    assert set(result.statuses) == {502}, result.statuses
    assert len(result) > 30
    assert most - before < 2 * 2**20
    world.none_failed(others, "others")


@row(16)
def surplus(world: World) -> None:
    """A backend sends bytes after its answer: they never answer another request; that connection is dropped."""
    poison = b"HTTP/1.1 200 OK\r\nX-Backend: poison\r\nX-Id: poison\r\nContent-Length: 6\r\n\r\nPOISON"

    def script(connection: Connection) -> None:
        chance = random.Random(connection.number)
        while (request := connection.head()) is not None:
            if chance.random() < 0.7:
                connection.serve(request)
                continue
            connection.body(request)
            identity = identity_of(request)
            connection.note("poison", identity, request.method)
            body = body_of(identity, int(query_of(request)["size"]))
            head = (
                f"HTTP/1.1 200 OK\r\nX-Backend: b\r\nX-Id: {identity}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            if chance.random() < 0.5:
                connection.send(head)
                connection.send(body + poison)
            else:
                connection.send(head + body + poison)
            # Nothing may come on this connection any more.
            if connection.head() is not None:
                connection.note("broken", detail="a request came after the surplus")

    world.backends(3, script)
    world.headgate()
    load = world.load(GET, Ask(size=5000), rate=20)
    world.run(1)
    world.until_asked(load, 800)
    result = load.stop()
    poisoned = sum(len(server.seen("poison")) for server in world.servers)
    world.note(poisoned=poisoned)
    assert poisoned > 100
    world.none_failed(result)
