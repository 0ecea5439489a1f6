"""What operators do, and what happens to the balancer itself: full disks, kills, reloads, upgrades, the end."""

from __future__ import annotations

import glob
import json
import os
import re
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

from ...e2e.harness.waiting import eventually
from ...e2e.harness.wire import Reader
from ..load import Ask, Result, connect, in_process
from ..matrix import row
from ..network import command
from ..servers import Connection, body_of, path_of, query_of
from ..world import CLIENTS, GET, POST, Span, World

# Two cores carry the whole machine: more workers would only wait for each other.
WORKERS = 3
FRESH = [Ask(close=True), Ask("POST", close=True)]
ALL = [GET, GET, POST, Ask(close=True), Ask("PUT"), Ask(size=20_000)]


def strays(result: Result, killed: list[Span]) -> list[str]:
    """Failed requests that were not under way while any of these workers was killed."""
    return [
        str(sample)
        for sample in result.failed
        if not any(sample.start <= after and before <= sample.end for before, after in killed)
    ]


@row(25)
def log_disk_full(world: World) -> None:
    """Disk full for the access log (64 KB tmpfs): 0 failed, lines are counted as dropped, it resumes on space and after
    rotation (SIGUSR1)."""
    disk = world.directory / "disk"
    disk.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk)
    try:
        fill_and_rotate(world, disk / "access.log")
    finally:
        command("umount", "--lazy", disk)


def fill_and_rotate(world: World, path: Path) -> None:
    world.backends(2)
    world.headgate(top={"access_log": {"format": "text", "path": str(path)}})
    # Long lines, so that the disk and what the log may keep in memory are soon full.
    load = world.load(Ask(target="/" + "x" * 4000), rate=40)
    eventually(lambda: world.totals()["logDropped"] > 50, "lines to be dropped")
    assert path.stat().st_size <= 65536
    # Room again: what comes from now on is written.
    os.truncate(path, 0)
    eventually(lambda: path.stat().st_size > 0, "the log to go on")
    rotated = path.rename(path.with_suffix(".1"))
    world.signal(signal.SIGUSR1)
    eventually(lambda: path.exists(), "the log to be opened anew")
    rotated.unlink()
    # Not "to grow": the disk may be full again by the first look.
    eventually(lambda: path.stat().st_size > 0, "the new log to be written")
    world.none_failed(load.stop())


@row(28)
def workers_killed(world: World) -> None:
    """Workers are killed 20 times: only what they had in flight fails; nobody is refused; each is replaced; the
    counters of the dead stay."""
    world.exact = False
    world.backends(3)
    world.headgate(top={"workers": WORKERS})
    load = world.load(*FRESH)
    world.run(0.5)
    killed: list[Span] = []
    for number in range(1, 21):
        victim = min(world.workers)  # the oldest: it serves
        killed.append(world.kill_worker(victim))
        eventually(partial(replaced, world, victim), "a replacement")
        world.wait_errors("serves again", number)
        world.run(0.05)
    world.run(0.3)
    result = load.stop()
    unexplained = strays(result, killed)
    assert not unexplained, unexplained[:5]
    refused = [sample for sample in result.failed if "Refused" in sample.failed]
    assert not refused, refused[:3]
    # From one's end to the next one's service: what the supervisor waits and what a start costs the processor is less
    # than a second. How long the machine takes over that second is its own affair; the median of that is reported.
    pauses = [float(pause) for pause in re.findall(r"again in ([\d.]+) s", world.errors)]
    again = re.findall(r"serves again, ([\d.]+) s after its end \(([\d.]+) s of processor time\)", world.errors)
    took = sorted(float(wall) for wall, _ in again)
    cost = [float(processor) for _, processor in again]
    assert max(pauses, default=0) + max(cost) < 1, (pauses, cost)
    ok = len(result) - len(result.failed)
    # What a worker had sent and not yet counted when it was killed is not counted: a part of its clients at most.
    uncounted = len(killed) * (CLIENTS // WORKERS)
    assert world.totals()["answered"] >= ok - uncounted, "the counters of dead workers are lost"
    eventually(lambda: world.totals()["inFlight"] == 1, "the gauges of dead workers to be cleared")
    world.note(requests=len(result), failed=len(result.failed))
    world.note(replaced_median_s=took[len(took) // 2], replaced_slowest_s=took[-1], processor_s=max(cost))


def replaced(world: World, victim: int) -> bool:
    workers = world.workers
    return len(workers) == WORKERS and victim not in workers


@row(29)
def worker_stopped(world: World) -> None:
    """A worker is stopped (SIGSTOP): the others accept, the watchdog kills it, only what it had in flight suffers."""
    world.exact = False
    world.backends(2)
    world.headgate(top={"workers": 2, "supervisor": {"watchdog": "2s"}})
    load = world.load(*FRESH)
    world.run(0.5)
    victim = world.workers[0]
    os.kill(victim, signal.SIGSTOP)
    # It runs on until the signal reaches it, and may take in somebody more until then.
    eventually(partial(is_stopped, victim), "it to stop")
    stopped = time.monotonic()
    eventually(lambda: victim not in world.workers, "the watchdog to kill it")
    noticed = time.monotonic()
    eventually(lambda: len(world.workers) == 2, "its replacement")
    world.run(1)
    result = load.stop()
    late = [sample for sample in result.failed if sample.start > stopped]
    assert not late, late[:3]
    during = result.between(stopped, noticed)
    assert len(during) > 20, "the other worker does not accept"
    assert "no sign of life for 2 s" in world.errors
    world.note(requests=len(result), failed=len(result.failed), killed_s=noticed - stopped, longest=during.longest)


def is_stopped(pid: int) -> bool:
    """Does every thread of that process stand still (proc(5))?"""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


@row(30)
def supervisor_killed(world: World) -> None:
    """The supervisor is killed: workers close their listeners, finish what is in flight, and exit; a restart binds at
    once."""

    def script(connection: Connection) -> None:
        """Answers /held once it is told to, however long all else takes."""
        while (request := connection.head()) is not None:
            while path_of(request) == "/held" and not connection.mode:
                time.sleep(0.01)
            connection.serve(request)

    (server,) = world.backends(1, script)
    patient: dict[str, object] = {"timeouts": {"first_byte": "60s"}}
    world.headgate(top={"workers": 2}, pool=patient)
    workers = world.workers
    with connect(world.address) as sock:
        sock.sendall(b"GET /held?size=5 HTTP/1.1\r\nHost: h.example\r\nX-Id: slow\r\n\r\n")
        eventually(lambda: server.seen("head"), "the request to arrive")
        world.signal(signal.SIGKILL)
        assert world.wait_end() == -signal.SIGKILL
        eventually(lambda: not accepts(world), "the listeners to close")
        assert any(Path(f"/proc/{worker}/exe").exists() for worker in workers), "nobody waits for the request"
        # A restart does not wait for what is still in flight.
        world.headgate(top={"workers": 2}, pool=patient)
        server.tell(1)
        answer = Reader(lambda: sock.recv(65536)).response()
        assert (answer.status, answer.body) == (200, body_of("slow", 5))
    for worker in workers:
        # This process is the init of its namespace: orphans are its children.
        assert os.waitpid(worker, 0)[1] == 0


def accepts(world: World) -> bool:
    try:
        connect(world.address, 1).close()
    except ConnectionRefusedError:
        return False
    return True


@row(31)
def reloaded(world: World) -> None:
    """100 reloads under load, with the same configuration: 0 failed of N, on kept connections, too."""
    world.backends(2)
    world.headgate(top={"workers": 2})
    load = world.load(*ALL, rate=20)
    with connect(world.address) as idle:
        reader = Reader(lambda: idle.recv(65536))
        for number in range(100):
            world.signal(signal.SIGHUP)
            world.wait_errors("new configuration in force", number + 1)
            if number in (0, 99):
                idle.sendall(b"GET /?size=1 HTTP/1.1\r\nHost: h.example\r\nX-Id: i\r\n\r\n")
                answer = reader.response()
                assert answer.status == 200
                assert "close" not in answer.list_header("connection")
    world.none_failed(load.stop())


def change(world: World, **top: Any) -> None:
    """Write the configuration anew with these keys at its top."""
    path = world.directory / "headgate.json"
    config = json.loads(path.read_text())
    config.update(top)
    path.write_text(json.dumps(config))


@row(32)
def reloaded_with_mistakes(world: World) -> None:
    """20 reloads with a broken configuration: every mistake is reported, the old one serves on, 0 failed."""
    world.backends(2)
    world.headgate()
    load = world.load(*ALL)
    change(world, workrs=3, access_log={"format": "xml"})
    for number in range(20):
        world.signal(signal.SIGHUP)
        world.wait_errors("the old one stays", number + 1)
    assert world.errors.count("workrs") == world.errors.count("access_log.format") == 20
    world.none_failed(load.stop())


def tunnels_and_downloads(connection: Connection) -> None:
    """/ws becomes an echo; /long is sent slowly until the row says that it is enough; all else is the application's."""
    while (request := connection.head()) is not None:
        if request.target.startswith("/ws"):
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            while data := connection.socket.recv(65536):
                connection.send(data)
            return
        if request.target.startswith("/long"):
            pieces = int(query_of(request)["pieces"])
            connection.send(f"HTTP/1.1 200 OK\r\nX-Backend: b\r\nContent-Length: {pieces * 50_000}\r\n\r\n".encode())
            for number in range(pieces):
                connection.send(piece(number))
                if number > 10:
                    time.sleep(0.05)
            continue
        connection.serve(request)


def piece(number: int) -> bytes:
    return body_of(f"<{number}>", 50_000)


def download(world: World, pieces: int) -> int:
    """A long download, checked byte by byte."""
    with connect(world.address) as sock:
        sock.sendall(f"GET /long?pieces={pieces} HTTP/1.1\r\nHost: h.example\r\n\r\n".encode())
        answer = Reader(lambda: sock.recv(65536)).response()
    assert answer.body == b"".join(piece(number) for number in range(pieces))
    return len(answer.body)


class Tunnel:
    """A WebSocket, as far as a proxy sees of it: bytes both ways after 101."""

    def __init__(self, world: World) -> None:
        self._socket = connect(world.address)
        self._socket.sendall(
            b"GET /ws HTTP/1.1\r\nHost: h.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._receive()
        assert head.startswith(b"HTTP/1.1 101"), head

    def echo(self, data: bytes) -> None:
        self._socket.sendall(data)
        back = b""
        while len(back) < len(data):
            back += self._receive()
        assert back == data

    def _receive(self) -> bytes:
        data = self._socket.recv(65536)
        assert data, "the tunnel has ended"
        return data

    def close(self) -> None:
        self._socket.close()


@row(33)
def reloaded_with_other_backends(world: World) -> None:
    """Reloads remove and add backends under 5 long downloads and 5 WebSockets: all are whole, and 0 requests fail."""
    servers = world.backends(3, tunnels_and_downloads)
    world.headgate(top={"workers": 2}, pool={"health": {"interval": "200ms"}})
    tunnels = [Tunnel(world) for _ in range(5)]
    downloads = [in_process(lambda: download(world, 60)) for _ in range(5)]
    load = world.load(*ALL)
    urls = [server.url for server in servers]
    for number in range(12):
        kept = [url for at, url in enumerate(urls) if at != number % 4]  # each is away for a while
        change(world, pools={"web": {"backends": kept, "health": {"interval": "200ms"}}})
        world.signal(signal.SIGHUP)
        world.wait_errors("new configuration in force", number + 1)
        eventually(lambda: any(one["state"] == "up" for one in world.status()["backends"]), "a backend to be up")
        for tunnel in tunnels:
            tunnel.echo(b"%d" % number)
        world.run(0.1)
    world.note(bytes=[wait() for wait in downloads])
    for tunnel in tunnels:
        tunnel.echo(b"the end")
        tunnel.close()
    world.none_failed(load.stop())


@row(34)
def upgraded(world: World) -> None:
    """An upgrade in place: same pid, other workers; 0 refused, 0 failed; a WebSocket stays. A version that cannot start
    is refused, and the old one serves on."""
    world.backends(2, tunnels_and_downloads)
    world.headgate(top={"workers": 2})
    pid, old = world.pid, world.workers
    load = world.load(*ALL, rate=20)
    tunnel = Tunnel(world)
    good = (world.directory / "headgate.json").read_text()
    change(world, workrs=3)
    world.signal(signal.SIGUSR2)
    world.wait_errors("upgrade: refused")
    assert "workrs" in world.errors
    (world.directory / "headgate.json").write_text(good)
    before = world.totals()["requests"]
    world.signal(signal.SIGUSR2)
    world.wait_upgraded()
    eventually(lambda: len(world.workers) == 3, "the old worker without a tunnel to finish")
    assert world.pid == pid
    assert len(set(world.workers) & set(old)) == 1
    tunnel.echo(b"still here")
    assert world.totals()["requests"] > before, "the counters begin anew"
    world.run(0.5)
    tunnel.close()
    eventually(lambda: not set(world.workers) & set(old), "the other one to finish")
    world.none_failed(load.stop())


@row(35)
def stopped(world: World) -> None:
    """SIGTERM under load: ready_path turns 503 while clients may still come; what is in flight finishes; the end comes
    before the drain's deadline."""
    world.backends(2)
    world.headgate(
        listener={"ready_path": "/ready"}, top={"supervisor": {"notice": "3s", "drain": "20s"}, "workers": 2}
    )
    load = world.load(*ALL, Ask(target="/?wait=300"))
    world.run(0.5)
    assert world.get("/ready").status == 200
    began = time.monotonic()
    world.signal(signal.SIGTERM)
    eventually(lambda: world.get("/ready").status == 503, "ready_path to say so")
    told = time.monotonic()
    assert world.wait_end() == 0
    took = time.monotonic() - began
    result = load.stop()
    before = result.between(0, told)
    world.none_failed(before)
    # While the notice lasts all are served. Who still comes after it is refused, or reset where that happened in the
    # listener's queue, or on a connection that was not used meanwhile. (Two seconds are time enough to come.)
    early = [sample for sample in result.failed if sample.end < began + 3 or sample.start < began + 1]
    assert not early, early[:3]
    assert took < 15, took
    assert "cut off" not in world.errors
    world.note(took=took)


@row(36)
def clock_jumps(world: World) -> None:
    """The wall clock jumps a day ahead and two back: no timeout, no ejection, 0 failed."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    assert libraries, "libfaketime is not installed"
    clock = world.directory / "clock"
    clock.write_text("+0")
    world.backends(2)
    environment = [f"LD_PRELOAD={libraries[0]}", f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_CACHE_DURATION=1"]
    world.headgate(
        prefix=["env", *environment, "FAKETIME_DONT_FAKE_MONOTONIC=1"],
        pool={"health": {"interval": "500ms"}},
        top={"supervisor": {"watchdog": "5s"}},
    )
    load = world.load(*ALL)
    pid = world.worker
    days = []
    for jump in ("+1d", "-1d", "+0"):
        clock.write_text(jump)
        world.run(1.6)
        days.append(world.get("/?size=1").header("date"))
    states = [one["state"] for one in world.status()["backends"]]
    assert states == ["up", "up"]
    assert world.worker == pid, world.errors
    assert " down" not in world.errors
    assert " ejected" not in world.errors
    world.none_failed(load.stop())
    world.note(states=states)
