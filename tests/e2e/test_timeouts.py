"""Every timeout of the configuration: it fires within its time, says so, and blames the right side."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Backend, Connection
from .harness.bulk import BLOCK
from .harness.client import head
from .harness.headgate import Headgate
from .harness.ports import HeldPort
from .harness.waiting import PATIENCE_S, eventually
from .harness.wire import Incomplete

LATE_S = 2.5  # how much later than its time a timeout may fire on a busy machine
SHORT_S = 0.4
SHORT = "400ms"


@contextlib.contextmanager
def lasting(least_s: float) -> Iterator[None]:
    """What happens inside takes at least `least_s`, and not much longer."""
    began = time.monotonic()
    yield
    took_s = time.monotonic() - began
    assert least_s * 0.9 < took_s < least_s + LATE_S, f"took {took_s:.2f} s"


def pause(seconds: float) -> None:
    """Let time pass, where time passing is what a test is about."""
    threading.Event().wait(seconds)


def hang(connection: Connection) -> None:
    """Takes requests and never answers."""
    connection.read()
    connection.wait_ended()


def blamed(headgate: Headgate, backend: Backend) -> int:
    count = headgate.backend(backend.url)["failed"]
    assert isinstance(count, int)
    return count


# -- the client's ------------------------------------------------------------------------------------------------


def test_client_header_against_slowloris(make_backend: MakeBackend, balance: Balance) -> None:
    """A byte now and then does not buy time: the head is held to one time from its first byte on."""
    backend = make_backend()
    headgate = balance(backend, listener={"timeouts": {"client_header": SHORT}})
    with headgate.client() as client, lasting(SHORT_S):
        client.socket.setblocking(False)
        for byte in head("GET", "/", [("X-Long", "x" * 200)]):
            with contextlib.suppress(BlockingIOError):
                if client.socket.recv(1, socket.MSG_PEEK):
                    break
            client.send(bytes([byte]))
            pause(0.02)
        client.socket.settimeout(PATIENCE_S)
        assert client.response().status == 408
        assert client.closed_by_peer()
    assert backend.requests == []


def test_client_header_of_a_connection_that_says_nothing(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), listener={"timeouts": {"client_header": SHORT}})
    with headgate.client() as client, lasting(SHORT_S):
        assert client.closed_by_peer()


def test_client_header_of_a_later_request(make_backend: MakeBackend, balance: Balance) -> None:
    """Its time begins with its own first byte, not with the connection."""
    headgate = balance(make_backend(), listener={"timeouts": {"client_header": SHORT}})
    with headgate.client() as client:
        for _ in range(2):
            assert client.get().status == 200
            pause(SHORT_S * 1.5)
        with lasting(SHORT_S):
            client.send(b"GET / HTTP/1.1\r\n")
            assert client.response().status == 408


def test_client_body(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, listener={"timeouts": {"client_body": SHORT}})
    framings = [("Content-Length", "10"), ("Transfer-Encoding", "chunked")]
    starts = [head("POST", "/", [framing]) + sent for framing in framings for sent in (b"", b"5\r\nhe")]
    with contextlib.ExitStack() as exits, lasting(SHORT_S):
        clients = [exits.enter_context(headgate.client()) for _ in starts]
        for client, start in zip(clients, starts, strict=True):
            client.send(start)
        for client in clients:
            assert client.response().status == 408
            assert client.closed_by_peer()
    # The backend saw requests that visibly ended too early, and is not to blame.
    eventually(lambda: len(backend.connections) == len(starts), "the attempts")
    for connection in backend.connections:
        eventually(lambda one=connection: one.error is not None, "the attempt to be given up")  # type: ignore[misc]
        assert isinstance(connection.error, Incomplete | ConnectionResetError)
    assert backend.requests == []
    assert blamed(headgate, backend) == 0


def test_client_body_counts_from_byte_to_byte(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, listener={"timeouts": {"client_body": SHORT}})
    with headgate.client() as client, lasting(SHORT_S * 2):
        client.send(head("POST", "/", [("Content-Length", "8")]))
        for _ in range(8):
            pause(SHORT_S / 4)
            client.send(b"x")
        assert client.response().status == 200
    assert backend.requests[0].body == b"x" * 8


def test_a_client_that_sends_no_body_is_not_the_backends_fault(make_backend: MakeBackend, balance: Balance) -> None:
    """Else anybody could have backends ejected by sending heads."""
    backend = make_backend()
    headgate = balance(backend, listener={"timeouts": {"client_body": "800ms"}}, timeouts={"first_byte": "300ms"})
    with headgate.client() as client, lasting(0.8):
        client.send(head("POST", "/", [("Content-Length", "8")]))
        assert client.response().status == 408
    assert blamed(headgate, backend) == 0


def test_client_idle(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), listener={"timeouts": {"client_idle": SHORT}})
    with headgate.client() as client:
        for _ in range(4):
            assert client.get().status == 200
            pause(SHORT_S / 3)
        assert client.get().status == 200
        with lasting(SHORT_S):
            assert client.closed_by_peer()


def test_client_idle_is_not_for_requests_in_flight(make_backend: MakeBackend, balance: Balance) -> None:
    def slow(connection: Connection) -> None:
        for _ in connection.each():
            pause(SHORT_S * 2)
            connection.respond(b"late")

    listener = {"timeouts": {"client_idle": SHORT, "client_header": SHORT, "client_body": SHORT}}
    headgate = balance(make_backend(slow), listener=listener)
    with headgate.client() as client:
        assert client.get().status == 200
        assert client.request("POST", "/", body=b"hello").status == 200


def flood(connection: Connection) -> None:
    """Answers with 64 MiB, and with a few bytes to /small."""
    for request in connection.each():
        if request.target == "/small":
            connection.respond(b"small")
            continue
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * BLOCK))
        for _ in range(64):
            connection.send(b"x" * BLOCK)


def test_client_write(make_backend: MakeBackend, balance: Balance) -> None:
    """A client that reads nothing is given up, and its attempt with it."""
    backend = make_backend(flood)
    headgate = balance(backend, listener={"timeouts": {"client_write": SHORT}})
    with headgate.client(receive_buffer=65536) as client:
        client.send(head("GET", "/flood"))
        began = time.monotonic()
        headgate.process.stdout.wait_for(r"/flood.*slow_client")
        assert SHORT_S * 0.9 < time.monotonic() - began < SHORT_S + LATE_S
        with pytest.raises((ConnectionResetError, Incomplete)):
            client.response()
        assert blamed(headgate, backend) == 0
    # Its thread sends, so it sees the end when a send fails: that may be a moment later.
    connection = backend.connections[0]
    eventually(lambda: connection.ended.is_set() or connection.error is not None, "the attempt to be given up")


def test_client_write_lets_a_slow_reader_live(make_backend: MakeBackend, balance: Balance) -> None:
    """Nor does the backend's own time run while the client is what holds things up."""
    headgate = balance(
        make_backend(flood), listener={"timeouts": {"client_write": "1500ms"}}, timeouts={"body_idle": "300ms"}
    )
    with headgate.client(receive_buffer=65536) as client:
        client.send(head("GET", "/"))
        client.reader.response_head()
        taken = len(client.reader.exactly(len(client.reader.pending)))
        for _ in range(4):
            pause(0.6)
            taken += len(client.socket.recv(4 * BLOCK, socket.MSG_WAITALL))
        while taken < 64 * BLOCK and (data := client.socket.recv(BLOCK)):
            taken += len(data)
        assert taken == 64 * BLOCK


# -- the backend's -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def nobody_accepts() -> Iterator[HeldPort]:
    """A port whose queue is full: to connect there takes for ever."""
    with HeldPort() as port, contextlib.ExitStack() as exits:
        exits.enter_context(port.listen(backlog=0))
        while True:
            filler = exits.enter_context(socket.socket())
            filler.settimeout(0.2)
            if filler.connect_ex(port.address) != 0:
                break
        yield port


def test_connect(balance: Balance) -> None:
    with nobody_accepts() as full:
        headgate = balance(full.url, timeouts={"connect": SHORT})
        with lasting(SHORT_S):
            answer = headgate.get()
        assert (answer.status, answer.json()["reason"]) == (504, "connect_timeout")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_connect_is_tried_elsewhere(make_backend: MakeBackend, balance: Balance, method: str) -> None:
    alive = make_backend()
    with nobody_accepts() as full:
        headgate = balance(full.url, alive, timeouts={"connect": SHORT}, breaker=False)
        with headgate.client() as client, lasting(SHORT_S):
            for _ in range(2):  # round robin: one of them meets the full queue first
                answer = client.request(method, "/", body=b"hello")
                assert (answer.status, answer.body) == (200, b"backend")
    assert [request.body for request in alive.requests] == [b"hello"] * 2


def test_first_byte(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(hang)
    headgate = balance(backend, timeouts={"first_byte": SHORT})
    with lasting(SHORT_S):
        answer = headgate.get()
    assert (answer.status, answer.json()["reason"]) == (504, "first_byte_timeout")
    assert backend.connections[0].ended.wait(PATIENCE_S)
    assert blamed(headgate, backend) == 1


def test_first_byte_is_tried_elsewhere_for_get_only(make_backend: MakeBackend, balance: Balance) -> None:
    silent, alive = make_backend(hang, "silent"), make_backend(name="alive")
    headgate = balance(silent, alive, timeouts={"first_byte": SHORT}, breaker=False)
    with lasting(SHORT_S):
        assert [headgate.get().body for _ in range(2)] == [b"alive", b"alive"]
    with headgate.client() as client, lasting(SHORT_S):
        statuses = [client.request("POST", "/", body=b"once").status for _ in range(2)]
    assert sorted(statuses) == [200, 504]
    assert [request.body for request in alive.requests if request.method == "POST"] == [b"once"]


def test_first_byte_does_not_run_during_an_upload(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), timeouts={"first_byte": SHORT})
    with headgate.client() as client, lasting(SHORT_S * 3):
        client.send(head("POST", "/", [("Content-Length", "2")]))
        for _ in range(2):
            pause(SHORT_S * 1.5)
            client.send(b"x")
        assert client.response().status == 200


def test_first_byte_runs_when_the_backend_takes_no_body(make_backend: MakeBackend, balance: Balance) -> None:
    done = threading.Event()

    def deaf(connection: Connection) -> None:
        connection.read_head()
        done.wait(PATIENCE_S)

    backend = make_backend(deaf)
    headgate = balance(backend, timeouts={"first_byte": "1s"}, listener={"timeouts": {"client_body": "30s"}})
    with headgate.client() as client:
        client.send(head("POST", "/", [("Content-Length", str(64 * BLOCK))]))

        def pour() -> None:
            with contextlib.suppress(OSError):
                for _ in range(64):
                    client.send(b"x" * BLOCK)

        sender = threading.Thread(target=pour)
        sender.start()
        try:
            assert client.response().status == 504
        finally:
            done.set()
            client.close()
            sender.join(PATIENCE_S)
    headgate.process.stdout.wait_for(r"first_byte_timeout")


def test_body_idle(make_backend: MakeBackend, balance: Balance) -> None:
    """The answer stops, and the client can see that it is not whole, whatever frames it on either side."""

    def stall(connection: Connection) -> None:
        if (request := connection.read()) is not None:
            framing, body = {
                "/length": ("Content-Length: 100", b"hello"),
                "/chunked": ("Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
                "/close": ("Connection: close", b"hello"),
            }[request.target]
            connection.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + body)
            connection.wait_ended()

    backend = make_backend(stall)
    headgate = balance(backend, timeouts={"body_idle": SHORT}, breaker=False)
    asked = [(target, version) for target in ("/length", "/chunked", "/close") for version in ("1.0", "1.1")]
    with contextlib.ExitStack() as exits, lasting(SHORT_S):
        clients = [exits.enter_context(headgate.client()) for _ in asked]
        for client, (target, version) in zip(clients, asked, strict=True):
            client.send(f"GET {target} HTTP/{version}\r\nHost: h\r\n\r\n".encode())
        for client, what in zip(clients, asked, strict=True):
            with pytest.raises((Incomplete, ConnectionResetError)):
                client.response()
            assert b"hello" in client.received, what
    headgate.process.stdout.wait_for("body_timeout", count=len(asked))
    assert blamed(headgate, backend) == len(asked)


def test_body_idle_counts_from_byte_to_byte(make_backend: MakeBackend, balance: Balance) -> None:
    def trickle(connection: Connection) -> None:
        if connection.read() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
            for _ in range(6):
                pause(SHORT_S / 3)
                connection.send(b"x")

    headgate = balance(make_backend(trickle), timeouts={"body_idle": SHORT})
    with lasting(SHORT_S * 2):
        assert headgate.get().body == b"x" * 6


def test_request_before_an_answer(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(hang)
    headgate = balance(backend, timeouts={"request": SHORT})
    with lasting(SHORT_S):
        answer = headgate.get()
    assert (answer.status, answer.json()["reason"]) == (504, "request_timeout")
    assert backend.connections[0].ended.wait(PATIENCE_S)


def test_request_includes_its_retries(make_backend: MakeBackend, balance: Balance) -> None:
    backends = [make_backend(hang, name) for name in "abc"]
    headgate = balance(*backends, timeouts={"request": "600ms", "first_byte": SHORT}, breaker=False)
    with lasting(0.6):
        answer = headgate.get()
    assert (answer.status, answer.json()["reason"]) == (504, "request_timeout")
    assert sum(len(backend.requests) for backend in backends) == 2


def test_request_during_an_upload(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), timeouts={"request": SHORT})
    with headgate.client() as client, lasting(SHORT_S):
        client.send(head("POST", "/", [("Content-Length", "1000")]) + b"x")
        assert client.response().status == 504
        assert client.closed_by_peer()


def test_request_during_an_answer(make_backend: MakeBackend, balance: Balance) -> None:
    def endless(connection: Connection) -> None:
        if connection.read() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not connection.ended.wait(0.05):
                connection.send(b"1\r\nx\r\n")

    headgate = balance(make_backend(endless), timeouts={"request": SHORT})
    with headgate.client() as client, lasting(SHORT_S):
        client.send(head("GET", "/"))
        with pytest.raises((Incomplete, ConnectionResetError)):
            client.response()
    assert b"1\r\nx\r\n" in client.received


def test_keepalive(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, timeouts={"keepalive": SHORT})
    for _ in range(4):
        assert headgate.get().status == 200
        pause(SHORT_S / 3)
    assert headgate.get().status == 200
    (connection,) = backend.used_connections()  # reused each time, for longer than SHORT in all
    with lasting(SHORT_S):
        assert connection.ended.wait(PATIENCE_S)
    assert headgate.backend(backend.url)["idleConnections"] == 0
    assert headgate.get().status == 200
    assert len(backend.used_connections()) == 2


def test_a_route_has_timeouts_of_its_own(make_backend: MakeBackend, balance: Balance) -> None:
    def late(connection: Connection) -> None:
        for _ in connection.each():
            pause(SHORT_S * 2)
            connection.respond(b"late")

    routes = [
        {"pool": "web"},
        {"pool": "web", "path_prefix": "/short", "timeouts": {"first_byte": SHORT}},
        {"pool": "web", "path_prefix": "/whole", "timeouts": {"request": SHORT}},
    ]
    headgate = balance(make_backend(late), top={"routes": routes}, breaker=False, timeouts={"first_byte": "off"})
    assert headgate.get("/").status == 200
    assert headgate.get("/short").json()["reason"] == "first_byte_timeout"
    assert headgate.get("/whole").json()["reason"] == "request_timeout"


def test_a_client_after_a_timeout_is_served_as_before(make_backend: MakeBackend, balance: Balance) -> None:
    """A 504 ends the attempt, not the client's connection."""

    def first_hangs(connection: Connection) -> None:
        for request in connection.each():
            if request.target == "/hang":
                connection.wait_ended()
                return
            connection.respond(b"quick")

    headgate = balance(make_backend(first_hangs), timeouts={"first_byte": SHORT})
    with headgate.client() as client:
        assert client.get("/hang").status == 504
        assert client.get("/").body == b"quick"
