"""HTTP/1.1 as clients and backends see it: framing, methods, connections, fields."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from .conftest import Balance, MakeBackend, Run
from .harness.backends import Backend, Connection, Script, UnixDoor, echo
from .harness.client import Client, fetch, head
from .harness.headgate import Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.waiting import PATIENCE_S, eventually
from .harness.wire import Response


def field(answer: Response, name: str) -> list[str]:
    """The values of a field as the echoing backend saw it."""
    return [value for key, value in answer.json()["fields"] if key.lower() == name]


@pytest.fixture
def echoing(make_backend: MakeBackend, balance: Balance) -> Headgate:
    """A balancer over one backend that answers with what it saw."""
    return balance(make_backend(echo))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_methods_and_bodies_pass(echoing: Headgate, method: str) -> None:
    with echoing.client() as client:
        seen = client.request(method, "/a/b?c=d%20e", body=b"hello").json()
    assert (seen["method"], seen["target"], seen["body"]) == (method, "/a/b?c=d%20e", "hello")


def test_the_request_says_who_calls(echoing: Headgate) -> None:
    answer = echoing.get()
    host = "h.example"
    assert field(answer, "host") == [host]
    assert field(answer, "x-forwarded-for") == ["127.0.0.1"]
    assert field(answer, "x-real-ip") == ["127.0.0.1"]
    assert field(answer, "x-forwarded-proto") == ["http"]
    assert field(answer, "x-forwarded-host") == [host]
    assert len(field(answer, "x-request-id")) == 1
    assert "headgate" in field(answer, "via")[0]


def test_an_untrusted_client_cannot_say_who_it_is(echoing: Headgate) -> None:
    lies = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=6.6.6.6"),
    ]
    answer = echoing.get(headers=[*lies, ("X-Request-ID", "mine"), ("X-Forwarded-Host", "evil.example")])
    assert field(answer, "x-forwarded-for") == ["127.0.0.1"]
    assert field(answer, "x-real-ip") == ["127.0.0.1"]
    assert field(answer, "x-forwarded-proto") == ["http"]
    assert field(answer, "x-forwarded-host") == ["h.example"]
    assert field(answer, "x-request-id") != ["mine"]
    assert "6.6.6.6" not in answer.body.decode()


def test_a_trusted_proxy_is_believed(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(echo), listener={"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]})
    chain = [
        ("X-Forwarded-For", "6.6.6.6, 1.2.3.4, 10.0.0.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-ID", "theirs"),
    ]
    answer = headgate.get(headers=chain)
    assert ", ".join(field(answer, "x-forwarded-for")).replace(" ", "") == "6.6.6.6,1.2.3.4,10.0.0.9,127.0.0.1"
    # The client is the rightmost address that is not itself a trusted proxy.
    assert field(answer, "x-real-ip") == ["1.2.3.4"]
    assert field(answer, "x-forwarded-proto") == ["https"]
    assert field(answer, "x-request-id") == ["theirs"]
    headgate.process.stdout.wait_for(r"1\.2\.3\.4")


def test_hop_by_hop_fields_end_here(echoing: Headgate) -> None:
    fields = [("Connection", "keep-alive, X-Mine"), ("X-Mine", "1"), ("Keep-Alive", "timeout=5"), ("X-Other", "2")]
    with echoing.client() as client:
        answer = client.get(headers=fields)
    assert (field(answer, "x-mine"), field(answer, "keep-alive"), field(answer, "x-other")) == ([], [], ["2"])


def test_backend_connections_are_reused(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend)
    for _ in range(20):
        assert headgate.get().status == 200
    assert len(backend.requests) == 20
    assert len(backend.used_connections()) == 1


def test_a_client_connection_is_reused(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three)
    assert sorted(headgate.names(6)) == sorted("abcabc")


def test_pipelined_requests_are_answered_in_order(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(echo, "a"), make_backend(echo, "b"))
    with headgate.client() as client:
        client.send(b"".join(head("GET", f"/{n}") for n in range(30)))
        assert [client.response().json()["target"] for _ in range(30)] == [f"/{n}" for n in range(30)]


def test_a_pipelined_post_and_its_follower(echoing: Headgate) -> None:
    with echoing.client() as client:
        client.send(head("POST", "/first", [("Content-Length", "5")]) + b"hello" + head("GET", "/second"))
        assert client.response().json()["body"] == "hello"
        assert client.response().json()["target"] == "/second"


def test_a_request_that_arrives_byte_by_byte(echoing: Headgate) -> None:
    with echoing.client() as client:
        for byte in head("POST", "/slow", [("Transfer-Encoding", "chunked")]) + b"5\r\nhello\r\n0\r\n\r\n":
            client.send(bytes([byte]))
        assert client.response().json()["body"] == "hello"


@pytest.mark.parametrize("pieces", [[b"hello"], [b"hel", b"lo"], [b"x" * 100_000, b"y" * 100_000]])
def test_chunked_uploads(echoing: Headgate, pieces: list[bytes]) -> None:
    with echoing.client() as client:
        client.send(head("POST", "/", [("Transfer-Encoding", "chunked")]))
        for piece in pieces:
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        answer = client.response()
        assert answer.json()["body"] == b"".join(pieces).decode()
        assert client.get("/next").json()["target"] == "/next"


def answer_with(data: bytes, close: bool = False) -> Script:
    """A script that answers every request with the same bytes."""

    def answer(connection: Connection) -> None:
        for _ in connection.each():
            connection.send(data)
            if close:
                return

    return answer


def test_chunked_responses(make_backend: MakeBackend, balance: Balance) -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: t\r\n\r\n"
    )
    headgate = balance(make_backend(answer_with(data)))
    with headgate.client() as client:
        for _ in range(2):
            answer = client.get()
            assert (answer.body, answer.headers("transfer-encoding"), answer.closed) == (b"hello", ["chunked"], False)


def test_a_response_ended_by_close_is_framed_for_the_client(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(answer_with(b"HTTP/1.1 200 OK\r\n\r\nhello", close=True)))
    with headgate.client() as client:
        for _ in range(2):
            answer = client.get()
            assert (answer.body, answer.closed) == (b"hello", False)


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (204, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (304, b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n'),
    ],
)
def test_responses_without_body(make_backend: MakeBackend, balance: Balance, status: int, data: bytes) -> None:
    headgate = balance(make_backend(answer_with(data)))
    with headgate.client() as client:
        for _ in range(3):
            assert client.get().status == status
        assert client.reader.pending == b""


def test_head_has_the_length_and_no_body(make_backend: MakeBackend, balance: Balance) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
    backend = make_backend(answer_with(data))
    headgate = balance(backend)
    with headgate.client() as client:
        for _ in range(3):
            answer = client.request("HEAD", "/")
            assert (answer.status, answer.header("content-length")) == (200, "1234")
        assert client.reader.pending == b""
    assert len(backend.used_connections()) == 1


def test_interim_responses_are_passed_on(make_backend: MakeBackend, balance: Balance) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    headgate = balance(make_backend(answer_with(hints + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
    with headgate.client() as client:
        client.send(head("GET", "/"))
        assert client.response(interim=True).status == 103
        assert client.response(interim=True).status == 200


def test_expect_100_continue(make_backend: MakeBackend, balance: Balance) -> None:
    def patient(connection: Connection) -> None:
        request = connection.read_head()
        if request is None:
            return
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.respond(connection.read_body(request))

    headgate = balance(make_backend(patient))
    with headgate.client() as client:
        client.send(head("POST", "/", [("Expect", "100-continue"), ("Content-Length", "5")]))
        assert client.response(interim=True).status == 100
        client.send(b"hello")
        assert client.response().body == b"hello"


@pytest.mark.parametrize(("connection", "stays"), [("close", False), ("keep-alive", True)])
def test_an_http10_client(make_backend: MakeBackend, balance: Balance, connection: str, stays: bool) -> None:
    # The answer's length is not known in advance, and a client of HTTP/1.0 knows no chunks: only the end can tell.
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    backend = make_backend(answer_with(data))
    headgate = balance(backend)
    with headgate.client() as client:
        client.send(f"GET / HTTP/1.0\r\nConnection: {connection}\r\n\r\n".encode())
        answer = client.response()
        assert (answer.body, answer.closed, answer.headers("transfer-encoding")) == (b"hello", True, [])
    (request,) = backend.requests
    assert request.start_line.endswith(b"HTTP/1.1")
    assert len(request.headers("host")) == 1

    backend.script = answer_with(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    backend.stop()
    backend.start()
    with headgate.client() as client:
        client.send(f"GET / HTTP/1.0\r\nHost: h\r\nConnection: {connection}\r\n\r\n".encode())
        assert client.response().body == b"hello"
        if stays:
            client.send(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
            assert client.response().body == b"hello"
        assert client.closed_by_peer()


def test_connection_close_is_obeyed(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three)
    with headgate.client() as client:
        answer = client.get(headers=[("Connection", "close")])
        assert "close" in answer.list_header("connection")
        assert client.closed_by_peer()


def test_an_idle_client_is_closed(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, listener={"timeouts": {"client_idle": "300ms"}})
    with headgate.client() as client:
        assert client.get().status == 200
        assert client.closed_by_peer()


def test_a_client_that_sends_no_complete_head_is_closed(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, listener={"timeouts": {"client_header": "300ms"}})
    with headgate.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h")
        assert client.response().status == 408
        assert client.closed_by_peer()


def test_a_unix_socket_on_both_sides(make_backend: MakeBackend, run: Run, port: HeldPort, tmp_path: Path) -> None:
    listener, application = tmp_path / "headgate.sock", tmp_path / "app.sock"
    backend = make_backend(echo)
    # The backend serves on a TCP port; this passes connections on from a unix socket.
    with UnixDoor(application, backend):
        config = configuration(port, {"web": pool(f"unix:{application}")})
        listeners = config["listeners"]
        assert isinstance(listeners, list)
        run({**config, "listeners": [*listeners, {"bind": f"unix:{listener}"}]})
        assert fetch(str(listener), "/over-unix").json()["target"] == "/over-unix"


def test_half_close_is_a_farewell_unless_allowed(make_backend: MakeBackend, balance: Balance) -> None:
    gone = threading.Event()

    def slow(connection: Connection) -> None:
        if connection.read() is not None and connection.wait_ended():
            gone.set()

    backend = make_backend(slow)
    headgate = balance(backend)
    with headgate.client() as client:
        client.send(head("GET", "/"))
        backend.wait_requests(1)
        client.finish()
        assert gone.wait(PATIENCE_S)


def test_half_close_where_it_is_allowed(make_backend: MakeBackend, balance: Balance) -> None:
    finished = threading.Event()

    def slow(connection: Connection) -> None:
        if connection.read() is not None:
            assert finished.wait(PATIENCE_S)
            connection.respond(b"late")

    backend = make_backend(slow)
    headgate = balance(backend, listener={"allow_half_close": True})
    with headgate.client() as client:
        client.send(head("GET", "/"))
        backend.wait_requests(1)
        client.finish()
        finished.set()
        assert client.response().body == b"late"


def test_a_poisoned_connection_is_not_reused(make_backend: MakeBackend, balance: Balance) -> None:
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
    backend = make_backend(answer_with(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + surplus))
    headgate = balance(backend)
    with headgate.client() as client:
        for _ in range(5):
            assert client.get().body == b"hello"
    assert len(backend.used_connections()) == 5


def test_request_ids_differ(echoing: Headgate) -> None:
    ids = {field(echoing.get(), "x-request-id")[0] for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch(r"[0-9A-Za-z-]{8,64}", one) for one in ids)


def test_host_can_be_the_backends_own(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(echo)
    headgate = balance(backend, host="backend")
    answer = headgate.get()
    assert field(answer, "host") == [backend.port.bind]
    assert field(answer, "x-forwarded-host") == ["h.example"]


def test_nothing_is_left_open_when_all_is_done(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, timeouts={"keepalive": "300ms"})
    assert headgate.get().status == 200
    (connection,) = backend.used_connections()
    assert connection.ended.wait(PATIENCE_S)
    eventually(lambda: headgate.backend(backend.url)["activeConnections"] == 0, "no attempt in flight")


def test_routes_by_host_and_path(make_backend: MakeBackend, run: Run, port: HeldPort) -> None:
    names = ["shop", "api", "wild", "rest"]
    pools = {name: pool(make_backend(name=name).url) for name in names}
    routes = [
        {"host": "shop.example", "pool": "shop"},
        {"host": "shop.example", "path_prefix": "/api", "pool": "api"},
        {"host": "*.example", "pool": "wild"},
        {"pool": "rest"},
    ]
    run(configuration(port, pools, routes=routes))

    def ask(host: str, target: str) -> str:
        with Client(port.address) as client:
            client.send(head("GET", target, host=host))
            return client.response().body.decode()

    assert ask("shop.example", "/") == "shop"
    assert ask("SHOP.example:8080", "/x") == "shop"
    assert ask("shop.example", "/api/orders?x=1") == "api"
    assert ask("shop.example", "/apis") == "shop"
    assert ask("other.example", "/api") == "wild"
    assert ask("elsewhere.test", "/api") == "rest"


def test_a_request_without_route_gets_404(make_backend: MakeBackend, run: Run, port: HeldPort) -> None:
    backend = make_backend()
    headgate = run(configuration(port, {"web": pool(backend.url)}, routes=[{"host": "shop.example", "pool": "web"}]))
    answer = headgate.get()
    assert (answer.status, answer.json()["reason"] != "") == (404, True)
    assert backend.requests == []
