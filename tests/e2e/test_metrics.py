"""Every figure of /metrics against what a client counted: with one worker and four, through a worker's death, over a
reload and an upgrade."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from headgate.cli.admin_client import Connection as AdminConnection

from .conftest import MakeBackend, Run
from .harness.backends import Backend, Connection
from .harness.client import Client, head
from .harness.headgate import Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.waiting import PATIENCE_S, eventually
from .harness.wire import Incomplete

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Metrics:
    """/metrics of one balancer. Remembers every counter it saw: none may go back."""

    def __init__(self, directory: Path) -> None:
        self._path = str(directory / "admin.sock")
        self._seen: Samples = {}

    def _text(self) -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(self._path)
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = b"".join(iter(lambda: sock.recv(65536), b""))
        status, _, text = said.partition(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200 "), said[:200]
        return text.decode()

    def page(self) -> Samples:
        """All samples of one scrape."""
        found: Samples = {}
        for family in parse(self._text()):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in found, key
                found[key] = sample.value
                if family.type in ("counter", "histogram"):
                    assert sample.value >= self._seen.get(key, 0), key
        self._seen.update(found)
        return found

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples of this name that have these labels."""
        return total(self.page(), name, **labels)


def total(page: Samples, name: str, **labels: str) -> float:
    """Of all samples of this name that have these labels."""
    wanted = labels.items()
    found = [value for (sample, has), value in page.items() if sample == name and wanted <= has]
    assert found, (name, labels)
    return sum(found)


def answer(connection: Connection) -> None:
    """Says what its path asks for: /status/404, /bytes/1000; reads what it is sent."""
    for request in connection.each():
        word, number = request.target.strip("/").split("/")[-2:]
        size = int(number) if word == "bytes" else 10
        connection.respond(b"x" * size, status=f"{number if word == 'status' else 200} Said")


@pytest.fixture
def backends(make_backend: MakeBackend) -> list[Backend]:
    return [make_backend(answer, name) for name in "ab"]


def settle(metrics: Metrics, ended: int) -> Samples:
    """The page once so many have ended: a client has its answer a moment before that is counted."""
    eventually(lambda: metrics.sum("headgate_requests_total") >= ended, f"{ended} requests to be counted")
    return metrics.page()


ASKED: Sequence[tuple[str, str, int]] = (
    ("/app/status/200", "GET", 0),
    ("/app/bytes/5000", "GET", 0),
    ("/app/status/404", "GET", 0),
    ("/api/status/301", "GET", 0),
    ("/api/bytes/20", "POST", 300),
    ("/api/status/500", "POST", 7),
    ("/nowhere", "GET", 0),
)


def ask(headgate: Headgate, rounds: int, clients: int) -> tuple[Counter[str], Counter[str], int, int]:
    """Returns what was answered, by class and by first segment of the path, and body bytes to and from the balancer."""
    classes: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    sent = received = 0
    lock = threading.Lock()

    def one() -> None:
        nonlocal sent, received
        with headgate.client() as client:
            for _ in range(rounds):
                for target, method, size in ASKED:
                    response = client.request(method, target, body=b"b" * size if size else None)
                    with lock:
                        classes[f"{response.status // 100}xx"] += 1
                        paths[target.split("/")[1]] += 1
                        sent += size
                        received += len(response.body)

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return classes, paths, sent, received


def config(port: HeldPort, directory: Path, backends: Sequence[Backend], workers: int) -> dict[str, object]:
    return configuration(
        port,
        {"web": pool(backends[0].url, breaker=False), "api": pool(backends[1].url, breaker=False)},
        workers=workers,
        admin={"bind": f"unix:{directory}/admin.sock"},
        access_log={"format": "off"},
        routes=[{"pool": "web", "path_prefix": "/app"}, {"pool": "api", "path_prefix": "/api"}],
    )


@pytest.mark.parametrize("workers", [1, 4])
def test_it_says_what_a_client_counted(
    run: Run, port: HeldPort, tmp_path: Path, backends: list[Backend], workers: int
) -> None:
    headgate = run(config(port, tmp_path, backends, workers))
    metrics = Metrics(tmp_path)
    classes, paths, sent, received = ask(headgate, rounds=5, clients=8)
    ended = classes.total()
    page = settle(metrics, ended)

    assert total(page, "headgate_requests_begun_total") == ended
    assert total(page, "headgate_requests_in_flight") == 0
    for name in ("headgate_requests_total", "headgate_responses_total", "headgate_listener_requests_total"):
        assert total(page, name) == ended, name
    for digit in "12345":
        name = f"{digit}xx"
        assert total(page, "headgate_responses_total", **{"class": name}) == classes[name]
        assert total(page, "headgate_listener_requests_total", listener=port.bind, **{"class": name}) == classes[name]
    assert total(page, "headgate_requests_total", outcome="no_route") == paths["nowhere"]
    assert total(page, "headgate_client_received_bytes_total") == sent
    assert total(page, "headgate_client_sent_bytes_total") == received
    assert total(page, "headgate_client_connections_accepted_total") == 8 + (1 if workers else 0)  # and wait_ready's
    assert total(page, "headgate_workers") == workers
    per_worker = total(page, "headgate_worker_requests_begun_total")
    assert per_worker == ended
    for name, backend, path in (("web", backends[0], "app"), ("api", backends[1], "api")):
        count = paths[path]
        assert total(page, "headgate_pool_requests_total", pool=name) == count == len(backend.requests)
        assert total(page, "headgate_route_requests_total", route=f"*/{path}") == count
        for histogram in ("headgate_pool_request_duration_seconds", "headgate_pool_first_byte_seconds"):
            assert total(page, f"{histogram}_count", pool=name) == count
            assert total(page, f"{histogram}_bucket", pool=name, le="+Inf") == count
        assert total(page, "headgate_route_request_duration_seconds_count", route=f"*/{path}") == count
        assert total(page, "headgate_backend_attempts_total", pool=name) == count
        assert total(page, "headgate_backend_responses_total", pool=name) == count
        opened = total(page, "headgate_backend_connections_opened_total", pool=name)
        assert opened + total(page, "headgate_backend_connections_reused_total", pool=name) == count
        assert total(page, "headgate_backend_requests_in_flight", pool=name) == 0
    assert total(page, "headgate_backend_responses_total", pool="web", **{"class": "4xx"}) == 40
    assert total(page, "headgate_backend_responses_total", pool="api", **{"class": "5xx"}) == 40
    assert total(page, "headgate_backend_sent_bytes_total") == sent
    assert total(page, "headgate_backend_sent_bytes_total", pool="api") == sent
    processes = {dict(labels)["process"] for name, labels in page if name == "headgate_process_start_time_seconds"}
    assert processes == {"supervisor", *(f"worker-{number}" for number in range(workers))}


@pytest.mark.parametrize("workers", [1, 4])
def test_nothing_goes_back_or_leaks_as_a_worker_dies(
    run: Run, port: HeldPort, tmp_path: Path, make_backend: MakeBackend, stack: ExitStack, workers: int
) -> None:
    release = threading.Event()
    stack.callback(release.set)

    def hold(connection: Connection) -> None:
        for request in connection.each():
            if "hold" in request.target:
                assert release.wait(PATIENCE_S)
            connection.respond(b"0123456789")

    backend = make_backend(hold, "a")
    headgate = run(config(port, tmp_path, [backend, backend], workers))
    metrics = Metrics(tmp_path)
    with headgate.client() as client:
        for _ in range(20):
            assert client.get("/app/x/y").status == 200
    before = settle(metrics, 20)
    held = [stack.enter_context(headgate.client()) for _ in range(12)]
    for client in held:
        client.send(head("GET", "/app/hold/y"))
    backend.wait_requests(20 + len(held))
    eventually(lambda: metrics.sum("headgate_requests_in_flight") == 12, "all to be under way")
    assert metrics.sum("headgate_backend_requests_in_flight", pool="web") == 12
    assert metrics.sum("headgate_client_connections") == 12

    victim = headgate.workers()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: metrics.sum("headgate_worker_deaths_total") == 1, "the death to be noticed")
    lost = int(metrics.sum("headgate_requests_lost_total"))
    if workers == 1:
        assert lost == 12
    eventually(lambda: metrics.sum("headgate_workers") == workers, "another worker")
    eventually(lambda: victim not in headgate.workers() and len(headgate.workers()) == workers, "another process")
    release.set()
    answered = 0
    for client in held:
        with suppress(ConnectionError, Incomplete):
            answered += client.response().status == 200
        client.close()
    assert answered == 12 - lost
    after = settle(metrics, 20 + answered)
    assert total(after, "headgate_requests_begun_total") == 32
    assert total(after, "headgate_requests_total", outcome="ok") == 20 + answered
    assert total(after, "headgate_pool_requests_total", pool="web", **{"class": "2xx"}) == 20 + answered
    assert total(after, "headgate_requests_in_flight") == 0
    assert total(after, "headgate_backend_requests_in_flight") == 0
    assert total(after, "headgate_worker_starts_total") == total(before, "headgate_worker_starts_total") + 1
    eventually(lambda: metrics.sum("headgate_client_connections") == 0, "no connection to be counted any more")
    # The connections that the dead worker kept are gone, too.
    kept = metrics.sum("headgate_backend_connections", pool="web")
    assert kept == metrics.sum("headgate_backend_idle_connections", pool="web") <= 12 - lost + 1


def test_counters_go_on_over_a_reload_and_an_upgrade(
    run: Run, port: HeldPort, tmp_path: Path, backends: list[Backend]
) -> None:
    headgate = run(config(port, tmp_path, backends, 1))
    metrics = Metrics(tmp_path)

    def count(expected: int) -> Samples:
        assert headgate.get("/app/status/200").status == 200
        page = settle(metrics, expected)
        assert total(page, "headgate_route_requests_total", route="*/app") == expected
        assert total(page, "headgate_listener_requests_total", listener=port.bind) == expected
        assert total(page, "headgate_pool_first_byte_seconds_count", pool="web") == expected
        return page

    count(1)
    tree = config(port, tmp_path, backends, 1)
    tree["routes"] = [{"pool": "api"}, {"pool": "web", "path_prefix": "/app"}]
    (tmp_path / "headgate.json").write_text(json.dumps(tree))
    headgate.process.signal(signal.SIGHUP)
    eventually(lambda: metrics.sum("headgate_config_reloads_total", result="ok") == 1, "the reload")
    page = count(2)
    assert ("headgate_route_requests_total", frozenset({("route", "*/api"), ("class", "2xx")})) not in page
    assert total(page, "headgate_route_requests_total", route="*/") == 0
    (tmp_path / "headgate.json").write_text("{")
    headgate.process.signal(signal.SIGHUP)
    eventually(lambda: metrics.sum("headgate_config_last_reload_successful") == 0, "the refusal")
    assert metrics.sum("headgate_config_reloads_total", result="refused") == 1

    (tmp_path / "headgate.json").write_text(json.dumps(tree))
    headgate.process.signal(signal.SIGUSR2)
    headgate.wait_upgraded()
    eventually(lambda: upgraded(metrics), "the upgrade")
    page = count(3)
    assert total(page, "headgate_config_reloads_total", result="ok") == 1
    assert total(page, "headgate_config_last_reload_successful") == 1
    assert total(page, "headgate_requests_lost_total") == 0


def upgraded(metrics: Metrics) -> bool:
    try:
        return metrics.sum("headgate_upgrades_total") == 1
    except (OSError, AssertionError):
        return False  # the one before was just asked, and is gone


def test_what_a_drains_deadline_cut_off_has_a_word_of_its_own(
    run: Run, port: HeldPort, tmp_path: Path, make_backend: MakeBackend
) -> None:
    """Of the workers that an upgrade replaced, and of a backend. Nobody's failure, whatever the breaker looks at."""

    def serve(connection: Connection) -> None:
        for _ in connection.each():
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
            connection.wait_ended()

    slow = make_backend(serve)
    tree = config(port, tmp_path, [slow, slow], 1)
    tree["pools"] = {"web": pool(slow.url, breaker={"failure_threshold": 1})}
    tree["routes"] = [{"pool": "web"}]
    tree["supervisor"] = {"retire": "300ms"}
    headgate = run(tree)
    metrics = Metrics(tmp_path)

    def download() -> Client:
        client = headgate.client()
        client.send(head("GET", "/app"))
        assert client.reader.response_head().status == 200
        assert client.reader.exactly(5) == b"begun"
        return client

    def cut_off(count: int) -> None:
        eventually(
            lambda: metrics.sum("headgate_requests_total", outcome="drain_deadline", source="internal") == count,
            f"{count} downloads to be cut off",
        )
        page = metrics.page()
        assert total(page, "headgate_requests_total", outcome="reset") == 0
        assert total(page, "headgate_requests_total", outcome="client_gone") == 0
        assert total(page, "headgate_backend_attempts_failed_total") == 0

    with download() as client:
        headgate.process.signal(signal.SIGUSR2)
        eventually(lambda: upgraded(metrics), "the upgrade")
        assert client.closed_by_peer()
        cut_off(1)
    with download() as client:
        admin = AdminConnection(f"unix:{tmp_path}/admin.sock")
        admin.post("pools", "web", "backends", slow.url, "drain", body={"deadline": 0.1})
        assert client.closed_by_peer()
        cut_off(2)
