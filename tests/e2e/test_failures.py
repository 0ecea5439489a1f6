"""A backend fails: the request is tried elsewhere where that is safe, and the client is told where it is not."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Backend, Connection, Script
from .harness.client import head
from .harness.ports import HeldPort
from .harness.waiting import PATIENCE_S, eventually

# A breaker would take the failing backend out after a few of these tests' requests.
NO_BREAKER = {"breaker": False}


def resets(connection: Connection) -> None:
    """Takes a request and answers with a reset."""
    if connection.read() is not None:
        connection.reset()


def closes(connection: Connection) -> None:
    """Takes a request and ends the connection without an answer."""
    connection.read()


def garbage(connection: Connection) -> None:
    if connection.read() is not None:
        connection.send(b"this is not HTTP\r\n\r\n")


def answers(status: str) -> Script:
    def answer(connection: Connection) -> None:
        for _ in connection.each():
            connection.respond(b"failed", status)

    return answer


def silent(connection: Connection) -> None:
    connection.read()
    connection.wait_ended()


FAILURES: dict[str, Script] = {
    "reset": resets,
    "close": closes,
    "garbage": garbage,
    "silence": silent,
    "502": answers("502 Bad Gateway"),
    "503": answers("503 Service Unavailable"),
    "504": answers("504 Gateway Timeout"),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("size", [0, 5, 10_000_000])
def test_a_refused_connection_is_retried_whatever_the_request(
    make_backend: MakeBackend, balance: Balance, port: HeldPort, method: str, size: int
) -> None:
    alive = make_backend(name="alive")
    with HeldPort() as dead:
        headgate = balance(dead.url, alive, **NO_BREAKER)
        with headgate.client() as client:
            for _ in range(4):
                answer = client.request(method, "/", body=b"x" * size if size else None)
                assert (answer.status, answer.body) == (200, b"alive")
    assert [len(request.body) for request in alive.requests] == [size] * 4


@pytest.mark.parametrize("failure", FAILURES)
def test_an_idempotent_request_is_tried_elsewhere(make_backend: MakeBackend, balance: Balance, failure: str) -> None:
    failing, alive = make_backend(FAILURES[failure], "failing"), make_backend(name="alive")
    headgate = balance(failing, alive, timeouts={"first_byte": "300ms"}, **NO_BREAKER)
    with headgate.client() as client:
        for _ in range(4):
            answer = client.get()
            assert (answer.status, answer.body) == (200, b"alive")
    assert len(failing.requests) >= 2
    assert len(alive.requests) == 4


@pytest.mark.parametrize("failure", FAILURES)
def test_a_post_is_never_sent_twice(make_backend: MakeBackend, balance: Balance, failure: str) -> None:
    failing, alive = make_backend(FAILURES[failure], "failing"), make_backend(name="alive")
    headgate = balance(failing, alive, timeouts={"first_byte": "300ms"}, **NO_BREAKER)
    statuses: Counter[int] = Counter()
    for number in range(4):
        with headgate.client() as client:
            statuses[client.request("POST", f"/{number}", body=b"hello").status] += 1
    seen = [request.target for request in failing.requests + alive.requests]
    assert sorted(seen) == ["/0", "/1", "/2", "/3"]
    failed = {"silence": 504, "503": 503, "504": 504}.get(failure, 502)
    assert statuses == {200: 2, failed: 2}


def test_what_a_backend_answers_with_500_is_its_answer(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(answers("500 Internal Server Error")), make_backend(name="alive"), **NO_BREAKER)
    with headgate.client() as client:
        statuses = [client.get().status for _ in range(4)]
    assert sorted(statuses) == [200, 200, 500, 500]


def test_the_last_backends_own_answer_is_relayed(make_backend: MakeBackend, balance: Balance) -> None:
    backends = [make_backend(answers("503 Service Unavailable"), name) for name in "abc"]
    headgate = balance(*backends, **NO_BREAKER)
    answer = headgate.get()
    assert (answer.status, answer.body) == (503, b"failed")
    # Three attempts, each at another backend.
    assert [len(backend.requests) for backend in backends] == [1, 1, 1]


def test_retries_can_be_turned_off(make_backend: MakeBackend, balance: Balance) -> None:
    backends = [make_backend(answers("503 Service Unavailable"), name) for name in "abc"]
    headgate = balance(*backends, retry={"retries": 0}, **NO_BREAKER)
    assert headgate.get().status == 503
    assert sum(len(backend.requests) for backend in backends) == 1


def test_when_every_try_fails_the_answer_is_502(make_backend: MakeBackend, balance: Balance) -> None:
    backends = [make_backend(resets, name) for name in "ab"]
    headgate = balance(*backends, **NO_BREAKER)
    answer = headgate.get()
    assert answer.status == 502
    assert answer.header("content-type") == "application/json"
    body = answer.json()
    assert set(body) >= {"error", "reason", "request_id"}
    assert "reset" in body["reason"]
    # The same id stands in the log, and is what the backends were given.
    line = headgate.process.stdout.wait_for(re.escape(body["request_id"]))[0]
    assert " 502 " in line
    assert backends[0].requests[0].header("x-request-id") == body["request_id"]


def test_when_all_refuse_the_answer_is_502_or_503(balance: Balance) -> None:
    with HeldPort() as dead, HeldPort() as buried:
        headgate = balance(dead.url, buried.url)
        answer = headgate.get()
        assert answer.status in (502, 503)
        assert set(answer.json()) >= {"error", "reason", "request_id"}


def test_when_no_backend_is_routable_the_answer_is_503(balance: Balance) -> None:
    with HeldPort() as dead:
        headgate = balance(dead.url, health={"type": "tcp", "interval": "200ms", "fall": 1})
        headgate.wait_health(dead.url, False)
        answer = headgate.get()
        assert answer.status == 503
        assert answer.header("content-type") == "application/json"
        assert set(answer.json()) >= {"error", "reason", "request_id"}


def test_a_silent_backend_is_answered_504(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(silent), timeouts={"first_byte": "300ms"})
    answer = headgate.get()
    assert answer.status == 504
    assert set(answer.json()) >= {"error", "reason", "request_id"}


def test_a_connection_that_died_while_idle_costs_nothing(make_backend: MakeBackend, balance: Balance) -> None:
    """The backend closes each connection after its answer, without having said so: the classic keep-alive race."""

    def one_answer(connection: Connection) -> None:
        if connection.read() is not None:
            connection.respond(b"ok")

    backend = make_backend(one_answer)
    headgate = balance(backend)
    with headgate.client() as client:
        for _ in range(200):
            assert client.get().status == 200
    assert headgate.backend(backend.url)["healthy"] is True


def test_a_stalled_body_is_cut_off_visibly(make_backend: MakeBackend, balance: Balance) -> None:
    def stall(connection: Connection) -> None:
        if connection.read() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
            connection.wait_ended()

    backend = make_backend(stall)
    headgate = balance(backend, timeouts={"body_idle": "300ms"})
    with headgate.client() as client:
        client.send(head("GET", "/"))
        client.reader.response_head()
        assert client.reader.exactly(5) == b"hello"
        assert client.closed_by_peer()
    assert backend.connections[0].ended.wait(PATIENCE_S)


def test_failures_in_a_row_open_the_breaker_and_time_closes_it(make_backend: MakeBackend, balance: Balance) -> None:
    broken = threading.Event()
    broken.set()

    def sometimes(connection: Connection) -> None:
        for _ in connection.each():
            if broken.is_set():
                connection.respond(b"failed", "500 Internal Server Error")
            else:
                connection.respond(b"flaky")

    flaky = make_backend(sometimes, "flaky")
    others = [make_backend(name=name) for name in "ab"]
    headgate = balance(flaky, *others, breaker={"failure_threshold": 3, "recovery": "500ms"})
    with headgate.client() as client:
        statuses = Counter(client.get().status for _ in range(30))
    assert statuses[500] == 3
    assert headgate.backend(flaky.url)["healthy"] is False
    headgate.process.stderr.wait_for(rf"{flaky.port.number}.*(open|eject)")

    broken.clear()

    probed: Counter[str] = Counter()

    def closed() -> bool:
        # Requests go on: some of them are the probes, and none of them may notice.
        probed.update(headgate.names(3))
        return headgate.backend(flaky.url)["healthy"] is True

    eventually(closed, "the breaker to close")
    assert probed["flaky"] >= 2
    # The status page may know a moment before the worker does; then it takes its turn like the others.
    eventually(lambda: headgate.names(6).count("flaky") == 2, "even turns")


def test_one_backend_alone_is_never_ejected(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(answers("500 Internal Server Error"))
    headgate = balance(backend, breaker={"failure_threshold": 2, "recovery": "60s"})
    assert [headgate.get().status for _ in range(10)] == [500] * 10
    assert len(backend.requests) == 10


def test_a_backend_that_resets_mid_answer_is_not_retried(make_backend: MakeBackend, balance: Balance) -> None:
    sent = threading.Event()

    def cut(connection: Connection) -> None:
        if connection.read() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
            sent.wait(PATIENCE_S)
            connection.reset()

    backends = [make_backend(cut, name) for name in "ab"]
    headgate = balance(*backends, **NO_BREAKER)
    with headgate.client() as client:
        client.send(head("GET", "/"))
        client.reader.response_head()
        assert client.reader.exactly(5) == b"hello"
        sent.set()
        assert client.closed_by_peer()
    assert sum(len(backend.requests) for backend in backends) == 1


def test_a_full_backlog_is_not_the_end(make_backend: MakeBackend, balance: Balance) -> None:
    """A backend that accepts nothing: connecting times out, and the request goes elsewhere."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
                fillers.append(filler)
            alive = make_backend(name="alive")
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            headgate = balance(url, alive, timeouts={"connect": "200ms"})
            with headgate.client() as client:
                for _ in range(4):
                    assert client.get().body == b"alive"
        finally:
            for filler in fillers:
                filler.close()


def test_the_restarted_backend_gets_traffic_again(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, health={"type": "tcp", "interval": "200ms", "fall": 1, "rise": 1})
    assert set(headgate.names(6)) == {"a", "b", "c"}
    three[1].stop()
    assert set(headgate.names(12)) == {"a", "c"}
    three[1].start()
    eventually(lambda: "b" in headgate.names(3), "traffic to the restarted backend")
