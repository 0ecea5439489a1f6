"""Bodies pass through as they come: large ones in constant memory, small pieces one by one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Balance, MakeBackend
from .harness import memory
from .harness.backends import Backend, Connection
from .harness.bulk import BLOCK, Digest, blocks
from .harness.client import Client, head
from .harness.headgate import Headgate
from .harness.waiting import PATIENCE_S, eventually
from .harness.wire import Incomplete

GIB = 1 << 30
GROWTH_LIMIT = 8 << 20


class Watch:
    """The largest resident memory of the worker while a transfer runs."""

    def __init__(self, headgate: Headgate) -> None:
        headgate.get()  # what one request needs is there before the measurement
        (self._worker,) = headgate.workers()
        self._before = memory.resident_bytes(self._worker)
        self._largest = self._before

    def look(self) -> None:
        self._largest = max(self._largest, memory.resident_bytes(self._worker))

    @property
    def growth(self) -> int:
        return self._largest - self._before


def receive_into(read: Callable[[memoryview], int], total: int, digest: Digest, watch: Watch | None = None) -> None:
    """Take `total` bytes from a socket, looking at the worker's memory now and then."""
    buffer = memoryview(bytearray(BLOCK))
    since_look = 0
    while digest.length < total:
        count = read(buffer[: min(BLOCK, total - digest.length)])
        if count == 0:
            return
        digest.add(buffer[:count])
        since_look += count
        if watch is not None and since_look >= 16 * BLOCK:
            watch.look()
            since_look = 0


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_gibibyte_down(make_backend: MakeBackend, balance: Balance, framing: str) -> None:
    # Chunked needs no second gibibyte: what differs is the framing of each block, not the length.
    total = GIB if framing == "content-length" else GIB // 4
    sent = Digest()

    def download(connection: Connection) -> None:
        for request in connection.each():
            if request.target == "/":
                connection.respond(b"small")
                continue
            if framing == "chunked":
                connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            else:
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            for block in blocks(total):
                # Added first: once the last block is on its way, the client compares.
                sent.add(block)
                connection.send(b"%x\r\n%b\r\n" % (BLOCK, block) if framing == "chunked" else block)
            if framing == "chunked":
                connection.send(b"0\r\n\r\n")

    headgate = balance(make_backend(download))
    watch = Watch(headgate)
    received = Digest()
    with headgate.client() as client:
        client.send(head("GET", "/large"))
        answer = client.reader.response_head()
        if framing == "chunked":
            assert answer.headers("transfer-encoding") == ["chunked"]
            while size := int(client.reader.line(), 16):
                received.add(client.reader.exactly(size))
                assert client.reader.exactly(2) == b"\r\n"
                watch.look()
        else:
            assert answer.headers("content-length") == [str(total)]
            received.add(client.reader.exactly(len(client.reader.pending)))
            receive_into(client.socket.recv_into, total, received, watch)
    assert received.length == total
    assert received == sent
    assert watch.growth < GROWTH_LIMIT


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_gibibyte_up(make_backend: MakeBackend, balance: Balance, framing: str) -> None:
    total = GIB if framing == "content-length" else GIB // 4
    received = Digest()

    def upload(connection: Connection) -> None:
        while (request := connection.read_head()) is not None:
            if request.method == "POST" and framing == "content-length":
                assert request.headers("content-length") == [str(total)]
                received.add(connection.reader.exactly(len(connection.reader.pending)))
                receive_into(connection.socket.recv_into, total, received)
            elif request.method == "POST":
                while size := int(connection.reader.line(), 16):
                    received.add(connection.reader.exactly(size))
                    assert connection.reader.exactly(2) == b"\r\n"
                connection.reader.fields()
            connection.respond(b"small")

    headgate = balance(make_backend(upload))
    watch = Watch(headgate)
    sent = Digest()
    with headgate.client() as client:
        chunked = framing == "chunked"
        field = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(total))
        client.send(head("POST", "/large", [field]))
        for block in blocks(total):
            client.send(b"%x\r\n%b\r\n" % (BLOCK, block) if chunked else block)
            sent.add(block)
            watch.look()
        client.send(b"0\r\n\r\n" if chunked else b"")
        assert client.response().body == b"small"
    assert received.length == total
    assert received == sent
    assert watch.growth < GROWTH_LIMIT


def event(client: Client) -> bytes:
    """The next event of a chunked stream: read until the blank line that ends it."""
    text = b""
    while not text.endswith(b"\n\n"):
        text += client.reader.exactly(int(client.reader.line(), 16))
        assert client.reader.exactly(2) == b"\r\n"
    return text


def test_server_sent_events_arrive_one_by_one(make_backend: MakeBackend, balance: Balance) -> None:
    heard = threading.Semaphore(0)  # the client has the event before

    def stream(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(20):
            text = b"data: %d\n\n" % number
            connection.send(b"%x\r\n%b\r\n" % (len(text), text))
            assert heard.acquire(timeout=PATIENCE_S), "the event did not arrive before the next was to be sent"
        connection.send(b"0\r\n\r\n")

    headgate = balance(make_backend(stream))
    with headgate.client() as client:
        client.send(head("GET", "/events"))
        assert client.reader.response_head().header("content-type") == "text/event-stream"
        for number in range(20):
            assert event(client) == b"data: %d\n\n" % number
            heard.release()
        assert client.reader.line() == b"0"


def test_a_response_without_length_streams_too(make_backend: MakeBackend, balance: Balance) -> None:
    heard = threading.Semaphore(0)

    def stream(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(5):
            connection.send(b"data: %d\n\n" % number)
            assert heard.acquire(timeout=PATIENCE_S)

    headgate = balance(make_backend(stream))
    with headgate.client() as client:
        client.send(head("GET", "/events"))
        assert client.reader.response_head().headers("transfer-encoding") == ["chunked"]
        for number in range(5):
            assert event(client) == b"data: %d\n\n" % number
            heard.release()
        assert client.reader.line() == b"0"


def test_an_upload_arrives_as_it_is_sent(make_backend: MakeBackend, balance: Balance) -> None:
    arrived = threading.Semaphore(0)

    def upload(connection: Connection) -> None:
        request = connection.read_head()
        assert request is not None
        for number in range(10):
            assert connection.reader.exactly(2) == b"%02d" % number
            arrived.release()
        connection.respond(b"done")

    headgate = balance(make_backend(upload))
    with headgate.client() as client:
        client.send(head("POST", "/", [("Content-Length", "20")]))
        for number in range(10):
            client.send(b"%02d" % number)
            assert arrived.acquire(timeout=PATIENCE_S)
        assert client.response().body == b"done"


def _largest(name: str) -> int:
    """The largest that the kernel makes a TCP socket's buffer by itself (tcp(7))."""
    return int(Path("/proc/sys/net/ipv4", name).read_text().split()[2])


def test_a_slow_reader_holds_up_the_backend_and_not_the_memory(make_backend: MakeBackend, balance: Balance) -> None:
    # What the kernel may hold for the balancer: what it received of the backend, and what it sends to the client. How
    # much of that it does hold depends on who is faster, so on the day.
    held = _largest("tcp_rmem") + _largest("tcp_wmem") + GROWTH_LIMIT
    total = -(-2 * held // BLOCK) * BLOCK
    progress = Digest()

    def download(connection: Connection) -> None:
        for request in connection.each():
            if request.target == "/":
                connection.respond(b"small")
                continue
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            for block in blocks(total):
                for start in range(0, BLOCK, 65536):
                    connection.send(block[start : start + 65536])
                    progress.add(block[start : start + 65536])

    headgate = balance(make_backend(download))
    watch = Watch(headgate)
    with headgate.client(receive_buffer=65536) as client:
        client.send(head("GET", "/large"))
        client.reader.response_head()
        # The client reads nothing. The backend comes to a halt once the sockets between are full.
        seen = -1

        def halted() -> bool:
            nonlocal seen
            before, seen = seen, progress.length
            return 0 < seen == before

        eventually(halted, "the backend to come to a halt", interval_s=0.3)
        assert progress.length < held
        watch.look()
        received = Digest()
        received.add(client.reader.exactly(len(client.reader.pending)))
        receive_into(client.socket.recv_into, total, received, watch)
    assert received.length == total
    assert watch.growth < GROWTH_LIMIT


def test_an_early_answer_reaches_a_client_that_still_sends(make_backend: MakeBackend, balance: Balance) -> None:
    def refuse(connection: Connection) -> None:
        if connection.read_head() is not None:
            connection.respond(b"too large", "413 Content Too Large", [("Connection", "close")])
            connection.socket.shutdown(socket.SHUT_WR)
            connection.wait_ended()

    headgate = balance(make_backend(refuse))
    with headgate.client() as client:
        client.send(head("POST", "/", [("Content-Length", str(64 * BLOCK))]) + b"x" * BLOCK)
        answer = client.response()
        assert (answer.status, answer.body) == (413, b"too large")


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_truncated_response_stays_visibly_truncated(
    make_backend: MakeBackend, balance: Balance, framing: str
) -> None:
    def truncate(connection: Connection) -> None:
        if connection.read() is not None:
            field, body = (
                (b"Content-Length: 100", b"hello")
                if framing == "content-length"
                else (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n")
            )
            connection.send(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n" + body)

    headgate = balance(make_backend(truncate))
    with headgate.client() as client:
        client.send(head("GET", "/"))
        with pytest.raises((Incomplete, ConnectionResetError)):
            client.response()
    assert b"hello" in client.received
    assert not client.received.endswith(b"0\r\n\r\n")


def test_a_client_that_leaves_takes_its_request_along(make_backend: MakeBackend, balance: Balance) -> None:
    ended = threading.Event()

    def hang(connection: Connection) -> None:
        connection.read()
        if connection.wait_ended():
            ended.set()

    backend: Backend = make_backend(hang)
    headgate = balance(backend)
    client = headgate.client()
    client.send(head("GET", "/slow"))
    backend.wait_requests(1)
    client.close()
    assert ended.wait(PATIENCE_S), "the attempt goes on though its client is gone"
    headgate.process.stdout.wait_for(r"/slow.*\b499\b")


def test_a_client_that_leaves_in_the_middle_of_its_upload(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend)
    with headgate.client() as client:
        client.send(head("POST", "/", [("Content-Length", "1000")]) + b"x" * 500)
        eventually(lambda: backend.connections and b"xxx" in backend.connections[0].received, "the part that was sent")
    eventually(lambda: backend.connections[0].error is not None, "the attempt to be given up")
    assert isinstance(backend.connections[0].error, Incomplete | ConnectionResetError)
    assert backend.requests == []
