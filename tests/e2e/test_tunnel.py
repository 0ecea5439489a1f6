"""Upgrades to whatever a route allows: what becomes a tunnel, what does not, and how tunnels end."""

from __future__ import annotations

import signal
import socket
import threading
import time
from typing import Any

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Backend, Connection, Script, echo
from .harness.bulk import BLOCK, Digest, blocks
from .harness.client import Client, head
from .harness.headgate import Headgate
from .harness.waiting import PATIENCE_S, eventually
from .harness.wire import Response

FOO = [("Connection", "upgrade"), ("Upgrade", "foo")]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"
ALLOW_FOO: dict[str, Any] = {"routes": [{"pool": "web", "upgrade": ["foo", "bar"]}]}


def switching(then: Script, answer: bytes = SWITCH) -> Script:
    """Answers an upgrade request with `answer`, then does what `then` does."""

    def serve(connection: Connection) -> None:
        if connection.read() is not None:
            connection.send(answer)
            then(connection)

    return serve


def shout(connection: Connection) -> None:
    """Sends back what comes, in upper case, until the other side says FIN; then a farewell."""
    while data := connection.socket.recv(65536):
        connection.send(data.upper())
    connection.send(b"farewell")


def upgrade(client: Client, fields: list[tuple[str, str]] = FOO, behind: bytes = b"") -> Response:
    client.send(head("GET", "/", fields) + behind)
    return client.response(interim=True)


def totals(headgate: Headgate) -> dict[str, Any]:
    found = headgate.get("/lb/status").json()["totals"]
    assert isinstance(found, dict)
    return found


def test_an_allowed_protocol_becomes_a_tunnel(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(switching(shout))
    headgate = balance(backend, top=ALLOW_FOO)
    with headgate.client() as client:
        answer = upgrade(client)
        assert (answer.status, answer.headers("upgrade"), answer.list_header("connection")) == (
            101,
            ["foo"],
            ["upgrade"],
        )
        for word in [b"one", b"two", b"\x00\xff\r\n\r\n"]:
            client.send(word)
            assert client.reader.exactly(len(word)) == word.upper()
        assert headgate.backend(backend.url)["activeConnections"] == 1
        assert totals(headgate)["tunnels"] == 1
        client.finish()
        assert client.reader.rest() == b"farewell"
    (request,) = backend.requests
    assert (request.headers("upgrade"), request.list_header("connection")) == (["foo"], ["upgrade"])
    eventually(lambda: totals(headgate)["tunnels"] == 0, "the tunnel to end")
    assert headgate.backend(backend.url)["activeConnections"] == 0
    # A tunnel is a success, and is logged when it is over.
    assert headgate.backend(backend.url)["failed"] == 0
    headgate.process.stdout.wait_for(r"\b101\b")


def test_one_of_several_offered_protocols(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(switching(shout)), top=ALLOW_FOO)
    with headgate.client() as client:
        assert upgrade(client, [("Connection", "upgrade"), ("Upgrade", "bar, FOO")]).status == 101
        client.send(b"hello")
        assert client.reader.exactly(5) == b"HELLO"


NOT_ALLOWED = [
    [("Connection", "upgrade"), ("Upgrade", "other")],
    [("Connection", "upgrade"), ("Upgrade", "foo, other")],
    [("Connection", "upgrade"), ("Upgrade", "foo"), ("Upgrade", "other")],
    [("Connection", "upgrade"), ("Upgrade", "foo"), ("Upgrade", "h2c")],
    [("Connection", "upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")],
    [("Connection", "upgrade"), ("Upgrade", "websocket")],
    # Upgrade without the connection option is somebody else's.
    [("Upgrade", "foo")],
]


def test_what_the_route_does_not_allow_is_not_passed_on(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, top=ALLOW_FOO)
    with headgate.client() as client:
        for fields in NOT_ALLOWED:
            # An ordinary exchange each: the connection goes on.
            answer = upgrade(client, fields)
            assert (answer.status, answer.body) == (200, b"backend"), fields
    assert len(backend.requests) == len(NOT_ALLOWED)
    for request in backend.requests:
        assert (request.headers("upgrade"), request.headers("http2-settings")) == ([], [])
        assert "upgrade" not in request.list_header("connection")


def test_a_request_with_a_body_is_no_upgrade(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, top=ALLOW_FOO)
    with headgate.client() as client:
        assert client.request("POST", "/", FOO, b"hello").status == 200
        assert client.get("/next").status == 200
    assert backend.requests[0].headers("upgrade") == []
    assert backend.requests[0].body == b"hello"


def test_a_refused_upgrade_is_an_ordinary_answer(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(echo)
    headgate = balance(backend, top=ALLOW_FOO)
    with headgate.client() as client:
        for number in range(3):
            client.send(head("GET", f"/{number}", FOO))
            answer = client.response()
            assert (answer.status, answer.json()["target"]) == (200, f"/{number}")
            assert answer.headers("upgrade") == []
        assert client.get("/plain").json()["target"] == "/plain"
    assert totals(headgate)["tunnels"] == 0


def test_bytes_behind_a_refused_upgrade_are_the_next_request(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(echo)
    headgate = balance(backend, top=ALLOW_FOO)
    with headgate.client() as client:
        client.send(head("GET", "/first", FOO) + head("GET", "/second"))
        assert client.response().json()["target"] == "/first"
        assert client.response().json()["target"] == "/second"
    # Nothing of the second was sent before the first was answered.
    assert [request.target for request in backend.requests] == ["/first", "/second"]


@pytest.mark.parametrize("size", [5, 10_000, 300_000])
def test_bytes_sent_before_the_101_belong_to_the_tunnel(make_backend: MakeBackend, balance: Balance, size: int) -> None:
    go = threading.Event()

    def late(connection: Connection) -> None:
        assert connection.read() is not None
        assert go.wait(PATIENCE_S)
        # Until it agreed, the backend was sent nothing that it could take for HTTP.
        assert connection.reader.pending == b""
        connection.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.socket.recv(1)
        connection.socket.setblocking(True)
        connection.send(SWITCH)
        shout(connection)

    backend = make_backend(late)
    headgate = balance(backend, top=ALLOW_FOO)
    data = b"x" * size
    with headgate.client() as client:
        client.send(head("GET", "/", FOO))
        sender = threading.Thread(target=client.send, args=[data])
        sender.start()
        backend.wait_requests(1)
        go.set()
        assert client.response(interim=True).status == 101
        assert client.reader.exactly(size) == data.upper()
        sender.join(PATIENCE_S)
        client.send(b"more")
        assert client.reader.exactly(4) == b"MORE"


def test_bytes_right_behind_the_101(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(switching(shout, SWITCH + b"welcome")), top=ALLOW_FOO)
    with headgate.client() as client:
        assert upgrade(client).status == 101
        assert client.reader.exactly(7) == b"welcome"
        client.send(b"thanks")
        assert client.reader.exactly(6) == b"THANKS"


def test_the_client_half_closes(make_backend: MakeBackend, balance: Balance) -> None:
    """FIN from the client reaches the backend, which goes on sending for as long as it likes."""
    total = 8 * BLOCK
    sent = Digest()

    def download(connection: Connection) -> None:
        assert connection.wait_ended()
        for block in blocks(total):
            connection.send(block)
            sent.add(block)

    headgate = balance(make_backend(switching(download)), top=ALLOW_FOO)
    with headgate.client() as client:
        assert upgrade(client).status == 101
        client.finish()
        received = Digest()
        received.add(client.reader.rest())
    assert (received.length, received) == (total, sent)


def test_the_backend_half_closes(make_backend: MakeBackend, balance: Balance) -> None:
    """FIN from the backend reaches the client, whose bytes still arrive: more than all buffers between hold."""
    total = 16 * BLOCK
    received, sent = Digest(), Digest()
    done, go = threading.Event(), threading.Event()

    def upload(connection: Connection) -> None:
        connection.socket.shutdown(socket.SHUT_WR)
        assert go.wait(PATIENCE_S)
        while data := connection.socket.recv(65536):
            received.add(data)
        done.set()

    headgate = balance(make_backend(switching(upload)), top=ALLOW_FOO)
    with headgate.client() as client:
        assert upgrade(client).status == 101
        assert client.closed_by_peer()
        for number, block in enumerate(blocks(total)):
            client.send(block)
            sent.add(block)
            if number == 1:
                go.set()
        client.finish()
        assert done.wait(PATIENCE_S)
    assert (received.length, received) == (total, sent)
    eventually(lambda: totals(headgate)["tunnels"] == 0, "the tunnel to end")


def test_a_reset_by_the_backend_goes_through(make_backend: MakeBackend, balance: Balance) -> None:
    go = threading.Event()

    def reset(connection: Connection) -> None:
        assert go.wait(PATIENCE_S)
        connection.reset()

    headgate = balance(make_backend(switching(reset)), top=ALLOW_FOO)
    with headgate.client() as client:
        assert upgrade(client).status == 101
        go.set()
        # FIN would say that this is all there was to say.
        with pytest.raises(ConnectionResetError):
            client.reader.rest()
    eventually(lambda: totals(headgate)["tunnels"] == 0, "the tunnel to end")


def test_a_reset_by_the_client_goes_through(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(switching(shout))
    headgate = balance(backend, top=ALLOW_FOO)
    with headgate.client() as client:
        assert upgrade(client).status == 101
        client.send(b"half of")
        assert client.reader.exactly(7) == b"HALF OF"
        client.reset()
    eventually(lambda: backend.connections[0].error is not None, "the backend to see it")
    assert isinstance(backend.connections[0].error, ConnectionResetError)
    eventually(lambda: totals(headgate)["tunnels"] == 0, "the tunnel to end")


def test_much_both_ways_at_once(make_backend: MakeBackend, balance: Balance) -> None:
    total = 16 * BLOCK

    def mirror(connection: Connection) -> None:
        while data := connection.socket.recv(65536):
            connection.send(data)

    headgate = balance(make_backend(switching(mirror)), top=ALLOW_FOO)
    sent, received = Digest(), Digest()
    with headgate.client() as client:
        assert upgrade(client).status == 101

        def send() -> None:
            for block in blocks(total):
                client.send(block)
                sent.add(block)
            client.finish()

        sender = threading.Thread(target=send)
        sender.start()
        while data := client.socket.recv(1 << 18):
            received.add(data)
        sender.join(PATIENCE_S)
    assert (received.length, received) == (total, sent)
    eventually(lambda: totals(headgate)["tunnels"] == 0, "the tunnel to end")
    counted = totals(headgate)
    assert counted["bytesReceived"] >= total
    assert counted["bytesSent"] >= total


def test_an_idle_tunnel_is_ended(make_backend: MakeBackend, balance: Balance) -> None:
    ended = threading.Event()

    def wait(connection: Connection) -> None:
        if connection.wait_ended():
            ended.set()

    headgate = balance(make_backend(switching(wait)), top=ALLOW_FOO, timeouts={"tunnel_idle": "400ms"})
    with headgate.client() as client:
        assert upgrade(client).status == 101
        began = time.monotonic()
        assert client.closed_by_peer()
        assert 0.3 < time.monotonic() - began < 3
        assert ended.wait(PATIENCE_S)
    eventually(lambda: totals(headgate)["tunnels"] == 0, "the tunnel to end")


@pytest.mark.parametrize("side", ["client", "backend"])
def test_bytes_of_either_side_keep_a_tunnel_alive(make_backend: MakeBackend, balance: Balance, side: str) -> None:
    ticks = 10
    pause = threading.Event()  # never set: time passing is what this is about

    def serve(connection: Connection) -> None:
        if side == "backend":
            for _ in range(ticks):
                connection.send(b".")
                pause.wait(0.15)
            connection.send(b"end")
        else:
            connection.send(connection.reader.exactly(ticks))

    headgate = balance(make_backend(switching(serve)), top=ALLOW_FOO, timeouts={"tunnel_idle": "1s"})
    with headgate.client() as client:
        assert upgrade(client).status == 101
        if side == "client":
            for _ in range(ticks):
                client.send(b".")
                pause.wait(0.15)
            assert client.reader.exactly(ticks) == b"." * ticks
        else:
            assert client.reader.exactly(ticks + 3) == b"." * ticks + b"end"


def test_other_timeouts_do_not_end_a_tunnel(make_backend: MakeBackend, balance: Balance) -> None:
    short = {"first_byte": "300ms", "body_idle": "300ms", "request": "300ms"}
    listener = {"timeouts": {"client_header": "300ms", "client_body": "300ms", "client_idle": "300ms"}}
    headgate = balance(make_backend(switching(shout)), top=ALLOW_FOO, timeouts=short, listener=listener)
    with headgate.client(timeout_s=1.0) as client:
        assert upgrade(client).status == 101
        with pytest.raises(TimeoutError):
            client.reader.exactly(1)
        client.send(b"alive")
        assert client.reader.exactly(5) == b"ALIVE"


WRONG_SWITCHES = {
    "nothing offered": ([], SWITCH),
    "not offered to this hop": ([("Upgrade", "foo")], SWITCH),
    "another one": (FOO, SWITCH.replace(b"foo", b"bar")),
    "one too many": (FOO, SWITCH.replace(b"foo", b"foo, bar")),
    "a longer one": (FOO, SWITCH.replace(b"foo", b"foobar")),
    "h2c": (FOO, SWITCH.replace(b"foo", b"h2c")),
    "which one?": (FOO, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    "not allowed, so not offered": ([("Connection", "upgrade"), ("Upgrade", "websocket")], SWITCH),
}


def test_a_switch_to_what_was_not_offered_is_502(make_backend: MakeBackend, balance: Balance) -> None:
    answers = [answer for _, answer in WRONG_SWITCHES.values()]
    ended = threading.Semaphore(0)

    def serve(connection: Connection) -> None:
        if connection.read() is not None:
            connection.send(answers[len(connection.backend.requests) - 1] + b"RAW")
            if connection.wait_ended():
                ended.release()

    headgate = balance(make_backend(serve), top=ALLOW_FOO, breaker=False)
    for name, (fields, _) in WRONG_SWITCHES.items():
        with headgate.client() as client:
            got = upgrade(client, fields)
            assert (got.status, got.json()["error"]) == (502, "Bad Gateway"), name
        assert b"RAW" not in client.received
        assert ended.acquire(timeout=PATIENCE_S)
    assert totals(headgate)["tunnels"] == 0


def test_tunnels_outlive_a_stop_until_the_drain_is_over(make_backend: MakeBackend, balance: Balance) -> None:
    backend: Backend = make_backend(switching(shout))
    headgate = balance(backend, top={**ALLOW_FOO, "supervisor": {"drain": "10s"}})
    with headgate.client() as client:
        assert upgrade(client).status == 101
        headgate.process.signal(signal.SIGTERM)
        eventually(lambda: not headgate.port.accepts(), "the listener to close")
        client.send(b"still here")
        assert client.reader.exactly(10) == b"STILL HERE"
        client.finish()
        assert client.reader.rest() == b"farewell"
        assert headgate.process.wait_exit(PATIENCE_S) == 0
