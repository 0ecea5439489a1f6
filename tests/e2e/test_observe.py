"""What can be seen while it runs: status page, readiness, access log."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Backend, Connection
from .harness.client import Client, fetch, head
from .harness.waiting import PATIENCE_S, eventually


def test_the_status_page_counts(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three)
    headgate.names(30)
    answer = headgate.get("/lb/status")
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    backends = answer.json()["backends"]
    assert [backend["url"].rstrip("/") for backend in backends] == [backend.url for backend in three]
    for backend in backends:
        assert backend["pool"] == "web"
        assert backend["healthy"] is True
        assert backend["activeConnections"] == 0
        assert backend["totalRequests"] == 10
    # The page is the balancer's own: no backend saw it.
    assert all(request.target == "/" for backend in three for request in backend.requests)


def test_attempts_in_flight_are_shown(make_backend: MakeBackend, balance: Balance) -> None:
    release = threading.Event()

    def hold(connection: Connection) -> None:
        for _ in connection.each():
            assert release.wait(PATIENCE_S)
            connection.respond(b"ok")

    backend = make_backend(hold)
    headgate = balance(backend)
    clients = [headgate.client() for _ in range(7)]
    for client in clients:
        client.send(head("GET", "/"))
    backend.wait_requests(7)
    shown = headgate.backend(backend.url)
    assert (shown["activeConnections"], shown["totalRequests"]) == (7, 7)
    release.set()
    for client in clients:
        assert client.response().status == 200
        client.close()
    eventually(lambda: headgate.backend(backend.url)["activeConnections"] == 0, "all to be done")


def test_the_status_page_is_for_loopback_by_default(three: list[Backend], balance: Balance) -> None:
    listener = {"trusted_proxies": ["127.0.0.0/8"]}
    headgate = balance(*three, listener=listener)
    # Through a trusted proxy the client counts, not the proxy.
    assert headgate.get("/lb/status", [("X-Forwarded-For", "8.8.8.8")]).status == 404
    assert headgate.get("/lb/status", [("X-Forwarded-For", "127.0.0.1")]).status == 200
    assert all(backend.requests == [] for backend in three)


def test_the_status_page_can_be_closed_and_opened(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, listener={"status_allow": ["10.0.0.0/8"]})
    assert headgate.get("/lb/status").status == 404
    assert headgate.get("/").status == 200


def test_the_ready_path_is_answered_here(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, listener={"ready_path": "/ready"})
    assert headgate.get("/ready").status == 200
    # Another path that only begins like it is the application's.
    assert headgate.get("/ready/or/not").body in (b"a", b"b", b"c")
    assert sum(len(backend.requests) for backend in three) == 1


def test_a_line_of_text_for_every_request(three: list[Backend], balance: Balance) -> None:
    headgate = balance(three[0])
    with headgate.client() as client:
        client.get("/a?b=c")
        client.request("POST", "/upload", body=b"hello")
    (line,) = headgate.process.stdout.wait_for(r"/a\?b=c")
    request = three[0].requests[0]
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)
    for word in ("127.0.0.1", "GET", "200", three[0].url, request.header("x-request-id") or "?"):
        assert word in line, word
    headgate.process.stdout.wait_for(r"POST.*/upload")


def test_a_line_of_json_for_every_request(make_backend: MakeBackend, balance: Balance, tmp_path: Path) -> None:
    failing = make_backend(lambda connection: connection.reset() if connection.read() is not None else None, "failing")
    alive = make_backend(name="alive")
    log = tmp_path / "access.json"
    headgate = balance(failing, alive, top={"access_log": {"format": "json", "path": str(log)}}, breaker=False)
    assert headgate.get('/with "quotes"'.replace(" ", "%20")).status == 200
    assert headgate.get("/plain").status == 200
    assert headgate.stop() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 2
    first, second = lines
    for line in lines:
        assert line["client"] == "127.0.0.1"
        assert line["method"] == "GET"
        assert line["status"] == 200
        assert line["bytes"] == 5
        assert line["backend"].rstrip("/") == alive.url
        assert line["request_id"]
    # The turn comes back to the failing one each time, as the retry takes the other's.
    assert [line["attempts"] for line in lines] == [2, 2]
    assert first["path"] == '/with%20"quotes"'
    assert second["path"] == "/plain"


def test_hostile_bytes_stay_on_their_line(make_backend: MakeBackend, balance: Balance, tmp_path: Path) -> None:
    log = tmp_path / "access.json"
    headgate = balance(make_backend(), top={"access_log": {"format": "json", "path": str(log)}})
    with headgate.client() as client:
        client.send(b'GET /\xff\xfe"\\ HTTP/1.1\r\nHost: h\r\n\r\n')
        client.response()
    with headgate.client() as client:
        client.send(b'GET /a HTTP/1.1\r\nHost: h\r\nX: "\r\n\r\n')
        client.response()
    assert headgate.stop() == 0
    lines = log.read_bytes().splitlines()
    assert len(lines) == 2
    for line in lines:
        json.loads(line)


def test_the_log_can_be_turned_off(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, top={"access_log": {"format": "off"}})
    headgate.names(5)
    assert headgate.stop() == 0
    assert headgate.process.stdout.matching("GET") == []


def test_a_reader_that_stops_reading_the_log_does_not_stop_the_traffic(
    make_backend: MakeBackend, balance: Balance, tmp_path: Path
) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    # Somebody holds the pipe open and never reads.
    descriptor = os.open(fifo, os.O_RDWR)
    try:
        headgate = balance(make_backend(), top={"access_log": {"path": str(fifo)}})
        with headgate.client() as client:
            for _ in range(2000):
                assert client.get("/" + "x" * 200).status == 200
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_status_page_answers_head_too(three: list[Backend], balance: Balance, method: str) -> None:
    headgate = balance(*three)
    answer = fetch(headgate.address, "/lb/status", method=method)
    assert answer.status == 200
    assert int(answer.header("content-length") or 0) > 50


def test_the_status_page_is_not_for_posting(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three)
    with Client(headgate.address) as client:
        assert client.request("POST", "/lb/status", body=b"x").status == 405


def test_a_line_has_the_chosen_fields(make_backend: MakeBackend, balance: Balance, tmp_path: Path) -> None:
    failing = make_backend(lambda connection: connection.reset() if connection.read() is not None else None, "failing")
    alive = make_backend(name="alive")
    log = tmp_path / "access.json"
    names = ["request_id", "route", "listener", "failed_attempts", "header:x-tenant", "user_agent", "status"]
    table = {"format": "json", "path": str(log), "fields": names}
    headgate = balance(failing, alive, top={"access_log": table}, breaker=False)
    headers = [("X-Tenant", 'a "b"\\'), ("x-tenant", "second"), ("User-Agent", "bell \xff")]
    assert headgate.get("/", headers).status == 200
    assert headgate.stop() == 0
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert list(line) == names
    assert line["request_id"] == alive.requests[0].header("x-request-id")
    assert (line["route"], line["listener"], line["status"]) == ("*/", headgate.port.bind, 200)
    assert line["failed_attempts"] == [{"backend": failing.url, "error": "reset"}]
    assert line["header:x-tenant"] == 'a "b"\\'
    assert line["user_agent"] == "bell \xff"


def test_a_sample_has_all_that_went_wrong(make_backend: MakeBackend, balance: Balance, tmp_path: Path) -> None:
    def answer(connection: Connection) -> None:
        for request in connection.each():
            connection.respond(b"x", status="500 No" if request.target == "/500" else "200 OK")

    logs = [tmp_path / "one.json", tmp_path / "other.json"]
    kept = []
    for log in logs:
        table = {"format": "json", "path": str(log), "sample": 0.2}
        top = {"access_log": table, "workers": 2}
        headgate = balance(make_backend(answer), top=top, listener={"trusted_proxies": ["127.0.0.0/8"]}, breaker=False)
        for worker in range(4):
            with headgate.client() as client:
                for number in range(50):
                    client.get("/200", [("X-Request-Id", f"good-{worker}-{number}")])
                client.get("/500", [("X-Request-Id", f"bad-{worker}")])
        assert headgate.stop() == 0
        kept.append({json.loads(line)["request_id"] for line in log.read_text().splitlines()})
    assert kept[0] == kept[1]
    assert {f"bad-{worker}" for worker in range(4)} <= kept[0]
    assert 15 < len(kept[0]) < 80
