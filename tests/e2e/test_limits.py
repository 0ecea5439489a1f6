"""Every limit of the configuration, at its edge: what just fits passes, one more does not."""

from __future__ import annotations

import resource
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Connection
from .harness.client import Client, head
from .harness.headgate import Headgate
from .harness.waiting import PATIENCE_S, eventually
from .harness.wire import Incomplete

KIB = 1024


def status_of(headgate: Headgate, data: bytes) -> int:
    """The status of the answer to `data`, sent on a connection of its own; a refusal also closes it."""
    with headgate.client() as client:
        client.send(data)
        status = client.response().status
        if status != 200:
            assert client.closed_by_peer()
        return status


def head_of(size: int) -> bytes:
    """A request head of exactly this many bytes, no line of it longer than 1 KiB."""
    lines: list[tuple[str, str]] = []
    while (missing := size - len(head("GET", "/", lines))) > 0:
        value = min(missing, KIB + 200) - len("X: \r\n")
        if 0 < missing - value - 5 < 6:
            value -= 6
        lines.append(("X", "x" * value))
    made = head("GET", "/", lines)
    assert len(made) == size
    return made


@pytest.mark.parametrize("limit", [2 * KIB, 64 * KIB])
def test_head(make_backend: MakeBackend, balance: Balance, limit: int) -> None:
    backend = make_backend()
    headgate = balance(backend, listener={"limits": {"head": limit, "request_line": KIB}})
    assert status_of(headgate, head_of(limit - 1)) == 200
    assert len(backend.requests) == 1
    assert status_of(headgate, head_of(limit + 1)) == 431
    # Nor may the rest stay away: the limit holds without the end of the head.
    assert status_of(headgate, head_of(limit + 100)[: limit + 1]) == 431
    assert len(backend.requests) == 1


@pytest.mark.parametrize("limit", [5, 300])
def test_headers(make_backend: MakeBackend, balance: Balance, limit: int) -> None:
    headgate = balance(make_backend(), listener={"limits": {"headers": limit}})
    # One of them is Host.
    assert status_of(headgate, head("GET", "/", [("X", "y")] * (limit - 1))) == 200
    assert status_of(headgate, head("GET", "/", [("X", "y")] * limit)) == 431


def test_request_line(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), listener={"limits": {"request_line": "1KiB"}})
    around = len("GET / HTTP/1.1")
    assert status_of(headgate, head("GET", "/" + "a" * (KIB - around - 2))) == 200
    assert status_of(headgate, head("GET", "/" + "a" * (KIB - around + 1))) == 414
    # Without its end, too.
    assert status_of(headgate, b"GET /" + b"a" * KIB) == 414


def test_the_default_limits(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend())
    assert status_of(headgate, head_of(32 * KIB - 1)) == 200
    assert status_of(headgate, head_of(32 * KIB + 1)) == 431
    assert status_of(headgate, head("GET", "/", [("X", "y")] * 99)) == 200
    assert status_of(headgate, head("GET", "/", [("X", "y")] * 100)) == 431
    assert status_of(headgate, head("GET", "/" + "a" * (16 * KIB - 20))) == 200
    assert status_of(headgate, head("GET", "/" + "a" * (16 * KIB + 1))) == 414


def test_a_body_that_says_it_is_too_large(make_backend: MakeBackend, balance: Balance) -> None:
    """413 before anything is forwarded, or read of it."""
    backend = make_backend()
    headgate = balance(backend, listener={"limits": {"body": "10KiB"}})
    for size in [10 * KIB + 1, 1 << 40]:
        with headgate.client() as client:
            client.send(head("POST", "/", [("Content-Length", str(size))]))
            assert client.response().status == 413
            assert client.closed_by_peer()
    assert backend.connections == []
    assert status_of(headgate, head("POST", "/", [("Content-Length", str(10 * KIB))]) + b"x" * 10 * KIB) == 200


def test_a_body_too_large_is_not_invited(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, listener={"limits": {"body": "10KiB"}})
    with headgate.client() as client:
        client.send(head("POST", "/", [("Content-Length", "1000000"), ("Expect", "100-continue")]))
        assert client.response(interim=True).status == 413
    assert backend.connections == []


def test_the_413_reaches_a_client_that_goes_on_sending(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), listener={"limits": {"body": "10KiB"}})
    with headgate.client() as client:
        client.send(head("POST", "/", [("Content-Length", str(50 * KIB))]) + b"x" * 50 * KIB)
        assert client.response().status == 413


def chunked(sizes: list[int]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes)


def test_a_chunked_body_at_the_limit(make_backend: MakeBackend, balance: Balance) -> None:
    limit = 500
    backend = make_backend()
    headgate = balance(backend, listener={"limits": {"body": limit}})
    start = head("POST", "/", [("Transfer-Encoding", "chunked")])
    for count, piece in enumerate([1, 100, limit], 1):
        sizes = [piece] * (limit // piece)
        assert status_of(headgate, start + chunked(sizes) + b"0\r\n\r\n") == 200
        assert status_of(headgate, start + chunked([*sizes, 1]) + b"0\r\n\r\n") == 413
        # Of what is refused the backend has seen no end.
        assert [len(request.body) for request in backend.requests] == [limit] * count


def test_a_chunked_body_is_cut_when_it_exceeds(make_backend: MakeBackend, balance: Balance) -> None:
    """The backend has some of it already, and must not take that for the whole."""
    got = threading.Event()

    def upload(connection: Connection) -> None:
        if connection.read_head() is not None:
            assert connection.reader.line() == b"1000"
            connection.reader.exactly(4096)
            got.set()
            connection.reader.exactly(2)
            connection.reader.line()
            raise AssertionError("more than the limit was forwarded")

    backend = make_backend(upload)
    headgate = balance(backend, listener={"limits": {"body": 6000}})
    with headgate.client() as client:
        client.send(head("POST", "/", [("Transfer-Encoding", "chunked")]) + chunked([4096]))
        assert got.wait(PATIENCE_S)
        client.send(chunked([4096]))
        assert client.response().status == 413
        assert client.closed_by_peer()
    eventually(lambda: backend.connections[0].error is not None, "the attempt to be given up")
    assert isinstance(backend.connections[0].error, Incomplete | ConnectionResetError)
    assert headgate.backend(backend.url)["failed"] == 0
    headgate.process.stdout.wait_for(r"\b413\b.*body_too_large")


def test_a_body_too_large_by_far_in_one_chunk(make_backend: MakeBackend, balance: Balance) -> None:
    """The size line alone is no promise to trust, nor is it waited for to come true."""
    headgate = balance(make_backend(), listener={"limits": {"body": "10KiB"}})
    with headgate.client() as client:
        client.send(head("POST", "/", [("Transfer-Encoding", "chunked")]) + b"fffffff\r\n" + b"x" * 11 * KIB)
        assert client.response().status == 413


def test_a_route_has_a_limit_of_its_own(make_backend: MakeBackend, balance: Balance) -> None:
    routes = [
        {"pool": "web"},
        {"pool": "web", "path_prefix": "/small", "limits": {"body": 10}},
        {"pool": "web", "path_prefix": "/large", "limits": {"body": "1MiB"}},
        {"pool": "web", "path_prefix": "/any", "limits": {"body": "off"}},
    ]
    headgate = balance(make_backend(), listener={"limits": {"body": KIB}}, top={"routes": routes})

    def post(target: str, size: int, framing: str, expected: int) -> None:
        if framing == "chunked":
            field, body = ("Transfer-Encoding", "chunked"), chunked([size]) + b"0\r\n\r\n"
        else:
            # Of a body that is refused before it is read, the balancer drains only so much (64 KiB).
            field, body = ("Content-Length", str(size)), b"x" * (size if expected == 200 else 0)
        status = status_of(headgate, head("POST", target, [field]) + body)
        assert status == expected, (target, size, framing)

    for framing in ["length", "chunked"]:
        for target, limit in [("/", KIB), ("/small", 10), ("/large", 1 << 20)]:
            post(target, limit, framing, 200)
            post(target, limit + 1, framing, 413)
        post("/any", 3 << 20, framing, 200)


def refused(client: Client) -> bool:
    """The balancer closes the connection without an answer, instead of serving a request."""
    try:
        client.send(head("GET", "/"))
        if client.closed_by_peer():
            return True
        assert client.response().status == 200
        return False
    except OSError:
        return True


def totals(headgate: Headgate) -> dict[str, Any]:
    """The totals of the status page; asked again while the connection of whoever asked before takes the last place."""

    def page() -> dict[str, Any] | None:
        try:
            with headgate.client(source=("127.0.0.99", 0)) as client:
                found = client.get("/lb/status").json()["totals"]
        except (OSError, Incomplete):
            return None
        assert isinstance(found, dict)
        return found

    return eventually(page, "the status page") or {}


def connections(headgate: Headgate) -> int:
    """Open client connections, without the one that asks."""
    count = totals(headgate)["connections"]
    assert isinstance(count, int)
    return count - 1


def test_max_connections(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), listener={"max_connections": 4})
    # Those that asked whether the listener is open are still being forgotten.
    eventually(lambda: connections(headgate) == 0, "the first connections to end")
    with ExitStack() as exits:
        clients = [exits.enter_context(headgate.client()) for _ in range(3)]
        assert [client.get().status for client in clients] == [200] * 3
        eventually(lambda: connections(headgate) == 3, "three connections")  # asked by the fourth

        def place() -> bool:
            client = exits.enter_context(headgate.client())
            if refused(client):
                return False
            clients.append(client)
            return True

        eventually(place, "the fourth place")
        for _ in range(3):
            with headgate.client() as one_more:
                assert refused(one_more)
        # The others are none the worse, and a place that frees can be taken.
        assert [client.get().status for client in clients] == [200] * 4
        clients.pop().close()
        eventually(place, "the place to be free")
        clients.pop().close()

        def told() -> bool:
            try:
                return bool(totals(headgate)["refusedConnections"] >= 3)
            except (ConnectionError, EOFError):
                return False  # refused as well: the closed connection is still being forgotten

        eventually(told, "the refusals to be counted")


def test_max_connections_per_client(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), listener={"max_connections_per_client": 2})
    eventually(lambda: connections(headgate) == 0, "the first connections to end")
    with ExitStack() as exits:

        def dial(source: str) -> Client:
            return exits.enter_context(headgate.client(source=(source, 0)))

        mine = [dial("127.0.0.1") for _ in range(2)]
        assert [client.get().status for client in mine] == [200] * 2
        assert refused(dial("127.0.0.1"))
        # Another client's connections are its own affair.
        theirs = [dial("127.0.0.2") for _ in range(2)]
        assert [client.get().status for client in theirs] == [200] * 2
        assert refused(dial("127.0.0.2"))
        mine.pop().close()
        eventually(lambda: connections(headgate) == 3, "the connection to end")
        mine.append(dial("127.0.0.1"))
        assert [client.get().status for client in mine + theirs] == [200] * 4
        assert refused(dial("127.0.0.1"))


def test_the_limit_is_on_connections_not_on_requests(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), listener={"max_connections": 2, "max_connections_per_client": 2})
    eventually(lambda: connections(headgate) == 0, "the first connections to end")
    with headgate.client() as client:
        assert [client.get().status for _ in range(10)] == [200] * 10
    for _ in range(10):
        eventually(lambda: connections(headgate) == 0, "the connection to end")
        assert headgate.get().status == 200


def test_the_operator_is_told_when_descriptors_run_out(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend())
    (worker,) = headgate.workers()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        idle = stack.enter_context(headgate.client())
        assert idle.get("/lb/status").status == 200  # accepted for certain, and without a connection to the backend
        # Nothing new can be opened, whatever is open already.
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (1, before[1]))
        answer = idle.get()
        assert (answer.status, answer.json()["reason"]) == (503, "local_resource")
        assert idle.get().status == 503
        headgate.process.stderr.wait_for("warning .*out of open files")  # by accept or by connect, whichever was first
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
        assert idle.get().status == 200
    assert len(headgate.process.stderr.matching("out of open files")) == 1
