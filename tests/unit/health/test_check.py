"""One check against real servers: good, wrong, slow, silent, closing, garbage."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from headgate.errors import Kind
from headgate.health.check import Check, Poller, Probe, Result
from headgate.health.http import MOST_HEAD_BYTES, HttpProbe
from headgate.health.tcp import TcpProbe
from headgate.runtime.address import pack_address
from tests.unit.health.servers import OK, answers, backend, black_hole, dead_port, hangs, resets

GET = HttpProbe(method="GET", path="/health", host="app", accepts=lambda status: status == 200)


class Watched(Poller):
    """Tells when a check lets go of a descriptor."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop.add_reader, loop.remove_reader)
        self.let_go = asyncio.Event()

    def unregister(self, fd: int) -> None:
        super().unregister(fd)
        self.let_go.set()


async def check(addresses: Sequence[bytes], probe: Probe, expire_after_s: float | None = None) -> Result | None:
    """Run one check; with `expire_after_s`, each address is given that much time."""
    loop = asyncio.get_running_loop()
    poller = Watched()
    done: asyncio.Future[Result | None] = loop.create_future()
    one = Check(poller, addresses, probe, done.set_result)
    one.start()
    try:
        if expire_after_s is not None:
            while not done.done():
                await asyncio.wait([done], timeout=expire_after_s)
                if not done.done():
                    one.expire()
        async with asyncio.timeout(10):
            result = await done
            while one.open:  # until the rest of the answer has been read
                poller.let_go.clear()
                await poller.let_go.wait()
            return result
    finally:
        one.cancel()
        poller.close()


async def http(data: bytes, probe: Probe = GET, pause_s: float = 0.0) -> Result | None:
    async with backend(answers(data, pause_s=pause_s)) as server:
        return await check([server.address], probe)


@pytest.mark.parametrize(
    ("data", "kind", "detail"),
    [
        (OK, Kind.OK, "status 200"),
        (b"HTTP/1.0 200 OK\r\n\r\n", Kind.OK, "status 200"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + OK, Kind.OK, "status 200"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Kind.BAD_STATUS, "status 503"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Kind.BAD_STATUS, "status 204"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", Kind.BAD_STATUS, "status 302"),
        (b"", Kind.RESET, "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Kind.RESET, "closed before a complete answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", Kind.RESET, "closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Kind.BAD_HEAD, "not an HTTP answer"),
        (b"\x15\x03\x01\x00\x02\x02\x16", Kind.BAD_HEAD, "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * MOST_HEAD_BYTES, Kind.BAD_HEAD, ""),
    ],
)
def test_what_an_answer_means(data: bytes, kind: Kind, detail: str) -> None:
    result = asyncio.run(http(data))
    assert result is not None
    assert result.kind == kind
    assert result.detail.startswith(detail)


def test_an_answer_that_dribbles_in_is_still_one() -> None:
    assert asyncio.run(http(OK, pause_s=0.001)) == Result(Kind.OK, "status 200")


def test_the_request_is_exactly_this() -> None:
    async def scenario() -> bytes:
        probe = HttpProbe(
            method="HEAD",
            path="/h?deep=1",
            host="app.example:81",
            accepts=lambda status: status < 400,
            headers={"X-Token": "a b", "user-agent": "prober"},
        )
        async with backend(answers(b"HTTP/1.1 204 No Content\r\n\r\n")) as server:
            assert await check([server.address], probe) == Result(Kind.OK, "status 204")
            return server.requests[0]

    assert asyncio.run(scenario()) == (
        b"HEAD /h?deep=1 HTTP/1.1\r\nHost: app.example:81\r\nAccept: */*\r\nConnection: close\r\n"
        b"X-Token: a b\r\nuser-agent: prober\r\n\r\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "GET /x"},
        {"path": "health"},
        {"path": "/a b"},
        {"path": "/a\r\nX: y"},
        {"host": "a\r\nX: y"},
        {"headers": {"A": "b\r\nX: y"}},
        {"headers": {"A b": "c"}},
    ],
)
def test_nothing_can_be_smuggled_into_the_request(arguments: dict[str, object]) -> None:
    good: dict[str, object] = {"method": "GET", "path": "/", "host": "a", "accepts": bool}
    with pytest.raises(ValueError, match="not a"):
        HttpProbe(**{**good, **arguments})  # type: ignore[arg-type]


def test_the_backend_sees_no_reset_when_its_body_is_not_wanted() -> None:
    """The verdict falls at the head; what follows is read and thrown away, so that no write of the backend fails."""

    async def scenario() -> tuple[Result | None, int]:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n")
            for _ in range(30):
                writer.write(b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0)

        async with backend(handler) as server:
            return await check([server.address], GET), server.resets

    assert asyncio.run(scenario()) == (Result(Kind.OK, "status 200"), 0)


def test_a_body_without_end_is_not_read_without_end() -> None:
    async def scenario() -> Result | None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" * 100_000)
                await writer.drain()

        async with backend(handler) as server:
            return await check([server.address], GET)

    assert asyncio.run(scenario()) == Result(Kind.OK, "status 200")


@pytest.mark.parametrize("probe", [TcpProbe(), GET], ids=["tcp", "http"])
def test_refused(probe: Probe) -> None:
    with dead_port() as address:
        assert asyncio.run(check([address], probe)) == Result(Kind.CONNECT_REFUSED, "connection refused")


@pytest.mark.parametrize("probe", [TcpProbe(), GET], ids=["tcp", "http"])
def test_connecting_that_hangs(probe: Probe) -> None:
    with black_hole() as address:
        result = asyncio.run(check([address], probe, expire_after_s=0.05))
    assert result == Result(Kind.CONNECT_TIMEOUT, "connect timed out")


def test_silence() -> None:
    async def scenario() -> Result | None:
        async with backend(hangs) as server:
            return await check([server.address], GET, expire_after_s=0.05)

    assert asyncio.run(scenario()) == Result(Kind.FIRST_BYTE_TIMEOUT, "no complete answer in time")


def test_reset() -> None:
    async def scenario() -> Result | None:
        async with backend(resets) as server:
            return await check([server.address], GET)

    assert asyncio.run(scenario()) == Result(Kind.RESET, "connection reset by peer")


def test_tcp_is_content_with_a_connection() -> None:
    async def scenario() -> Result | None:
        async with backend(hangs) as server:
            return await check([server.address], TcpProbe())

    assert asyncio.run(scenario()) == Result(Kind.OK, "connected")


@pytest.mark.parametrize("probe", [TcpProbe(), GET], ids=["tcp", "http"])
def test_unix_sockets(probe: Probe, tmp_path: Path) -> None:
    async def scenario() -> Result | None:
        async with backend(answers(OK), path=str(tmp_path / "s")) as server:
            return await check([server.address], probe)

    result = asyncio.run(scenario())
    assert result is not None
    assert result.ok


def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    address = pack_address(socket.AF_UNIX, str(tmp_path / "none"))
    result = asyncio.run(check([address], GET))
    assert result == Result(Kind.CONNECT_FAILED, "no such file or directory")


def test_any_address_that_passes_is_enough() -> None:
    async def scenario() -> Result | None:
        with dead_port() as dead, black_hole() as hole:
            async with (
                backend(answers(b"HTTP/1.1 500 No\r\n\r\n")) as bad,
                backend(resets) as reset,
                backend(answers(OK)) as good,
            ):
                addresses = [dead, hole, bad.address, reset.address, good.address]
                return await check(addresses, GET, expire_after_s=0.05)

    assert asyncio.run(scenario()) == Result(Kind.OK, "status 200")


def test_the_last_failure_is_the_verdict() -> None:
    async def scenario() -> Result | None:
        with dead_port() as dead:
            async with backend(answers(b"HTTP/1.1 500 No\r\n\r\n")) as bad:
                return await check([bad.address, dead], GET)

    assert asyncio.run(scenario()) == Result(Kind.CONNECT_REFUSED, "connection refused")


def test_our_own_lack_of_descriptors_is_no_verdict() -> None:
    async def scenario() -> Result | None:
        async with backend(answers(OK)) as server:
            loop = asyncio.get_running_loop()
            poller = Poller(loop.add_reader, loop.remove_reader)
            done: list[Result | None] = []
            one = Check(poller, [server.address], GET, done.append)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            held = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        held.append(os.dup(0))
                one.start()
            finally:
                for fd in held:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                poller.close()
            return done[0]

    assert asyncio.run(scenario()) is None


def test_a_cancelled_check_says_nothing_and_holds_nothing() -> None:
    async def scenario() -> None:
        async with backend(hangs) as server:
            loop = asyncio.get_running_loop()
            poller = Poller(loop.add_reader, loop.remove_reader)
            done: list[Result | None] = []
            one = Check(poller, [server.address], GET, done.append)
            one.start()
            assert one.open
            one.cancel()
            one.expire()
            assert not one.open
            assert done == []
            poller.close()

    asyncio.run(scenario())


def test_an_event_of_a_closed_descriptor_does_not_reach_the_next_owner_of_its_number() -> None:
    """Two are readable in one batch; the first one's callback closes the second and opens another with its number."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        poller = Poller(loop.add_reader, loop.remove_reader)
        pairs = [socket.socketpair() for _ in range(2)]
        called: list[str] = []
        new: list[socket.socket] = []
        finished = asyncio.Event()

        def first(index: int) -> None:
            """Whichever comes first replaces the other one."""
            if new:
                return
            mine, other = pairs[index][0], pairs[1 - index][0]
            poller.unregister(mine.fileno())
            number = other.fileno()
            poller.unregister(number)
            other.close()
            left, right = socket.socketpair()
            new.extend((left, right))
            assert number in (left.fileno(), right.fileno())
            again = left if left.fileno() == number else right
            poller.register(number, select.EPOLLIN, lambda mask: called.append("new"))
            assert again.fileno() == number
            loop.call_later(0.02, finished.set)

        for index, (mine, peer) in enumerate(pairs):
            peer.send(b"x")
            poller.register(mine.fileno(), select.EPOLLIN, lambda mask, index=index: first(index))  # type: ignore[misc]
        await finished.wait()
        assert called == []
        poller.close()
        for sock in (*new, *(one for pair in pairs for one in pair)):
            sock.close()

    asyncio.run(scenario())
