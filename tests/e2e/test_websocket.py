"""WebSocket (RFC 6455) through the balancer, with the `websockets` library on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from .conftest import Balance, MakeBackend
from .harness.backends import echo
from .harness.headgate import Headgate
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.waiting import PATIENCE_S, eventually

MIB = 1 << 20


def choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The chat, where the client can."""
    return next((protocol for protocol in offered if protocol == "chat"), None)


class Site:
    """A WebSocket server that echoes, or does what the path asks for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = HeldPort()
        self.heads: list[dict[str, str]] = []
        self.ended = threading.Semaphore(0)  # released for each connection that is over
        self._server: Server = serve(
            self._handle, sock=self.port.listen(), max_size=4 * MIB, select_subprotocol=choose, ping_interval=None
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        self.heads.append({name.lower(): value for name, value in request.headers.raw_items()})
        try:
            if request.path.startswith("/close/"):
                connection.close(int(request.path.rsplit("/", 1)[1]), "as asked")
                return
            if request.path == "/ping":
                assert connection.ping(b"are you there").wait(PATIENCE_S)
                connection.send("pong came")
            if request.path == "/name":
                connection.send(self.name)
            with contextlib.suppress(ConnectionClosedError):
                for message in connection:
                    connection.send(message)
        finally:
            self.ended.release()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self.port.close()


@pytest.fixture
def sites(stack: ExitStack, processes: Processes) -> Iterator[list[Site]]:
    with ExitStack() as exits:
        found = []
        for name in "ab":
            site = Site(name)
            exits.callback(site.close)
            found.append(site)
        exits.callback(processes.close)
        yield found


@pytest.fixture
def headgate(sites: list[Site], balance: Balance) -> Headgate:
    return balance(*(site.port.url for site in sites))


def dial(headgate: Headgate, path: str = "/", subprotocols: list[Subprotocol] | None = None) -> ClientConnection:
    address = headgate.url.replace("http", "ws") + path
    return connect(address, max_size=4 * MIB, ping_interval=None, proxy=None, subprotocols=subprotocols)


def tunnels(headgate: Headgate) -> int:
    count = headgate.get("/lb/status").json()["totals"]["tunnels"]
    assert isinstance(count, int)
    return count


def test_echo_of_text_and_bytes(headgate: Headgate, sites: list[Site]) -> None:
    with dial(headgate) as client:
        messages: list[str | bytes] = ["hello", "", "ünïcödé", b"\x00\xff" * 10, b""]
        for message in messages:
            client.send(message)
            assert client.recv(PATIENCE_S) == message
    (site,) = [site for site in sites if site.heads]
    (seen,) = site.heads
    # Who calls is told in the upgrade request as in any other.
    assert (seen["x-forwarded-for"], seen["upgrade"].lower()) == ("127.0.0.1", "websocket")


def test_messages_of_a_mebibyte(headgate: Headgate) -> None:
    messages = [os.urandom(MIB) for _ in range(4)]
    with dial(headgate) as client:
        for message in messages:
            client.send(message)
            assert client.recv(PATIENCE_S) == message


def test_a_mebibyte_in_many_fragments(headgate: Headgate) -> None:
    piece = os.urandom(1 << 14)
    with dial(headgate) as client:
        client.send(piece for _ in range(64))
        assert client.recv(PATIENCE_S) == piece * 64


def test_pings_go_both_ways(headgate: Headgate) -> None:
    with dial(headgate, "/ping") as client:
        assert client.ping(b"hello").wait(PATIENCE_S)
        # The server's own ping was answered by the library while we waited.
        assert client.recv(PATIENCE_S) == "pong came"


@pytest.mark.parametrize("code", [CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.INTERNAL_ERROR, 4321])
def test_the_servers_close_code_arrives(headgate: Headgate, code: int) -> None:
    with dial(headgate, f"/close/{int(code)}") as client:
        with pytest.raises((ConnectionClosedError, ConnectionClosedOK)) as closed:
            client.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as asked")


def test_the_clients_close_is_answered(headgate: Headgate, sites: list[Site]) -> None:
    with dial(headgate, "/name") as client:
        name = client.recv(PATIENCE_S)
        client.close(4000, "done")
    assert (client.close_code, client.close_reason) == (4000, "done")
    (site,) = [site for site in sites if site.name == name]
    assert site.ended.acquire(timeout=PATIENCE_S)
    eventually(lambda: tunnels(headgate) == 0, "the tunnel to end")


def test_subprotocols_are_negotiated(headgate: Headgate) -> None:
    with dial(headgate, subprotocols=[Subprotocol("soup"), Subprotocol("chat")]) as client:
        assert client.subprotocol == "chat"


def test_a_client_that_vanishes_ends_its_tunnel(headgate: Headgate, sites: list[Site]) -> None:
    with dial(headgate, "/name") as client:
        name = client.recv(PATIENCE_S)
        assert tunnels(headgate) == 1
        client.socket.shutdown(socket.SHUT_RDWR)
        (site,) = [site for site in sites if site.name == name]
        assert site.ended.acquire(timeout=PATIENCE_S)
        eventually(lambda: tunnels(headgate) == 0, "the tunnel to end")


def test_many_at_once(headgate: Headgate, sites: list[Site]) -> None:
    count = 60
    address = headgate.url.replace("http", "ws") + "/name"

    async def talk() -> list[str]:
        async with contextlib.AsyncExitStack() as exits:
            sockets = [
                await exits.enter_async_context(connect_async(address, ping_interval=None, proxy=None))
                for _ in range(count)
            ]
            names = [str(await one.recv()) for one in sockets]
            page = await asyncio.to_thread(headgate.get, "/lb/status")
            totals = page.json()["totals"]
            assert (totals["tunnels"], sum(one["activeConnections"] for one in page.json()["backends"])) == (
                count,
                count,
            )
            for number, one in enumerate(sockets):
                await one.send(f"message {number}")
            # Nobody gets what belongs to another.
            assert [await one.recv() for one in sockets] == [f"message {number}" for number in range(count)]
            return names

    names = asyncio.run(asyncio.wait_for(talk(), 30))
    assert names.count("a") == names.count("b") == count // 2
    eventually(lambda: tunnels(headgate) == 0, "the tunnels to end")


def test_a_refused_handshake_is_an_ordinary_answer(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(echo))
    with pytest.raises(InvalidStatus) as refused:
        dial(headgate)
    assert refused.value.response.status_code == 200
    assert tunnels(headgate) == 0


def test_a_route_may_forbid_it(sites: list[Site], balance: Balance) -> None:
    headgate = balance(sites[0].port.url, top={"routes": [{"pool": "web", "upgrade": []}]})
    # Without the offer, the server says what it says to a plain GET.
    with pytest.raises(InvalidStatus) as refused:
        dial(headgate)
    assert refused.value.response.status_code == 426
