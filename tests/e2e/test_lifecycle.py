"""Start and stop: what is printed, what is waited for, with which status it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from .conftest import Balance, MakeBackend, Run
from .harness import memory
from .harness.backends import Backend, Connection
from .harness.client import head
from .harness.headgate import COMMAND, configuration, pool
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.waiting import PATIENCE_S, eventually


class Held:
    """A backend's script that answers when it is told to."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def __call__(self, connection: Connection) -> None:
        for _ in connection.each():
            if not self.release.wait(PATIENCE_S):
                return
            connection.respond(b"finished")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_lets_requests_finish(make_backend: MakeBackend, balance: Balance, number: signal.Signals) -> None:
    held = Held()
    backend = make_backend(held)
    headgate = balance(backend)
    with headgate.client() as busy, headgate.client() as idle:
        held.release.set()
        assert idle.get().status == 200
        held.release.clear()
        busy.send(head("GET", "/slow"))
        backend.wait_requests(2)
        headgate.process.signal(number)
        # An idle connection is closed, nobody new gets in, and the one in flight is waited for.
        assert idle.closed_by_peer()
        eventually(lambda: not headgate.port.accepts(), "the listener to close")
        assert headgate.process.running
        held.release.set()
        answer = busy.response()
        assert (answer.status, answer.body) == (200, b"finished")
        assert busy.closed_by_peer()
    assert headgate.process.wait_exit() == 0


def test_a_second_signal_ends_at_once(make_backend: MakeBackend, balance: Balance) -> None:
    held = Held()
    backend = make_backend(held)
    headgate = balance(backend)
    with headgate.client() as busy:
        busy.send(head("GET", "/slow"))
        backend.wait_requests(1)
        headgate.process.signal(signal.SIGTERM)
        eventually(lambda: not headgate.port.accepts(), "the listener to close")
        started = time.monotonic()
        headgate.process.signal(signal.SIGTERM)
        assert headgate.process.wait_exit() == 0
        assert time.monotonic() - started < 5
        assert busy.closed_by_peer()
    held.release.set()


def test_the_drain_has_an_end(make_backend: MakeBackend, balance: Balance, tmp_path: Path) -> None:
    """What is under way then is cut off, and said to be: by us, not by the backend, nor by the client."""

    def serve(connection: Connection) -> None:
        for request in connection.each():
            if request.target == "/download":
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
            connection.wait_ended()

    backend = make_backend(serve)
    log = tmp_path / "access.json"
    top = {"supervisor": {"drain": "500ms"}, "access_log": {"format": "json", "path": str(log)}}
    headgate = balance(backend, top=top)
    with headgate.client() as loads, headgate.client() as waits:
        loads.send(head("GET", "/download"))
        assert loads.reader.response_head().status == 200
        assert loads.reader.exactly(5) == b"begun"
        waits.send(head("POST", "/order"))
        backend.wait_requests(2)
        assert headgate.stop(5) == 0
        answer = waits.response()
        assert (answer.status, answer.json()["reason"]) == (503, "drain_deadline")
        assert waits.closed_by_peer()
        assert loads.closed_by_peer()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {(line["path"], line["status"], line["error"]) for line in lines} == {
        ("/download", 200, "drain_deadline"),
        ("/order", 503, "drain_deadline"),
    }


def test_nothing_is_left_behind(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend(), top={"workers": 2})
    workers = headgate.workers()
    assert len(workers) == 2
    assert headgate.stop() == 0
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers to be gone")


def test_a_killed_supervisor_takes_its_workers_along(make_backend: MakeBackend, balance: Balance) -> None:
    headgate = balance(make_backend())
    workers = headgate.workers()
    os.kill(headgate.process.pid, signal.SIGKILL)
    eventually(lambda: not headgate.port.accepts(), "the listener to close")
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers to be gone")


def test_two_workers_share_the_load(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, strategy="least_connections", top={"workers": 2})
    clients = [headgate.client() for _ in range(40)]
    for _ in range(5):
        for client in clients:
            client.send(head("GET", "/"))
        for client in clients:
            assert client.response().status == 200
    for client in clients:
        client.close()
    assert sum(backend["totalRequests"] for backend in headgate.status()) == 200
    assert headgate.stop() == 0


def test_a_dead_worker_is_replaced(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three)
    (worker,) = headgate.workers()
    os.kill(worker, signal.SIGKILL)
    started = time.monotonic()
    assert headgate.get().status == 200
    assert time.monotonic() - started < 2
    (replacement,) = headgate.workers()
    assert replacement != worker
    assert headgate.stop() == 0


def test_ctrl_c_reaches_the_whole_group_and_still_drains(make_backend: MakeBackend, balance: Balance) -> None:
    held = Held()
    backend = make_backend(held)
    headgate = balance(backend)
    with headgate.client() as busy:
        busy.send(head("GET", "/slow"))
        backend.wait_requests(1)
        # What a terminal does: the signal goes to every process of the group.
        os.killpg(headgate.process.pid, signal.SIGINT)
        eventually(lambda: not headgate.port.accepts(), "the listener to close")
        held.release.set()
        assert busy.response().status == 200
    assert headgate.process.wait_exit() == 0


def test_a_port_in_use_is_named_with_its_holder(make_backend: MakeBackend, run: Run, port: HeldPort) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(port.address)
        holder.listen()
        headgate = run(configuration(port, {"web": pool(make_backend().url)}), ready=False)
        assert headgate.process.wait_exit() == 3
    said = headgate.process.stderr.text
    own_name = Path("/proc/self/comm").read_text().strip()
    assert port.bind in said
    assert own_name in said
    assert str(os.getpid()) in said
    assert "Traceback" not in said


def test_the_summary_says_what_listens_and_what_is_up(three: list[Backend], balance: Balance, port: HeldPort) -> None:
    three[2].stop()
    headgate = balance(*three, health={"type": "tcp", "interval": "1s", "fall": 1})
    headgate.wait_health(three[2].url, False)
    (pool_line,) = headgate.process.stderr.wait_for(r"\bpool web\b")
    said = headgate.process.stderr.text
    assert port.bind in said
    assert "2 of 3" in pool_line
    # What is up needs no line of its own, what is not does.
    assert three[2].url in said
    assert len(said.splitlines()) < 10


def test_a_restart_on_the_same_port_at_once(make_backend: MakeBackend, run: Run, port: HeldPort) -> None:
    config = configuration(port, {"web": pool(make_backend().url)})
    for _ in range(3):
        headgate = run(config)
        with headgate.client() as client:
            assert client.get().status == 200
            assert headgate.stop() == 0


def test_memory_and_descriptors_return_after_a_burst(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend()
    headgate = balance(backend, timeouts={"keepalive": "200ms"})
    headgate.get()
    (worker,) = headgate.workers()
    before = memory.open_descriptors(worker)
    for _ in range(3):
        clients = [headgate.client() for _ in range(200)]
        for client in clients:
            client.send(head("GET", "/"))
        for client in clients:
            assert client.response().status == 200
            client.close()
    eventually(lambda: memory.open_descriptors(worker) <= before, "the descriptors to be closed")


def test_the_listener_opens_on_ipv6(processes: Processes, make_backend: MakeBackend, tmp_path: Path) -> None:
    try:
        port = HeldPort("::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with port:
        process = processes.start([*COMMAND, "proxy", "--listen", port.bind, "--to", make_backend().url])
        eventually(lambda: port.accepts() or not process.running, "the listener to open")
        assert process.running, process.output
