"""What HTTP asks of whoever stands between: interim answers, Via, Max-Forwards, Date, connection options, trailers."""

from __future__ import annotations

import threading
from email.utils import parsedate_to_datetime

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Backend, Connection, Script, echo
from .harness.client import Client, head
from .harness.headgate import Headgate
from .harness.waiting import PATIENCE_S
from .harness.wire import Response

EXPECT = [("Expect", "100-continue"), ("Content-Length", "5")]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def saying(*parts: bytes) -> Script:
    """Answers every request with these bytes."""

    def answer(connection: Connection) -> None:
        for _ in connection.each():
            connection.send(b"".join(parts))

    return answer


def fields(answer: Response, name: str) -> list[str]:
    """The values of a field as the echoing backend saw it."""
    return [value for key, value in answer.json()["fields"] if key.lower() == name]


def ask(headgate: Headgate, data: bytes, method: str = "GET") -> Response:
    with headgate.client() as client:
        client.send(data)
        return client.response(method)


# -- 1xx ---------------------------------------------------------------------------------------------------------


def test_the_backend_invites_the_body(make_backend: MakeBackend, balance: Balance) -> None:
    invited = threading.Event()

    def patient(connection: Connection) -> None:
        while (request := connection.read_head()) is not None:
            assert request.headers("expect") == ["100-continue"]
            assert invited.wait(PATIENCE_S)
            connection.send(CONTINUE)
            connection.respond(connection.read_body(request))

    backend = make_backend(patient)
    headgate = balance(backend)
    with headgate.client(timeout_s=0.3) as client:
        client.send(head("POST", "/", EXPECT))
        # We do not invite in the backend's place.
        with pytest.raises(TimeoutError):
            client.response(interim=True)
        assert b"hello" not in backend.connections[0].received
        invited.set()
        client.socket.settimeout(PATIENCE_S)
        assert client.response(interim=True).status == 100
        client.send(b"hello")
        assert client.response(interim=True).body == b"hello"
        # The connection is good for another, as it would be without.
        client.send(head("POST", "/", EXPECT) + b"world")
        assert client.response().body == b"world"


def test_the_backend_refuses_the_body(make_backend: MakeBackend, balance: Balance) -> None:
    def strict(connection: Connection) -> None:
        if connection.read_head() is not None:
            connection.respond(b"no", "417 Expectation Failed")
            connection.wait_ended()

    backend = make_backend(strict)
    headgate = balance(backend)
    with headgate.client() as client:
        client.send(head("POST", "/", EXPECT))
        answer = client.response(interim=True)
        assert (answer.status, answer.body) == (417, b"no")
        # Does what follows belong to the body that was announced? Nobody can tell: the connection ends.
        assert "close" in answer.list_header("connection")
        client.send(head("GET", "/smuggled"))
        assert client.closed_by_peer()
    assert [request.method for request in backend.requests] == ["POST"]
    assert b"smuggled" not in backend.connections[0].received


def test_the_backend_says_nothing_and_the_client_sends_after_a_second(
    make_backend: MakeBackend, balance: Balance
) -> None:
    headgate = balance(make_backend(echo))
    with headgate.client(timeout_s=1.0) as client:
        client.send(head("POST", "/", EXPECT))
        with pytest.raises(TimeoutError):
            client.response(interim=True)
        client.socket.settimeout(PATIENCE_S)
        client.send(b"hello")
        assert client.response(interim=True).json()["body"] == "hello"


def test_the_body_comes_without_waiting(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(echo))
    with headgate.client() as client:
        client.send(head("POST", "/", EXPECT) + b"hello" + head("GET", "/next"))
        assert client.response().json()["body"] == "hello"
        assert client.response().json()["target"] == "/next"


def test_an_expectation_that_means_nothing(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(echo))
    # No body to wait for; and HTTP/1.0, which does not know it.
    assert fields(ask(headgate, head("GET", "/", [("Expect", "100-continue")])), "expect") == []
    old = b"POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    assert fields(ask(headgate, old), "expect") == []


def test_an_invitation_nobody_asked_for_is_dropped(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(saying(CONTINUE, CONTINUE, OK)))
    with headgate.client() as client:
        for _ in range(2):
            client.send(head("GET", "/"))
            assert client.response(interim=True).status == 200


def test_hints_are_relayed_as_they_come(make_backend: MakeBackend, balance: Balance) -> None:
    go = threading.Event()

    def hinting(connection: Connection) -> None:
        for _ in connection.each():
            connection.send(HINTS + HINTS.replace(b"a.css", b"b.css"))
            assert go.wait(PATIENCE_S)
            connection.send(OK)

    headgate = balance(make_backend(hinting))
    with headgate.client() as client:
        for _ in range(2):
            client.send(head("GET", "/"))
            for name in ["a", "b"]:
                hint = client.response(interim=True)
                assert (hint.status, hint.headers("link")) == (103, [f"</{name}.css>; rel=preload"])
                assert hint.headers("transfer-encoding") == hint.headers("content-length") == []
            go.set()
            answer = client.response(interim=True)
            assert (answer.status, answer.body, answer.headers("link")) == (200, b"ok", [])


def test_an_http10_client_sees_no_interim_answer(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(saying(CONTINUE, HINTS, b"HTTP/1.1 102 Processing\r\n\r\n", OK)))
    with headgate.client() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\n\r\n")
        assert client.response(interim=True).status == 200
        assert client.closed_by_peer()
    assert client.received.count(b"HTTP/1.") == 1


@pytest.mark.parametrize("interim", [CONTINUE, HINTS, HINTS + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"])
def test_a_backend_that_dies_after_an_interim_answer(
    make_backend: MakeBackend, balance: Balance, interim: bytes
) -> None:
    """The client still waits for a final answer, so it gets ours; but nothing is tried a second time."""
    headgate = balance(*[make_backend(dying(interim), name) for name in "ab"], breaker=False)
    with headgate.client() as client:
        client.send(head("PUT", "/", EXPECT))
        assert client.response(interim=True).status == int(interim[9:12])
        answer = client.response(interim=True)
        assert (answer.status, answer.json()["reason"]) == (502, "reset")
    assert sum(backend["totalRequests"] for backend in headgate.status()) == 1


def dying(interim: bytes) -> Script:
    def die(connection: Connection) -> None:
        if connection.read_head() is not None:
            connection.send(interim)

    return die


def test_a_backend_that_stalls_after_an_interim_answer(make_backend: MakeBackend, balance: Balance) -> None:
    def stall(connection: Connection) -> None:
        if connection.read() is not None:
            connection.send(HINTS)
            connection.wait_ended()

    headgate = balance(make_backend(stall), timeouts={"first_byte": "300ms"})
    with headgate.client() as client:
        client.send(head("GET", "/"))
        assert client.response(interim=True).status == 103
        assert client.response(interim=True).status == 504
        # It was a whole exchange: the connection goes on.
        client.send(head("GET", "/again"))
        assert client.response(interim=True).status == 103


def test_a_body_too_large_after_the_invitation(make_backend: MakeBackend, balance: Balance) -> None:
    def inviting(connection: Connection) -> None:
        if connection.read_head() is not None:
            connection.send(CONTINUE)
            connection.wait_ended()

    headgate = balance(make_backend(inviting), listener={"limits": {"body": 10}})
    with headgate.client() as client:
        client.send(head("POST", "/", [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]))
        assert client.response(interim=True).status == 100
        client.send(b"b\r\nhello world\r\n")
        assert client.response(interim=True).status == 413


# -- Via, Max-Forwards, Date ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listener", "expected"),
    [({}, ["1.1 headgate"]), ({"via": "edge-1"}, ["1.1 edge-1"]), ({"via": False}, [])],
)
def test_via(make_backend: MakeBackend, balance: Balance, listener: dict[str, object], expected: list[str]) -> None:
    headgate = balance(make_backend(echo), listener=listener)
    answer = headgate.get()
    assert fields(answer, "via") == expected
    assert answer.headers("via") == expected


def test_via_joins_those_that_are_there(make_backend: MakeBackend, balance: Balance) -> None:
    answered = b"HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nContent-Length: 2\r\n\r\nok"
    backend = make_backend(saying(answered))
    headgate = balance(backend)
    answer = headgate.get(headers=[("Via", "1.0 outer, 1.1 middle")])
    assert ", ".join(answer.headers("via")) == "1.1 inner, 1.1 headgate"
    assert ", ".join(backend.requests[0].headers("via")) == "1.0 outer, 1.1 middle, 1.1 headgate"


def test_via_tells_the_version_that_was_received(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(saying(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    headgate = balance(backend)
    answer = ask(headgate, b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
    assert answer.headers("via") == ["1.0 headgate"]
    assert backend.requests[0].headers("via") == ["1.0 headgate"]


def test_max_forwards_counts_down(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(echo))
    for method in ["OPTIONS", "TRACE"]:
        for number in [7, 1]:
            answer = ask(headgate, head(method, "/", [("Max-Forwards", str(number))]))
            assert (answer.json()["method"], fields(answer, "max-forwards")) == (method, [str(number - 1)])
    # To other methods it is nothing.
    assert fields(headgate.get(headers=[("Max-Forwards", "0")]), "max-forwards") == ["0"]


def test_max_forwards_zero_ends_here(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(echo)
    headgate = balance(backend)
    with headgate.client() as client:
        for method, status in [("OPTIONS", 200), ("TRACE", 405)]:
            client.send(head(method, "/", [("Max-Forwards", "0"), ("Authorization", "Basic c2VjcmV0")]))
            answer = client.response()
            assert answer.status == status
            # TRACE is not reflected.
            assert b"c2VjcmV0" not in client.received
            assert client.get().status == 200
    assert [request.method for request in backend.requests] == ["GET", "GET"]


def test_a_date_is_added_where_there_is_none(make_backend: MakeBackend, balance: Balance) -> None:
    theirs = "Sun, 06 Nov 1994 08:49:37 GMT"

    def answer(connection: Connection) -> None:
        for request in connection.each():
            connection.respond(headers=[("Date", theirs)] if request.target == "/dated" else [])

    headgate = balance(make_backend(answer))
    assert headgate.get("/dated").headers("date") == [theirs]
    (added,), (ours,) = headgate.get().headers("date"), headgate.get("/lb/status").headers("date")
    apart = parsedate_to_datetime(ours) - parsedate_to_datetime(added)
    assert abs(apart.total_seconds()) < 30


# -- connection options ----------------------------------------------------------------------------------------------

OURS = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-request-id", "via", "host"]


@pytest.mark.parametrize("trusted", [False, True])
def test_a_client_cannot_remove_what_we_set(make_backend: MakeBackend, balance: Balance, trusted: bool) -> None:
    backend = make_backend()
    headgate = balance(backend, listener={"trusted_proxies": ["127.0.0.0/8"] if trusted else []})
    for name in OURS:
        with headgate.client() as client:
            # To refuse it is as good as to ignore it.
            status = client.get(headers=[("Connection", f"keep-alive, {name}"), ("X-Forwarded-For", "6.6.6.6")]).status
        assert status in (200, 400), name
    assert backend.requests
    for request in backend.requests:
        assert [name for name in OURS if len(request.headers(name)) != 1] == []
        assert ("6.6.6.6" in request.headers("x-forwarded-for")[0]) is trusted


def test_connection_options_end_here_in_both_directions(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(
        saying(
            b"HTTP/1.1 200 OK\r\nConnection: X-Inner, keep-alive\r\nX-Inner: 1\r\nKeep-Alive: timeout=9\r\n",
            b"Proxy-Connection: keep-alive\r\nX-Outer: 2\r\nContent-Length: 2\r\n\r\nok",
        )
    )
    headgate = balance(backend)
    with headgate.client() as client:
        for _ in range(2):
            own = [("Connection", "X-Mine"), ("Connection", "X-Too"), ("X-Mine", "1"), ("X-Too", "1")]
            answer = client.get(headers=[*own, ("Proxy-Connection", "close"), ("TE", "gzip"), ("X-Kept", "1")])
            assert answer.status == 200
    for name in ["connection", "x-inner", "keep-alive", "proxy-connection"]:
        assert answer.headers(name) == [], name
    assert answer.headers("x-outer") == ["2"]
    for name in ["x-mine", "x-too", "proxy-connection", "te", "connection"]:
        assert backend.requests[1].headers(name) == [], name
    assert backend.requests[1].headers("x-kept") == ["1"]


def test_authentication_goes_through(make_backend: MakeBackend, balance: Balance) -> None:
    """End-to-end fields, though their names begin like others that are not."""
    headgate = balance(make_backend(echo))
    answer = headgate.get(headers=[("Authorization", "Bearer x"), ("Cookie", "a=b"), ("Cookie", "c=d")])
    assert fields(answer, "authorization") == ["Bearer x"]
    assert "; ".join(fields(answer, "cookie")) == "a=b; c=d"


# -- who calls -------------------------------------------------------------------------------------------------------

CLAIMS = [
    ("X-Forwarded-For", "6.6.6.6, 1.2.3.4"),
    ("X-Forwarded-For", "5.6.7.8"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "shop.example"),
    ("X-Forwarded-Port", "443"),
    ("X-Real-IP", "6.6.6.6"),
    ("X-Request-ID", "theirs"),
    ("Forwarded", "for=6.6.6.6;proto=https"),
]


def test_nothing_an_untrusted_peer_says_about_itself_goes_on(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(echo), listener={"trusted_proxies": ["10.0.0.0/8"]})
    answer = headgate.get(headers=CLAIMS)
    assert fields(answer, "x-forwarded-for") == ["127.0.0.1"]
    assert fields(answer, "x-real-ip") == ["127.0.0.1"]
    assert fields(answer, "x-forwarded-proto") == ["http"]
    assert fields(answer, "x-forwarded-host") == ["h.example"]
    assert fields(answer, "forwarded") == fields(answer, "x-forwarded-port") == []
    assert fields(answer, "x-request-id") != ["theirs"]


def test_a_trusted_peer_is_believed_as_far_as_it_goes(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(echo), listener={"trusted_proxies": ["127.0.0.1", "5.6.7.0/24"]})
    answer = headgate.get(headers=CLAIMS)
    assert fields(answer, "x-forwarded-for") == ["6.6.6.6, 1.2.3.4, 5.6.7.8, 127.0.0.1"]
    # The rightmost that is not itself a trusted proxy; what stands left of it anybody may have written.
    assert fields(answer, "x-real-ip") == ["1.2.3.4"]
    assert fields(answer, "x-forwarded-proto") == ["https"]
    assert fields(answer, "x-forwarded-host") == ["shop.example"]
    assert fields(answer, "x-forwarded-port") == ["443"]
    assert fields(answer, "x-request-id") == ["theirs"]
    assert ", ".join(fields(answer, "forwarded")).startswith("for=6.6.6.6;proto=https, for=127.0.0.1")
    # The same networks, another peer.
    with Client(headgate.address, source=("127.0.0.2", 0)) as client:
        assert fields(client.get(headers=CLAIMS), "x-forwarded-for") == ["127.0.0.2"]


# -- trailers --------------------------------------------------------------------------------------------------------

FORBIDDEN = ["Content-Length: 3", "Transfer-Encoding: chunked", "Host: evil", "X-Forwarded-For: 6.6.6.6", "Via: 1.1 x"]


def test_trailers_of_a_request(make_backend: MakeBackend, balance: Balance) -> None:
    backend: Backend = make_backend()
    headgate = balance(backend)
    trailer = "\r\n".join(["X-Checksum: abc", *FORBIDDEN, "X-Second: 2"])
    data = head("POST", "/", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Checksum")])
    with headgate.client() as client:
        for _ in range(2):
            client.send(data + b"5\r\nhello\r\n0\r\n" + trailer.encode() + b"\r\n\r\n")
            assert client.response().status == 200
    for request in backend.requests:
        assert (request.body, request.headers("trailer")) == (b"hello", ["X-Checksum"])
        assert request.trailers == [(b"X-Checksum", b"abc"), (b"X-Second", b"2")]


def test_trailers_of_an_answer(make_backend: MakeBackend, balance: Balance) -> None:
    trailer = "\r\n".join(["X-Checksum: abc", *FORBIDDEN, "Set-Cookie: a=b"])
    start = b"HTTP/1.1 200 OK\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
    headgate = balance(make_backend(saying(start + trailer.encode() + b"\r\n\r\n")))
    with headgate.client() as client:
        for _ in range(2):
            answer = client.get(headers=[("TE", "trailers"), ("Connection", "TE")])
            assert (answer.body, answer.headers("trailer")) == (b"hello", ["X-Checksum"])
            assert [name for name, _ in answer.trailers] in ([b"X-Checksum"], [b"X-Checksum", b"Set-Cookie"])
    # HTTP/1.0 has no place for them.
    answer = ask(headgate, b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
    assert (answer.body, answer.closed, answer.headers("trailer")) == (b"hello", True, [])


def test_te_trailers_is_passed_on_and_nothing_else_of_te(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend)
    headgate.get(headers=[("TE", "gzip, trailers;q=0.5, deflate"), ("Connection", "TE")])
    assert backend.requests[0].headers("te") in ([], ["trailers"])
    headgate.get(headers=[("TE", "trailers"), ("Connection", "TE")])
    request = backend.requests[1]
    assert (request.headers("te"), request.list_header("connection")) == (["trailers"], ["te"])
