"""TLS as the engine sees it: bytes that come one by one, peers that are none, handshakes that fail, wait, never end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import ssl

import pytest

from headgate.errors import Kind
from headgate.runtime.messages import Failed

from ..pki import Authority
from . import certificates
from .certificates import NAME
from .conftest import Converse
from .conversation import Conversation, Head, Peer, get, message, ok, post
from .wires import Tls

BOTH = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@pytest.fixture
def side() -> str:
    """Each test says for itself who speaks TLS."""
    return ""


def raw(talk: Conversation) -> Peer:
    """Somebody connects where TLS is spoken, and speaks something else."""
    return talk.join(Peer(talk, "raw", socket.create_connection(talk.stage.address)))


def hello(name: str = NAME) -> bytes:
    """What a client says first."""
    outgoing = ssl.MemoryBIO()
    shaking = certificates.contexts().client.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        shaking.do_handshake()
    return outgoing.read()


class Dribble:
    """A socket that says one byte at a time, and lets the engine look at each."""

    def __init__(self, talk: Conversation, sock: socket.socket) -> None:
        self._talk = talk
        self._socket = sock

    def recv(self, size: int) -> bytes:
        return self._socket.recv(size)

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def send(self, data: bytes) -> int:
        for at in range(len(data)):
            assert self._socket.send(data[at : at + 1]) == 1
            self._talk.stage.engine.run_once()
        return len(data)


# What comes


@BOTH
def test_cut_at_every_byte(conversation: Converse, version: ssl.TLSVersion) -> None:
    talk = conversation()
    contexts = certificates.contexts()
    contexts.client.maximum_version = contexts.backend.maximum_version = version
    talk.over_tls("both", contexts)
    client = raw(talk)
    client.speaks_tls(Tls(Dribble(talk, client.socket), contexts.client, server=False, name=NAME))  # type: ignore[arg-type]
    client >> post("/first", b"x" * 300)
    talk.backend_tls = None
    up = talk["a"].accepts()
    up.speaks_tls(Tls(Dribble(talk, up.socket), contexts.backend, server=True))  # type: ignore[arg-type]
    up << "POST /first HTTP/1.1\n\n" + "x" * 300
    up >> ok(b"y" * 300)
    client << "HTTP/1.1 200 OK\n\n" + "y" * 300
    client >> get("/second")
    up << "GET /second HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert talk.stage.engine.buffers_in_use == 0


@pytest.mark.parametrize("small", [False, True], ids=["", "small socket buffers"])
def test_large_bodies_both_ways(conversation: Converse, small: bool) -> None:
    body = os.urandom(1 << 20)
    talk = conversation()
    talk.over_tls("both", certificates.contexts())
    client = talk.client()
    if small:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    client >> get("/down")
    up = talk["a"].accepts()
    if small:
        up.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        up.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    up << "GET /down HTTP/1.1"
    head, _, rest = ok(body).partition(b"\r\n\r\n")
    up >> head + b"\r\n\r\n"
    client << Head("HTTP/1.1 200 OK")
    assert flows(talk, rest, up, client) == body
    client >> message(f"PUT /up HTTP/1.1\nHost: {NAME}\nContent-Length: {len(body)}")
    up << Head("PUT /up HTTP/1.1")
    assert flows(talk, body, client, up) == body
    up >> ok()
    client << "HTTP/1.1 200 OK"
    talk.stage.settle()
    assert talk.stage.engine.buffers_in_use == 0


def flows(talk: Conversation, data: bytes, sayer: Peer, hearer: Peer) -> bytes:
    """All of this from one to the other. While nobody listens, what is not taken stays with the sayer."""
    rest = data[sayer.pours(data) :]
    assert talk.stage.engine.buffers_in_use <= 4 * 65536
    heard = bytearray(hearer.reader.pending)
    while len(heard) < len(data):
        rest = rest[sayer.pours(rest) :] if rest else rest
        sayer.wire.busy()
        if hearer._readable():
            heard += hearer._receive()
        else:
            talk.stage.settle()
    hearer.reader.exactly(len(hearer.reader.pending))
    return bytes(heard)


def test_plain_http_where_tls_is_spoken(conversation: Converse) -> None:
    talk = conversation()
    talk.over_tls("client", certificates.contexts())
    client = raw(talk)
    client >> b"GET / HT"
    talk.stage.settle()
    client >> b"TP/1.1\r\nHost: h\r\n\r\n"
    client << Head("HTTP/1.1 400 Bad Request\nconnection: close\ncontent-type: application/json")
    assert client.last is not None
    said = json.loads(client.reader.exactly(int(client.last.header("content-length") or 0)))
    assert "https://" in said["reason"]
    client.is_closed()
    talk["a"].is_left_alone()
    assert talk.stage.ended(Kind.BAD_REQUEST) == 1


@pytest.mark.parametrize(
    "said", [b"\x00\x01\x02\x03", b"\x16\x03\x01\xff\xff" + bytes(100), b"\x80\x2e\x01\x00\x02" + bytes(60)]
)
def test_neither_tls_nor_http(conversation: Converse, said: bytes) -> None:
    talk = conversation()
    talk.over_tls("client", certificates.contexts())
    client = raw(talk)
    client >> said
    talk.stage.settle()
    client.finishes()
    talk.stage.until(lambda: talk.stage.engine.connections == 0)
    assert talk.stage.engine.connections == 0
    assert talk.stage.engine.buffers_in_use == 0


def test_a_client_that_trusts_somebody_else(conversation: Converse) -> None:
    talk = conversation()
    contexts = certificates.contexts()
    talk.over_tls("client", contexts)
    client = raw(talk)
    with pytest.raises(ssl.SSLCertVerificationError):
        client.speaks_tls(Tls(client.socket, ssl.create_default_context(), server=False, name=NAME))
    client.leaves()
    talk.stage.until(lambda: talk.stage.engine.connections == 0)
    assert talk.stage.engine.connections == 0


# Handshakes in time and number


def test_a_handshake_has_its_time(conversation: Converse) -> None:
    talk = conversation(listener={"tls": {**certificates.table(), "handshake_timeout": "100ms"}})
    talk.over_tls("client", certificates.contexts())
    silent, slow = raw(talk), raw(talk)
    slow >> hello()[:100]
    silent.is_closed()
    slow.is_gone()
    assert talk.stage.engine.connections == 0


def test_handshakes_in_progress_are_limited(conversation: Converse) -> None:
    talk = conversation(listener={"tls": {**certificates.table(), "max_handshakes": 2}})
    contexts = certificates.contexts()
    talk.over_tls("client", contexts)
    first, second = raw(talk), raw(talk)
    talk.stage.settle()
    third = raw(talk)
    wire = Tls(third.socket, contexts.client, server=False, name=NAME)
    assert not wire.shake()
    talk.stage.settle()
    assert talk.stage.engine.connections == 2
    assert not wire.shake()  # it waits in the kernel's queue
    second.leaves()
    third.speaks_tls(wire)
    third >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> ok()
    third << "HTTP/1.1 200 OK"
    first.leaves()


def test_many_handshakes_at_once_leave_turns_to_others(conversation: Converse) -> None:
    """A request that comes behind 200 hellos is answered long before the last of them is worked on."""
    talk = conversation()
    contexts = certificates.contexts()
    talk.over_tls("client", contexts)
    client = talk.client()
    client >> get("/before")
    up = talk["a"].accepts()
    up << "GET /before HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    others = []
    for _ in range(200):
        others.append(raw(talk))
        talk.stage.settle()  # accepted
    first = hello()
    for other in others:
        other >> first
    client >> get("/behind")
    while not up._readable():
        talk.stage.engine.run_once()
    up << "GET /behind HTTP/1.1"
    up >> ok()
    while not client._readable():
        talk.stage.engine.run_once()
    answered = sum(other._readable() for other in others)
    client << "HTTP/1.1 200 OK"
    talk.stage.settle()
    assert all(other._readable() for other in others)
    assert answered < 100


def test_a_thousand_that_leave_in_the_middle(conversation: Converse) -> None:
    talk = conversation()
    talk.over_tls("client", certificates.contexts())
    first = hello()
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(1000):
        with socket.create_connection(talk.stage.address) as sock:
            sock.sendall(first[: (number * 7) % len(first)] if number % 4 else first)
            talk.stage.engine.run_once()
            if number % 3 == 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    talk.stage.until(lambda: talk.stage.engine.connections == 0)
    talk.stage.settle()
    assert talk.stage.engine.connections == 0
    assert talk.stage.engine.buffers_in_use == 0
    assert len(os.listdir("/proc/self/fd")) == descriptors


# Ends


def test_an_answer_that_ends_without_close_notify_is_cut_short(conversation: Converse) -> None:
    talk = conversation()
    talk.over_tls("both", certificates.contexts())
    client = talk.client()
    client >> b"GET / HTTP/1.0\r\nHost: h\r\n\r\n"
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nConnection: close") + b"half of it"
    client << Head("HTTP/1.1 200 OK") << b"half of it"
    up.socket.close()
    client.is_reset()
    assert talk.stage.ended(Kind.TRUNCATED) == 1


def test_an_answer_that_ends_with_close_notify_is_whole(conversation: Converse) -> None:
    talk = conversation()
    talk.over_tls("both", certificates.contexts())
    client = talk.client()
    client >> b"GET / HTTP/1.0\r\nHost: h\r\n\r\n"
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nConnection: close") + b"all of it"
    up.leaves()
    client << Head("HTTP/1.1 200 OK") << b"all of it"
    client.is_closed()
    assert talk.stage.ended(Kind.OK) == 1


# What is said about it


def test_backends_and_browsers_are_told(conversation: Converse) -> None:
    talk = conversation(listener={"tls": {**certificates.table(), "hsts": "1d"}})
    talk.over_tls("client", certificates.contexts())
    client = talk.client()
    client >> get("/one")
    up = talk["a"].accepts()
    up << "GET /one HTTP/1.1\nx-forwarded-proto: https"
    up >> ok()
    client << "HTTP/1.1 200 OK\nstrict-transport-security: max-age=86400"
    client >> get("/two")
    up << "GET /two HTTP/1.1"
    up >> ok(b"", "Strict-Transport-Security: max-age=1")
    client << "HTTP/1.1 200 OK\nstrict-transport-security: max-age=1"
    talk["a"].refuses()
    up.leaves()
    talk.stage.settle()
    client >> get("/three")
    client << Head("HTTP/1.1 502 Bad Gateway\nstrict-transport-security: max-age=86400")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (get("/a?b=c"), "301 Moved Permanently\nlocation: https://h.example:8443/a?b=c"),
        (b"HEAD / HTTP/1.1\r\nHost: h.example:80\r\n\r\n", "301 Moved Permanently\nlocation: https://h.example:8443/"),
        (post("/a", b"x"), "308 Permanent Redirect\nlocation: https://h.example:8443/a"),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "301 Moved Permanently\nlocation: https://[::1]:8443/"),
        (b"GET / HTTP/1.0\r\n\r\n", "400 Bad Request"),
        (b"OPTIONS * HTTP/1.1\r\nHost: h.example\r\n\r\n", "308 Permanent Redirect\nlocation: https://h.example:8443/"),
    ],
)
def test_sent_away_to_https(conversation: Converse, said: bytes, expected: str) -> None:
    talk = conversation(listener={"redirect_https": 8443, "ready_path": "/ready"})
    talk.stage.listener.ready = lambda: True
    client = talk.client()
    client >> said
    client << Head("HTTP/1.1 " + expected)
    talk["a"].is_left_alone()
    other = talk.client()
    other >> get("/ready")
    other << Head("HTTP/1.1 200 OK")


# Who it is


def test_who_it_is(conversation: Converse) -> None:
    talk = conversation()
    talk.over_tls("client", certificates.contexts())
    asked: list[tuple[object, ...]] = []
    route = talk.stage.listener.only_route

    def match(*arguments: object) -> object:
        asked.append(arguments)
        return route

    talk.stage.listener.identify = lambda connection: (connection.version(), b"X-Client-Cert-Subject: CN=me\r\n")
    talk.stage.listener.only_route = None
    talk.stage.listener.match = match  # type: ignore[assignment]
    talk.stage.listener.match_identity = True
    client = talk.client()
    client >> get("/", "X-Client-Cert-Subject: CN=root", "x-client-cert-other: 1", "X_Client_Cert_Subject: CN=root")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1\nx-client-cert-subject: CN=me\n!x-client-cert-other\n!x_client_cert_subject"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert asked == [(b"h.example", b"/", "TLSv1.3")]


def test_nobody_says_on_a_plain_listener_who_he_is(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get("/", "X-Client-Cert-Subject: CN=root")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1\n!x-client-cert-subject"
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_a_trusted_proxy_may_say_it(conversation: Converse) -> None:
    talk = conversation(listener={"trusted_proxies": ["127.0.0.1"]})
    client = talk.client()
    client >> get("/", "X-Client-Cert-Subject: CN=me")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1\nx-client-cert-subject: CN=me"
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_whoever_cannot_be_told_is_not_served(conversation: Converse, caplog: pytest.LogCaptureFixture) -> None:
    talk = conversation()
    talk.over_tls("client", certificates.contexts())
    talk.stage.listener.identify = lambda connection: (connection.nothing, b"")  # type: ignore[attr-defined]
    client = talk.client()
    client >> get()
    client.is_gone()
    assert "identify" in caplog.text
    talk["a"].is_left_alone()


# Backends


def distrusted(why: str) -> ssl.SSLContext:
    if why == "unknown authority":
        return certificates.server(Authority("Nobody knows").issue(NAME))
    if why == "expired":
        return certificates.server(certificates.authority().issue(NAME, since_days=-9, days=-2))
    return certificates.server(certificates.authority().issue("other.example"))


def hears_no_request(talk: Conversation, name: str, context: ssl.SSLContext) -> None:
    """The balancer connects, and goes at the sight of the certificate."""
    talk.backend_tls = None
    up = talk[name].accepts()
    wire = Tls(up.socket, context, server=True)
    ended: list[ssl.SSLError] = []

    def over() -> bool:
        try:
            return wire.shake()
        except ssl.SSLError as error:
            ended.append(error)
            return True

    assert talk.stage.until(over, up.socket)
    if not ended:  # TLS 1.3: the alert comes when the server is done
        with pytest.raises(ssl.SSLError):
            talk.stage.until(wire.readable, up.socket)
    assert not wire._plain


WHY = {
    "unknown authority": "unable to get local issuer certificate",
    "expired": "certificate has expired",
    "wrong name": "certificate is not valid for 'h.example'",
}


@BOTH
@pytest.mark.parametrize("why", WHY)
def test_a_backend_that_is_not_to_be_trusted(
    conversation: Converse, why: str, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    talk = conversation()
    context = distrusted(why)
    context.maximum_version = version
    talk.over_tls("backend", certificates.contexts())
    client = talk.client()
    client >> post("/", b"secret")
    hears_no_request(talk, "a", context)
    client << Head("HTTP/1.1 502 Bad Gateway")
    assert client.last is not None
    said = json.loads(client.reader.exactly(int(client.last.header("content-length") or 0)))
    assert said["reason"].startswith("tls_verify: ")
    assert WHY[why] in said["reason"]
    assert talk.stage.ended(Kind.TLS_VERIFY) == 1
    assert talk.stage.totals("a").bytes_sent == 0
    # The supervisor is told as of a refused connection.
    assert any(isinstance(report, Failed) for report in talk.stage.reports)
    assert sum("certificate is not accepted" in line.message for line in caplog.records) == 1


def test_another_backend_serves_instead(conversation: Converse) -> None:
    talk = conversation("ab")
    talk.over_tls("backend", certificates.contexts())
    contexts = talk.backend_tls
    client = talk.client()
    client >> post("/", b"secret")
    hears_no_request(talk, "a", distrusted("expired"))
    talk.backend_tls = contexts
    up = talk["b"].accepts()
    up << "POST / HTTP/1.1\n\nsecret"
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_a_backend_that_speaks_no_tls(conversation: Converse) -> None:
    talk = conversation()
    talk.over_tls("backend", certificates.contexts())
    talk.backend_tls = None
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    talk.stage.settle()
    up >> b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    client << Head("HTTP/1.1 502 Bad Gateway")
    assert talk.stage.ended(Kind.TLS_HANDSHAKE) == 1


def test_a_backend_that_never_answers_the_hello(conversation: Converse) -> None:
    talk = conversation(timeouts={"connect": "100ms"})
    talk.over_tls("backend", certificates.contexts())
    talk.backend_tls = None
    client = talk.client()
    client >> get()
    talk["a"].accepts()
    client << Head("HTTP/1.1 504 Gateway Timeout")
    assert talk.stage.ended(Kind.CONNECT_TIMEOUT) == 1


@BOTH
def test_a_backend_that_wants_a_certificate(conversation: Converse, version: ssl.TLSVersion) -> None:
    """TLS 1.3 refuses behind the handshake, when the request is out already; nothing of it was read, so b gets it."""
    talk = conversation("ab")
    contexts = certificates.contexts()
    talk.over_tls("backend", contexts)
    wants = certificates.server(certificates.authority().issue(NAME))
    wants.maximum_version = version
    wants.verify_mode = ssl.CERT_REQUIRED
    wants.load_verify_locations(cadata=certificates.authority().pem.decode())
    client = talk.client()
    client >> post("/", b"hello")
    talk.backend_tls = None
    up = talk["a"].accepts()
    wire = Tls(up.socket, wants, server=True)

    def refuses() -> bool:
        try:
            return wire.shake()
        except ssl.SSLError as error:
            return error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"

    assert talk.stage.until(refuses, up.socket)
    assert not wire.established
    up.socket.close()
    talk.backend_tls = contexts.backend
    other = talk["b"].accepts()
    other << "POST / HTTP/1.1\n\nhello"
    other >> ok()
    client << "HTTP/1.1 200 OK"
    assert talk.stage.totals("a").failed == 1


@BOTH
def test_sessions_with_backends_are_resumed(conversation: Converse, version: ssl.TLSVersion) -> None:
    talk = conversation()
    contexts = certificates.contexts()
    contexts.backend.maximum_version = version
    talk.over_tls("backend", contexts)
    client = talk.client()
    resumed = []
    for number in range(3):
        client >> get(f"/{number}")
        up = talk["a"].accepts()
        up << f"GET /{number} HTTP/1.1"
        assert isinstance(up.wire, Tls)
        resumed.append(up.wire.object.session_reused)
        up >> ok(b"", "Connection: close")
        client << "HTTP/1.1 200 OK"
        up.is_closed()
    assert resumed == [False, True, True]
    # Another context is another identity.
    talk.over_tls("backend", certificates.contexts())
    talk.backend_tls = contexts.backend
    client >> get("/other")
    up = talk["a"].accepts()
    up << "GET /other HTTP/1.1"
    assert isinstance(up.wire, Tls)
    assert not up.wire.object.session_reused
    up >> ok()
    client << "HTTP/1.1 200 OK"


def test_a_ticket_that_comes_late_does_not_cost_the_connection(conversation: Converse) -> None:
    """TLS 1.3 sends tickets when it likes, to an idle connection as well: it is readable, and nothing was said."""
    talk = conversation()
    contexts = certificates.contexts()
    talk.over_tls("backend", contexts)
    client = talk.client()
    client >> get("/one")
    up = talk["a"].accepts()
    up << "GET /one HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    talk.stage.settle()
    assert talk.stage.totals("a").idle == 1
    client >> post("/two", b"hello")
    up << "POST /two HTTP/1.1\n\nhello"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert talk.stage.totals("a").connects == 1


def test_plain_and_tls_turn_about(conversation: Converse, caplog: pytest.LogCaptureFixture) -> None:
    """A listener that changes serves those that are there as they are."""
    talk = conversation()
    plain = talk.client()
    plain >> get("/one")
    up = talk["a"].accepts()
    up << "GET /one HTTP/1.1\nx-forwarded-proto: http"
    up >> ok()
    plain << "HTTP/1.1 200 OK"
    talk.over_tls("client", certificates.contexts())
    secret = talk.client()
    secret >> get("/two")
    up << "GET /two HTTP/1.1\nx-forwarded-proto: https"
    up >> ok()
    secret << "HTTP/1.1 200 OK"
    plain >> get("/three")
    up << "GET /three HTTP/1.1\nx-forwarded-proto: http"
    up >> ok()
    plain << "HTTP/1.1 200 OK"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
