"""The harness judges the balancer; here it is judged itself, without one."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from .conftest import MakeBackend
from .harness import memory
from .harness.backends import Backend, Connection, echo
from .harness.client import Client, fetch
from .harness.nginx import Nginx
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.waiting import eventually
from .harness.wire import Incomplete, Malformed, Reader, requests_in


def reader_of(data: bytes) -> Reader:
    parts = [data]
    return Reader(lambda: parts.pop() if parts else b"")


def test_a_chunked_response_is_read_to_its_end_and_no_further() -> None:
    reader = reader_of(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\nHTTP/1.1 204 No\r\n\r\n"
    )
    first, second = reader.response(), reader.response()
    assert (first.body, first.trailers, second.status) == (b"hello", [(b"X", b"y")], 204)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_the_reader_refuses_what_is_not_strict(data: bytes) -> None:
    with pytest.raises(Malformed):
        reader_of(data).request()


def test_a_truncated_body_is_incomplete_and_keeps_what_came() -> None:
    with pytest.raises(Incomplete) as caught:
        reader_of(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").response()
    assert caught.value.partial == b"hello"


def test_requests_are_counted_only_when_complete() -> None:
    complete = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    requests, error = requests_in(complete * 2 + b"POST /b HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort")
    assert [request.target for request in requests] == ["/a", "/a"]
    assert isinstance(error, Incomplete)


def test_a_scripted_backend_records_and_answers(make_backend: MakeBackend) -> None:
    backend = make_backend(echo)
    with Client(backend.port.address) as client:
        assert client.request("POST", "/x", [("X-A", "b")], b"hello").json()["body"] == "hello"
        assert client.get("/y").json()["target"] == "/y"
    assert [request.target for request in backend.requests] == ["/x", "/y"]
    assert bytes(backend.connections[0].received).startswith(b"POST /x HTTP/1.1\r\n")


def test_a_script_may_reset_the_connection(make_backend: MakeBackend) -> None:
    def reset(connection: Connection) -> None:
        connection.read()
        connection.reset()

    backend = make_backend(reset)
    with Client(backend.port.address) as client, pytest.raises(ConnectionResetError):
        client.get()


def test_a_mistake_in_a_script_fails_the_test() -> None:
    def broken(connection: Connection) -> None:
        raise KeyError("mistake")

    backend = Backend(broken)
    with Client(backend.port.address) as client:
        assert client.closed_by_peer()
    with pytest.raises(KeyError, match="mistake"):
        backend.close()


def test_a_held_port_survives_the_restart_of_its_server(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    with HeldPort() as port:
        assert not port.accepts()
        argv: list[str | Path] = [
            sys.executable,
            "-m",
            "http.server",
            "--bind",
            port.host,
            "--directory",
            tmp_path,
            str(port.number),
        ]
        for _ in range(2):
            server = processes.start(argv)
            eventually(port.accepts, "http.server to listen")
            assert fetch(port.address).body == b"hello"
            server.kill()
            assert not port.accepts()


def test_processes_are_heard_and_ended(processes: Processes) -> None:
    process = processes.start([sys.executable, "-c", "print('ready', flush=True); import signal; signal.pause()"])
    assert process.stdout.wait_for("^ready$") == ["ready"]
    assert memory.resident_bytes(process.pid) > 1 << 20
    assert memory.proportional_bytes(process.pid) <= memory.resident_bytes(process.pid) + (1 << 20)
    process.signal(signal.SIGTERM)
    assert process.wait_exit() == -signal.SIGTERM
    with pytest.raises(AssertionError, match="the program ended"):
        process.stdout.wait_for("never")


def test_nginx_counts_what_it_served(processes: Processes, tmp_path: Path) -> None:
    nginx = Nginx(processes, tmp_path, ["a", "b"])
    try:
        for _ in range(3):
            assert fetch(nginx.ports[0].address).body == b"a\n"
        assert fetch(nginx.ports[1].address).body == b"b\n"
        eventually(lambda: nginx.served() == {"a": 3, "b": 1}, "the log")
    finally:
        nginx.close()
