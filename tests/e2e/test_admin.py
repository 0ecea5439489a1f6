"""The admin API and the commands against a real balancer with real workers."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from headgate.admin.table import TABLE
from headgate.cli.admin_client import Connection
from headgate.cli.common import CommandError

from .conftest import Balance, MakeBackend, Run
from .harness.backends import Backend, echo
from .harness.client import fetch
from .harness.headgate import COMMAND, TOKEN, Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.processes import Process, Processes
from .harness.waiting import PATIENCE_S, eventually


def command(processes: Processes, admin: Connection, *words: str) -> Process:
    """Run one command to its end."""
    process = processes.start([*COMMAND, words[0], "--admin", admin.address, *words[1:]])
    process.wait_exit()
    return process


class Clients:
    """Keep-alive clients that ask all the time, and count what went wrong."""

    def __init__(self, headgate: Headgate, count: int = 4) -> None:
        self.failed: list[str] = []
        self.answered = 0
        self._stop = threading.Event()
        self._headgate = headgate
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        try:
            with self._headgate.client() as client:
                while not self._stop.is_set():
                    response = client.get()
                    if response.status != 200 or response.body not in (b"a", b"b", b"c"):
                        self.failed.append(f"{response.status} {response.body!r}")
                    self.answered += 1
        except Exception as error:
            self.failed.append(repr(error))

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


def begun(admin: Connection) -> dict[int, int]:
    """Requests so far by worker, of those workers that have clients."""
    return {row["worker"]: row["requests"] for row in admin.get("connections")["workers"] if row["connections"]}


def a_few_more(admin: Connection, requests: int = 12) -> None:
    """Wait until every worker that has clients has begun some more requests."""
    before = begun(admin)
    eventually(
        lambda: all(count >= before.get(worker, 0) + requests for worker, count in begun(admin).items()),
        "the workers to go on",
        interval_s=0.002,
    )


def test_a_hundred_changes_under_load(
    balance: Balance, three: list[Backend], place: dict[str, object], admin: Connection
) -> None:
    """Row 45: none fails; what is drained gets nothing new 100 ms later."""
    headgate = balance(*three, strategy="least_connections", top={"workers": 2, "admin": place})
    names = [row["name"] for row in admin.get("backends")]
    turns = cycle([("drain", None), ("enable", None), ("weight", 7), ("weight", 1)])
    with Clients(headgate) as clients:
        eventually(lambda: clients.answered > 20 or clients.failed, "the load to begin")
        for number, (what, weight) in enumerate(islice(turns, 100)):
            path = ("pools", "web", "backends", names[number // 4 % 3])
            if weight is not None:
                done = admin.put(*path, "weight", body={"weight": weight})
            else:
                done = admin.post(*path, what)
            assert (done["applied"], done["warning"]) == (True, "")
            if what == "drain":
                time.sleep(0.1)
                # A worker that the machine holds up in the middle of a pick may be late by as long as that lasts.
                a_few_more(admin, 2)
                settled = admin.get(*path)["totalRequests"]
                a_few_more(admin)
                assert admin.get(*path)["totalRequests"] == settled, f"{path[-1]} got sessions while it was draining"
            elif what == "enable":
                assert done["backend"]["state"] == "up"
    assert clients.failed == []
    assert clients.answered > 500


def test_backends_are_added_and_removed_under_load(
    balance: Balance, three: list[Backend], place: dict[str, object], admin: Connection
) -> None:
    headgate = balance(three[0], top={"workers": 2, "admin": place})
    with Clients(headgate) as clients:
        for _ in range(5):
            for backend in three[1:]:
                added = admin.post("pools", "web", "backends", body={"url": backend.url, "name": backend.name})
                assert added["applied"]
            a_few_more(admin)
            for backend in three[1:]:
                admin.delete("pools", "web", "backends", backend.name)
    assert clients.failed == []
    assert all(backend.requests for backend in three)


def test_a_listener_never_answers_admin_paths(
    make_backend: MakeBackend, balance: Balance, place: dict[str, object]
) -> None:
    headgate = balance(make_backend(echo), listener={"status_path": False}, top={"admin": place})
    for endpoint in TABLE.endpoints:
        path = re.sub(r"\{\w+\}", "web", endpoint.path)
        response = fetch(headgate.address, path, method=endpoint.method)
        # The application's answer: what arrived there is what was asked.
        assert response.json()["target"] == path
        assert response.json()["method"] == endpoint.method


def test_over_tcp_with_a_token_that_is_in_no_log(
    make_backend: MakeBackend, balance: Balance, processes: Processes, tmp_path: Path
) -> None:
    with HeldPort() as port:
        headgate = balance(make_backend(), top={"admin": {"bind": port.bind, "token": TOKEN}})
        admin = Connection(f"http://{port.bind}", TOKEN)
        assert admin.get("status")["ready"] is True
        assert fetch(port.address, "/livez").status == 200
        assert fetch(port.address, "/readyz").body == b"ready\n"
        assert fetch(port.address, "/status", [("Host", "localhost")]).status in (400, 401, 421)
        for wrong in ("nonsense", TOKEN + "x"):
            with pytest.raises(CommandError, match="token"):
                Connection(f"http://{port.bind}", wrong).get("status")
        admin.put("log-level", body={"level": "debug"})
        admin.post("reload")
        assert TOKEN not in json.dumps(admin.get("config"))
        assert headgate.stop() == 0
        assert TOKEN not in headgate.process.output
        # Nor where every user of the machine could read it.
        shown = processes.run([*COMMAND, "--help"]).output
        assert TOKEN not in shown


def test_the_socket_is_ours_alone_and_goes_away(
    make_backend: MakeBackend, balance: Balance, place: dict[str, object], admin: Connection
) -> None:
    headgate = balance(make_backend(), top={"admin": place})
    path = Path(str(place["bind"]).removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert headgate.stop() == 0
    assert not path.exists()


def test_two_at_the_same_address_cannot_be(
    make_backend: MakeBackend, balance: Balance, processes: Processes, place: dict[str, object], tmp_path: Path
) -> None:
    balance(make_backend(), top={"admin": place})
    other = tmp_path / "other.json"
    with HeldPort() as port:
        other.write_text(json.dumps(configuration(port, {"web": pool("http://127.0.0.1:1")}, admin=place)))
        process = processes.start([*COMMAND, "run", "-c", other])
        assert process.wait_exit() == 3
        assert f"cannot bind {place['bind']}: already in use by process" in process.stderr.text


def test_unready_before_the_end(
    make_backend: MakeBackend, balance: Balance, place: dict[str, object], admin: Connection
) -> None:
    """While requests in flight are waited for, the API still answers, and says so."""
    released = threading.Event()

    def slow(connection: Any) -> None:
        for _ in connection.each():
            released.wait(PATIENCE_S)
            connection.respond(b"late")

    headgate = balance(make_backend(slow), top={"admin": place})
    path = str(place["bind"]).removeprefix("unix:")
    with headgate.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: admin.get("status")["totals"]["inFlight"] == 1, "the request to be in flight")
        assert fetch(path, "/readyz").status == 200
        headgate.process.signal(signal.SIGTERM)
        eventually(lambda: fetch(path, "/readyz").status == 503, "the end to be told")
        assert fetch(path, "/livez").status == 200
        assert admin.get("status")["ready"] is False
        released.set()
        assert client.response().body == b"late"
    assert headgate.process.wait_exit() == 0


def test_reload_by_command(
    run: Run,
    port: HeldPort,
    processes: Processes,
    three: list[Backend],
    place: dict[str, object],
    admin: Connection,
    tmp_path: Path,
) -> None:
    headgate = run(configuration(port, {"web": pool(three[0].url)}, admin=place))
    path = tmp_path / "headgate.json"
    assert set(headgate.names(3)) == {"a"}
    path.write_text(json.dumps(configuration(port, {"web": pool(three[1].url)}, admin=place)))
    planned = command(processes, admin, "plan")
    assert f"+ pool web, backend {three[1].url}: is added" in planned.stdout.text
    assert set(headgate.names(3)) == {"a"}
    done = command(processes, admin, "reload")
    assert "reloaded" in done.stdout.text
    assert set(headgate.names(3)) == {"b"}
    path.write_text(json.dumps({"pools": {"web": {"backends": ["nonsense"], "strateg": 1}}, "admin": place}))
    refused = command(processes, admin, "reload")
    assert refused.wait_exit() == 2
    assert len(refused.stderr.text.splitlines()) == 3
    assert set(headgate.names(3)) == {"b"}
    assert [event["what"] for event in admin.get("events", limit=2)["events"]] == ["reloaded", "reload refused"]


def test_changes_survive_a_restart_where_a_state_file_keeps_them(
    run: Run, port: HeldPort, three: list[Backend], place: dict[str, object], admin: Connection, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    config = configuration(
        port, {"web": pool(*(backend.url for backend in three[:2]))}, admin={**place, "state_file": str(state)}
    )
    headgate = run(config)
    admin.post("pools", "web", "backends", body={"url": three[2].url, "name": "c"})
    assert admin.post("pools", "web", "backends", three[0].url, "disable")["saved"] is True
    admin.put("pools", "web", "strategy", body={"name": "p2c"})
    headgate.process.kill()  # not even a chance to write something at the end
    headgate = run(config)
    assert set(headgate.names(20)) == {"b", "c"}
    assert admin.get("pools", "web")["strategy"] == "p2c"
    assert [row["changed"] for row in admin.get("backends")] == [["disabled"], [], ["added"]]
    assert headgate.stop() == 0

    text = state.read_text()
    state.write_text(text[: len(text) // 2])
    headgate = run(config, ready=False)
    assert headgate.process.wait_exit() == 2
    assert f"{state}: not a state file" in headgate.process.stderr.text
    assert state.read_text() == text[: len(text) // 2]


def test_a_drained_listener_refuses_and_comes_back(
    balance: Balance, three: list[Backend], place: dict[str, object], admin: Connection, port: HeldPort
) -> None:
    headgate = balance(*three, top={"workers": 2, "admin": place})
    with headgate.client() as kept:
        assert kept.get().status == 200
        admin.post("listeners", port.bind, "drain")
        eventually(lambda: not port.accepts(), "the port to be closed")
        assert admin.get("status")["listeners"] == [{"bind": port.bind, "state": "draining"}]
        assert kept.get().status == 200  # an open connection goes on
        admin.post("listeners", port.bind, "open")
    assert headgate.get().status == 200
    assert admin.get("status")["listeners"] == [{"bind": port.bind, "state": "open"}]


def test_a_slow_admin_client_delays_nobody(
    balance: Balance, three: list[Backend], place: dict[str, object], admin: Connection
) -> None:
    """Connections that say nothing are held open up to the limit and beyond; traffic and checks go on."""
    headgate = balance(*three, top={"admin": place}, health={"interval": "100ms"})
    path = str(place["bind"]).removeprefix("unix:")
    with contextlib.ExitStack() as held:
        for _ in range(100):
            sock = held.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(PATIENCE_S)
            sock.connect(path)
            sock.sendall(b"GET /sta")
        assert set(headgate.names(3)) == {"a", "b", "c"}
        three[0].close()
        eventually(lambda: not headgate.backend(three[0].url)["healthy"], "the dead backend to be seen")
    assert eventually(lambda: fetch(path, "/livez").status == 200, "the API to answer again")


@contextlib.contextmanager
def terminal(argv: list[str], rows: int, columns: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program on a terminal of its own: its process, and our end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def seen(terminal: int, wanted: bytes) -> bytes:
    """What the program has written, once that is among it."""
    text = b""
    deadline = time.monotonic() + PATIENCE_S
    while wanted not in text:
        assert time.monotonic() < deadline, text
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 65536)
    return text


def test_top_on_a_terminal(balance: Balance, three: list[Backend], place: dict[str, object], admin: Connection) -> None:
    balance(*three, top={"admin": place})
    argv = [*COMMAND, "top", "--admin", admin.address]
    with terminal(argv, 24, 80) as (process, ours):
        before = termios.tcgetattr(ours)
        assert b"\x1b[?1049h" in seen(ours, b"q quit")
        assert termios.tcgetattr(ours)[3] & termios.ECHO == 0
        # A smaller window: the picture is drawn anew, and fits.
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 30, 0, 0))
        process.send_signal(signal.SIGWINCH)  # the terminal tells its own session's leader; this makes it certain
        picture = seen(ours, "…".encode())
        os.write(ours, b"s")
        seen(ours, b"s sort: rate")
        os.write(ours, b"q")
        assert b"\x1b[?1049l" in seen(ours, b"\x1b[?1049l")
        assert process.wait(PATIENCE_S) == 0
        assert termios.tcgetattr(ours)[3] == before[3]
        assert picture
    with terminal(argv, 24, 80) as (process, ours):
        seen(ours, b"q quit")
        process.send_signal(signal.SIGTERM)
        seen(ours, b"\x1b[?1049l")
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
