"""Clients that upload to nobody, wait for a word, leave, read slowly, or say too little."""

from __future__ import annotations

import contextlib
import mmap
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

from ...e2e.harness.ports import HeldPort
from ...e2e.harness.wire import Incomplete, Reader, Response
from .. import sockets
from ..load import Address, connect, in_process, quantile
from ..matrix import row
from ..servers import Connection, body_of, digest, identity_of, path_of
from ..world import CLIENTS, GET, World, awaited


def many(count: int, client: Callable[[int], object]) -> Callable[[], object]:
    """`count` clients, each a thread, in a process of their own, now. What they return, as a list, once waited for."""

    def work() -> list[object]:
        threading.stack_size(256 * 1024)
        results: list[object] = [None] * count

        def one(number: int) -> None:
            try:
                results[number] = client(number)
            except BaseException as error:
                results[number] = f"{type(error).__name__}: {error}"

        threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    return in_process(work)


def reader_of(sock: socket.socket) -> Reader:
    return Reader(lambda: sock.recv(65536))


# -- 15


def upload_until_answered(address: Address, size: int) -> int:
    """Send up to `size` bytes, as ordinary clients do: stop when an answer comes, or the sending fails, and read it."""
    with connect(address) as sock:
        sock.sendall(f"POST /refused HTTP/1.1\r\nHost: h\r\nX-Id: u\r\nContent-Length: {size}\r\n\r\n".encode())
        block = bytes(65536)
        left = size
        with contextlib.suppress(ConnectionError):
            while left and not select.select([sock], [], [], 0)[0]:
                left -= sock.send(block[: min(left, len(block))])
        response = reader_of(sock).response("POST")
        return response.status


@row(15)
def early_413(world: World) -> None:
    """A backend answers 413 and closes while 100 MB are uploaded: at least 99 % of the clients get the 413."""

    def refuse(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            if path_of(request) != "/refused":
                connection.serve(request)
                continue
            connection.respond(b"too much", request, "413 Content Too Large", "Connection: close\r\n")
            # What servers do: say that nothing more comes, take a little of what still arrives, close.
            connection.socket.shutdown(socket.SHUT_WR)
            connection.socket.settimeout(0.2)
            with contextlib.suppress(OSError):
                for _ in range(16):
                    if not connection.socket.recv(65536):
                        break
            return

    world.backends(3, refuse)
    world.headgate()
    bystanders = world.load(GET, rate=5)
    each = 40 if world.long else 8
    address = world.address

    def client(_: int) -> list[object]:
        seen: list[object] = []
        for _ in range(each):
            try:
                seen.append(upload_until_answered(address, 100_000_000))
            except (OSError, Incomplete) as error:
                seen.append(type(error).__name__)
        return seen

    result = many(CLIENTS, client)()
    assert isinstance(result, list)
    seen = Counter(outcome for outcomes in result for outcome in outcomes)
    world.note(uploads=seen.total(), got_413=seen[413])
    assert seen.total() == CLIENTS * each
    assert seen[413] >= 0.99 * seen.total(), seen
    world.none_failed(bystanders.stop(), "others")


# -- 17


@row(17)
def expect_continue(world: World) -> None:
    """Expect: 100-continue: 100 and 417 are relayed; where nothing comes for 1 s the body flows; it is sent once."""

    def script(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            how = path_of(request)
            if how == "/100":
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            elif how == "/417":
                connection.respond(b"", request, "417 Expectation Failed")
                return
            connection.serve(request)

    world.backends(3, script)
    world.headgate()
    address = world.address

    def client(number: int) -> tuple[str, int, bool, bool]:
        """How, the final status, was there a 100, is the answer right?"""
        how = ("/100", "/417", "/nothing")[number % 3]
        identity = f"e{number}"
        body = body_of(identity, 50_000)
        with connect(address) as sock:
            head = f"POST {how} HTTP/1.1\r\nHost: h\r\nX-Id: {identity}\r\nExpect: 100-continue\r\n"
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            reader = reader_of(sock)
            invited = False
            # What is to come is waited for, however late the machine makes it.
            if select.select([sock], [], [], 1.0 if how == "/nothing" else 15.0)[0]:
                response: Response = reader.response("POST", interim=True)
                if response.status != 100:
                    return how, response.status, invited, True
                invited = True
            sock.sendall(body)
            response = reader.response("POST")
            return how, response.status, invited, response.body == digest(body).encode()

    rounds = 10 if world.long else 2
    for _ in range(rounds):
        result = many(2 * CLIENTS, client)()
        assert isinstance(result, list)
        seen = Counter(result)
        assert set(seen) == {("/100", 200, True, True), ("/417", 417, False, True), ("/nothing", 200, False, True)}, (
            seen
        )
        world.note(**{"last round": seen.total()})
    bodies = Counter(entry.identity for server in world.servers for entry in server.seen("body"))
    heads = Counter(entry.identity for server in world.servers for entry in server.seen("head"))
    assert set(heads.values()) == {rounds}, "a request was sent twice"
    assert set(bodies.values()) == {rounds}, "a body was sent twice"
    assert not {f"e{number}" for number in range(1, 2 * CLIENTS, 3)} & set(bodies), "a body went out after 417"


# -- 18 and 19


def watching(connection: Connection) -> None:
    """Notes when a request's end, or the connection's, comes; /hold is never answered."""
    while (request := connection.head()) is not None:
        if path_of(request) == "/":
            connection.serve(request)
            continue
        identity = identity_of(request)
        try:
            connection.body(request)
            if path_of(request) == "/hold":
                connection.wait_end()
            else:
                connection.note("complete", identity, request.method)
        finally:
            connection.note("gone", identity, request.method)
        return


def gone_within_a_second(world: World, left: dict[str, float], stall_s: float) -> None:
    """Each backend saw the end of the requests in `left` (id -> when its client left) within 1 s.

    Those that did get to a backend: who left before the balancer had read its request is not even seen there."""

    def seen(event: str) -> dict[str, float]:
        return {
            entry.identity: entry.time
            for server in world.servers
            for entry in server.seen(event)
            if entry.identity in left
        }

    awaited(lambda: world.totals()["inFlight"] <= 1, "the exchanges to end")
    awaited(lambda: set(seen("head")) == set(seen("gone")), "the backends to see the requests end")
    late = [seen_at - left[identity] for identity, seen_at in seen("gone").items()]
    assert len(late) >= len(left) / 4, f"only {len(late)} of {len(left)} came to a backend"
    world.note(abandoned=len(left), longest_s=max(late))
    # Of client, balancer, backend and its journal each may have to wait for the processor.
    assert max(late) < 1 + 4 * stall_s, max(late)


@row(18)
def client_resets_mid_upload(world: World) -> None:
    """A client resets mid-upload: the request to the backend is aborted within 1 s, never completed with a part."""
    world.backends(3, watching)
    world.headgate()
    bystanders = world.load(GET, rate=5)
    address = world.address

    def client(number: int) -> dict[str, float]:
        left: dict[str, float] = {}
        for turn in range(20 if world.long else 4):
            identity = f"u{number}.{turn}"
            framing = "Content-Length: 1000000" if turn % 2 else "Transfer-Encoding: chunked"
            part = b"x" * 300_000 if turn % 2 else b"493e0\r\n" + b"x" * 300_000 + b"\r\n"
            sock = connect(address)
            sock.sendall(f"POST /upload HTTP/1.1\r\nHost: h\r\nX-Id: {identity}\r\n{framing}\r\n\r\n".encode() + part)
            time.sleep(0.1)  # some of it is on its way: the middle of an upload is what is to be cut
            sockets.reset(sock)
            left[identity] = time.monotonic()
        return left

    result = many(CLIENTS, client)()
    assert isinstance(result, list)
    left: dict[str, float] = {}
    for each in result:
        assert isinstance(each, dict), each
        left |= each
    others = bystanders.stop()
    gone_within_a_second(world, left, others.stall)
    complete = [entry for server in world.servers for entry in server.seen("complete")]
    assert not complete, f"a part of a body passed as a whole: {complete[:3]}"
    world.none_failed(others, "others")
    world.once(others)
    failures = [backend["failed"] for backend in world.status()["backends"]]
    assert failures == [0, 0, 0], f"the clients' doing counted against the backends: {failures}"


@row(19)
def client_leaves_while_waiting(world: World) -> None:
    """A client disconnects while it waits: the attempt is cancelled and its place is free again within 1 s."""
    world.backends(3, watching)
    world.headgate()
    bystanders = world.load(GET, rate=5)
    address = world.address

    def client(number: int) -> dict[str, float]:
        left: dict[str, float] = {}
        for turn in range(20 if world.long else 4):
            identity = f"w{number}.{turn}"
            method = "POST" if turn % 2 else "GET"
            sock = connect(address)
            sock.sendall(
                f"{method} /hold HTTP/1.1\r\nHost: h\r\nX-Id: {identity}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            time.sleep(0.15)  # it is waiting at the backend by then; if not, it is cancelled earlier, which is as good
            if number % 2:
                sockets.reset(sock)
            else:
                sock.close()
            left[identity] = time.monotonic()
        return left

    result = many(CLIENTS, client)()
    assert isinstance(result, list)
    left: dict[str, float] = {}
    for each in result:
        assert isinstance(each, dict), each
        left |= each
    others = bystanders.stop()
    gone_within_a_second(world, left, others.stall)
    awaited(
        lambda: [backend["activeConnections"] for backend in world.status()["backends"]] == [0, 0, 0], "free places"
    )
    world.none_failed(others, "others")
    assert [backend["failed"] for backend in world.status()["backends"]] == [0, 0, 0]


# -- 20 and 21


@row(20)
def slow_readers(world: World) -> None:
    """200 clients read 1 KB/s of 50 MB: memory is bounded, others' p99 < 2x, who reads nothing is cut off in time."""
    size = 50 * 2**20
    blob = bytes(2**20)

    def script(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            if path_of(request) == "/":
                connection.serve(request)
                continue
            connection.send(f"HTTP/1.1 200 OK\r\nX-Backend: b\r\nContent-Length: {size}\r\n\r\n".encode())
            for _ in range(size // len(blob)):
                connection.send(blob)

    world.backends(3, script)
    # Those that read nothing come by a listener with less patience than the default of a minute.
    write_s = 10.0 if world.long else 1.5
    with HeldPort() as short:
        world.headgate(also=[{"bind": short.bind, "timeouts": {"client_write": write_s}}])
        _slow_readers(world, short.address, write_s)


def _slow_readers(world: World, short: Address, write_s: float) -> None:
    bystanders = world.load(GET)
    control = world.run(1.2)
    before = world.memory()
    address = world.address
    until = time.monotonic() + (30 if world.long else 3)
    began = mmap.mmap(-1, 8)

    def slow() -> tuple[int, list[float]]:
        """How many readers are still served at the end, and after how long those who read nothing were cut off."""
        request = b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n"
        reading: list[socket.socket] = []
        mute: dict[socket.socket, float] = {}
        for number in range(200):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(10)
            sock.connect(address if number % 10 else short)
            sock.sendall(request)
            if number % 10:
                reading.append(sock)
            else:
                mute[sock] = time.monotonic()
        # Until here the kernel had 200 socket buffers to fill, which takes its time. From here on they stand still.
        for sock in [*reading, *mute]:
            select.select([sock], [], [], 10)
        mute = dict.fromkeys(mute, time.monotonic())
        began[0] = 1
        poller = select.poll()
        for sock in mute:
            poller.register(sock, select.POLLERR | select.POLLHUP)
        cut: dict[int, float] = {}
        open_ = list(reading)
        due = time.monotonic()
        # The time of a client that reads nothing runs from when the kernels between them have taken all they will take.
        while (now := time.monotonic()) < until or (len(cut) < len(mute) and now < until + 60):
            if now >= due:
                due += 0.25
                for sock in list(open_):
                    try:
                        if not sock.recv(256):
                            open_.remove(sock)
                    except OSError:
                        open_.remove(sock)
            ended = dict(poller.poll(20))
            for sock, start in mute.items():
                if sock.fileno() in ended and sock.fileno() not in cut:
                    cut[sock.fileno()] = time.monotonic() - start
                    poller.unregister(sock)
        return len(open_), list(cut.values())

    waiting = in_process(slow)
    fault = awaited(lambda: began[0], "200 downloads to begin", 40)
    most = before
    while time.monotonic() < until:
        most = max(most, world.memory())
        time.sleep(0.05)
    served, cut = waiting()
    result = bystanders.stop()
    world.note(growth_kib=(most - before) // 1024, still_served=served)
    # 64 KiB is the largest buffer, and what a response needs is one.
    assert most - before <= 200 * 64 * 1024
    assert served == 180, "somebody who reads, however slowly, was cut off"
    assert len(cut) == 20, f"{len(cut)} of 20 that read nothing were cut off"
    world.none_failed(result, "others")
    world.as_fast(result.between(fault), result.between(0, control))


@row(21)
def slowloris(world: World) -> None:
    """1,000 clients send heads, or bodies, a few bytes at a time: the timeouts end them; bystanders 100 % served."""
    world.backends(3)
    header_s, body_s = (10.0, 10.0) if world.long else (1.5, 1.5)
    world.headgate(listener={"timeouts": {"client_header": header_s, "client_body": body_s}})
    bystanders = world.load(GET)
    world.run(0.8, 2)
    address = world.address
    end = time.monotonic() + 40

    def until() -> bool:
        return time.monotonic() > end

    heads = in_process(
        lambda: sockets.hold(address, 700, b"GET / HTTP/1.1\r\nHost: h\r\n", lambda: b"X-a: b\r\n", 0.4, until)
    )
    # A body's time runs from byte to byte: these are silent after the first.
    upload = b"POST / HTTP/1.1\r\nHost: h\r\nX-Id: s\r\nContent-Length: 1000\r\n\r\nx"
    bodies = in_process(lambda: sockets.hold(address, 300, upload, lambda: b"", 60, until))
    for held, limit_s in ((heads(), header_s), (bodies(), body_s)):
        assert isinstance(held, list)
        lasted = [each.end - each.start for each in held if each.end]
        answered = Counter(each.received[9:12] for each in held)
        world.note(**{f"{limit_s} {len(held)}": f"{quantile(lasted, 0.5):.2f} s, {dict(answered)}"})
        assert len(lasted) == len(held), f"{len(held) - len(lasted)} of {len(held)} are still open"
        assert set(answered) <= {b"408", b""}, answered
        assert answered[b"408"] >= 0.9 * len(held), answered
    result = bystanders.stop()
    world.none_failed(result, "others")
    awaited(lambda: world.totals()["connections"] < 10, "the connections to be gone")
