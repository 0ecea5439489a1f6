"""What operators do, with real processes: reloads that do harm, upgrades, signals."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import stat
import threading
from pathlib import Path
from typing import Any

from headgate.cli.admin_client import Connection
from headgate.cli.common import CommandError

from .conftest import MakeBackend, Run
from .harness.backends import Backend
from .harness.backends import Connection as FromBalancer
from .harness.client import Client
from .harness.headgate import TOKEN, configuration, pool
from .harness.ports import HeldPort
from .harness.waiting import PATIENCE_S, eventually


def rewrite(path: Path, config: dict[str, object]) -> None:
    path.write_text(json.dumps(config))


def test_a_reload_that_does_harm_is_taken_back(
    run: Run,
    port: HeldPort,
    three: list[Backend],
    make_backend: MakeBackend,
    place: dict[str, object],
    admin: Connection,
    tmp_path: Path,
) -> None:
    def fails(connection: FromBalancer) -> None:
        for _ in connection.each():
            connection.respond(b"no", status="500 Internal Server Error")

    failing = make_backend(fails)
    supervisor = {"rollback": {"within": "60s", "errors": 0.3, "requests": 10}}

    def config(backend: Backend, **pool_keys: object) -> dict[str, object]:
        return configuration(
            port, {"web": pool(backend.url, **pool_keys)}, admin=place, supervisor=supervisor, workers=2
        )

    headgate = run(config(three[0]))
    path = tmp_path / "headgate.json"
    assert set(headgate.names(30)) == {"a"}
    rewrite(path, config(failing, breaker={"failure_threshold": 256}))
    assert admin.post("reload")["changes"]
    # Enough requests to judge by; the supervisor looks twice a second.
    assert {headgate.get().status for _ in range(12)} == {500}
    eventually(lambda: headgate.get().status == 200, "the old configuration to come back")
    assert set(headgate.names(10)) == {"a"}
    assert "the old configuration comes back; the file still has the new one" in headgate.process.stderr.text
    (event,) = [event for event in admin.get("events")["events"] if event["what"] == "reload taken back"]
    assert "requests failed in the" in event["reason"]
    # What the file has now would do the same again, and the plan says what.
    planned = [change["text"] for change in admin.post("plan")["changes"]]
    assert any("is added" in text for text in planned), planned
    # One that does no harm stays.
    rewrite(path, config(three[1]))
    admin.post("reload")
    assert set(headgate.names(30)) == {"b"}
    assert headgate.stop() == 0
    assert headgate.process.stderr.text.count("the old configuration comes back") == 1


class Asking:
    """The admin API asked all the time, from some threads: what went wrong, and how often it answered."""

    def __init__(self, *asks: Any) -> None:
        self.failed: list[str] = []
        self.answered = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(ask,)) for ask in asks]

    def _ask(self, ask: Any) -> None:
        while not self._stop.is_set():
            try:
                ask()
                self.answered += 1
            except Exception as error:
                self.failed.append(repr(error))
                return

    def goes_on(self) -> None:
        before = self.answered
        eventually(lambda: self.failed or self.answered > before + 20, "answers")

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


def test_the_admin_api_goes_on_over_an_upgrade(
    run: Run, port: HeldPort, three: list[Backend], place: dict[str, object], admin: Connection, tmp_path: Path
) -> None:
    """Same place, same changes, and whoever asks meanwhile is answered."""
    settings = {**place, "state_file": str(tmp_path / "state.json")}
    config = configuration(port, {"web": pool(*(backend.url for backend in three[:2]))}, workers=2, admin=settings)
    headgate = run(config)
    admin.post("pools", "web", "backends", body={"url": three[2].url, "name": "c"})
    admin.post("pools", "web", "backends", three[0].url, "drain")
    admin.put("pools", "web", "strategy", body={"name": "p2c"})
    pid = admin.get("status")["pid"]
    file = tmp_path / "admin.sock"
    before = file.stat().st_ino
    weights = itertools.cycle(range(1, 200))
    last = 0

    def change() -> None:
        nonlocal last
        last = next(weights)
        admin.put("pools", "web", "backends", three[1].url, "weight", body={"weight": last})

    with Asking(lambda: admin.get("status"), change) as asking:
        asking.goes_on()
        headgate.process.signal(signal.SIGUSR2)
        headgate.wait_upgraded()
        workers = eventually(lambda: admin.get("status")["workers"], "the new workers")
        asking.goes_on()
    assert asking.failed == []
    assert file.stat().st_ino == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    status = admin.get("status")
    assert status["pid"] == pid
    assert len(workers) == 2
    rows = {row["name"]: row for row in status["backends"]}
    assert rows[three[0].url]["state"] == "draining"
    assert rows["c"]["changed"] == ["added"]
    assert rows[three[1].url]["weight"] == last, "an answered change is lost"
    assert status["pools"][0]["strategy"] == "p2c"
    assert "a" not in headgate.names(20)
    # And they are still those of the state file.
    headgate.process.kill()
    # Its workers end once they notice. Until then they answer in place of the next one, which may have no API yet.
    eventually(lambda: not port.accepts(), "the workers of the killed one to end")
    headgate = run(config)
    assert {row["name"]: row["weight"] for row in admin.get("backends")}[three[1].url] == last
    assert headgate.stop() == 0


def test_after_an_upgrade_as_many_workers_as_there_are_are_counted(
    run: Run, port: HeldPort, three: list[Backend]
) -> None:
    """The admin API is on TCP here: that, too, goes along."""
    with HeldPort() as place:
        admin = Connection(f"http://{place.bind}", TOKEN)
        settings = {"bind": place.bind, "token": TOKEN}
        headgate = run(configuration(port, {"web": pool(three[0].url)}, workers=2, admin=settings))
        assert headgate.get("/lb/status").json()["workers"] == 2
        before = headgate.get("/lb/status").json()["totals"]["requests"]
        headgate.process.signal(signal.SIGUSR2)
        headgate.wait_upgraded()
        headgate.process.stderr.wait_for("have finished")
        page = headgate.get("/lb/status").json()
        assert page["workers"] == 2
        assert page["totals"]["requests"] > before, "the counters begin anew"
        assert len(admin.get("status")["workers"]) == 2
        # One fewer, one more: the same.
        headgate.process.signal(signal.SIGTTOU)
        eventually(lambda: len(headgate.workers()) == 1, "one to finish")
        eventually(lambda: headgate.get("/lb/status").json()["workers"] == 1, "one to be counted")
        headgate.process.signal(signal.SIGTTIN)
        eventually(lambda: headgate.get("/lb/status").json()["workers"] == 2, "two to be counted")
        assert headgate.stop() == 0


class Storm:
    """Clients that connect anew for each request: what became of those who were told that they are connected."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self.address = address
        self.failed: list[str] = []
        self.answered = self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        while not self._stop.is_set():
            with socket.socket() as sock:
                sock.settimeout(PATIENCE_S)
                try:
                    sock.connect(self.address)
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = b"".join(iter(lambda: sock.recv(4096), b""))
                except ConnectionRefusedError:
                    self.refused += 1
                    continue
                except OSError as error:
                    answer = repr(error).encode()
                if answer.startswith(b"HTTP/1.1 200"):
                    self.answered += 1
                else:
                    self.failed.append(answer.decode())

    def __enter__(self) -> Storm:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


def opened(admin: Connection, bind: str) -> bool:
    try:
        admin.post("listeners", bind, "open")
    except CommandError:
        return False
    return True


def test_whoever_is_connected_when_a_listener_closes_is_answered(
    run: Run, port: HeldPort, three: list[Backend], place: dict[str, object], admin: Connection
) -> None:
    headgate = run(configuration(port, {"web": pool(three[0].url)}, workers=2, admin=place))
    with Storm(port.address, 8) as storm:
        for _ in range(3):
            before = storm.answered
            eventually(lambda before=before: storm.answered > before + 20, "the storm to go on")  # type: ignore[misc]
            admin.post("listeners", port.bind, "drain")
            eventually(lambda: opened(admin, port.bind), "the last worker to have closed it")
        assert headgate.stop() == 0
    assert storm.failed == []
    assert storm.refused > 0


def test_connections_by_listener(
    run: Run, port: HeldPort, three: list[Backend], place: dict[str, object], admin: Connection
) -> None:
    with HeldPort() as second:
        config = configuration(port, {"web": pool(three[0].url)}, workers=2, admin=place)
        config["listeners"] = [{"bind": port.bind}, {"bind": second.bind}]
        headgate = run(config)

        def counted() -> dict[str, tuple[str, int]]:
            found = admin.get("connections")["listeners"]
            return {one["bind"]: (one["state"], one["connections"]) for one in found}

        with contextlib.ExitStack() as stack:
            for address, count in ((port.address, 3), (second.address, 2)):
                for _ in range(count):
                    assert stack.enter_context(Client(address)).get().status == 200
            assert counted() == {port.bind: ("open", 3), second.bind: ("open", 2)}
            # A listener that lets nobody in any more has those that came in by it, also once it is open again.
            admin.post("listeners", second.bind, "drain")
            assert counted()[second.bind] == ("draining", 2)
            eventually(lambda: opened(admin, second.bind), "the last worker to have closed it")
            with Client(second.address) as another:
                assert another.get().status == 200
                assert counted()[second.bind] == ("open", 3)
            # A killed worker's are gone.
            for worker in headgate.workers():
                os.kill(worker, signal.SIGKILL)
            none = {port.bind: ("open", 0), second.bind: ("open", 0)}
            eventually(lambda: counted() == none, "the dead workers' connections to be gone")
        assert headgate.stop() == 0
