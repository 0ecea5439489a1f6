"""`python -m tests.ops.soak [SECONDS]`: full load for a minute while everything is done that operators do.

100 reloads, by signal and by the admin API; every worker killed once, before the upgrade and those after it; an
upgrade; each second a backend added, drained and removed by the admin API; one WebSocket and one long download all the
time. No request may fail but those that a killed worker had, which are counted. Nor may a request that began after a
drain was answered reach that backend.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

from headgate.cli.admin_client import Connection

from ..e2e.harness.waiting import eventually
from ..faults.load import Result, connect
from ..faults.rows.operations import ALL, Tunnel, change, download, piece, tunnels_and_downloads
from ..faults.servers import Server
from ..faults.world import Span, World

RELOADS = 100
WORKERS = 2
# The backend that comes and goes stays for so many requests at least.
SHARE = 100
# A worker dies at every so manieth reload, until each has.
KILL_EVERY = 12


def soak(world: World, seconds: float) -> None:
    """Raises AssertionError for whatever went wrong; figures are in `world.figures`."""
    world.exact = False
    servers = world.backends(3, tunnels_and_downloads, quiet=True)
    (comes_and_goes,) = world.backends(1, tunnels_and_downloads, quiet=True)
    kept = [server.url for server in servers[:2]]
    place = f"unix:{world.directory}/admin.sock"
    world.headgate(
        top={"workers": WORKERS, "supervisor": {"watchdog": "10s"}, "admin": {"bind": place}},
        pool={"health": {"interval": "1s"}},
        urls=kept,
    )
    admin = Connection(place)
    load = world.load(*ALL, rate=0)
    stays = Stays(world, int(seconds / 0.05))
    deployments = Deployments(admin, comes_and_goes, int(seconds))
    began = time.monotonic()
    killed: list[Span] = []
    victims = sorted(world.workers)
    by_signal = 0
    try:
        for number in range(1, RELOADS + 1):
            time.sleep(max(0.0, began + seconds * number / RELOADS - time.monotonic()))
            urls = [*kept, servers[2].url] if number % 2 else kept
            change(world, pools={"web": {"backends": urls, "health": {"interval": "1s"}}})
            if number % 4 < 2:
                admin.post("reload")
            else:
                by_signal += 1
                world.signal(signal.SIGHUP)
            world.wait_errors("new configuration in force", number)
            if number % KILL_EVERY == 0 and victims:
                killed.append(world.kill_worker(victims.pop(0)))
            if number == RELOADS // 2:
                old = set(world.workers)
                world.signal(signal.SIGUSR2)
                world.wait_upgraded()
                victims = sorted(set(world.workers) - old)
                assert len(victims) == WORKERS, victims
            stays.look(killed)
            deployments.look()
        deployments.wait()
        took = time.monotonic() - began
        result = load.stop()
    except BaseException:
        deployments.stop()
        raise
    stays.look(killed)
    stays.close()
    assert len(killed) == 2 * WORKERS, killed
    strays = strange(result, killed)
    assert not strays, "\n".join([f"{len(strays)} of {len(result)} failed:", *strays[:5], world.errors[-2000:]])
    late = deployments.late(result)
    assert not late, f"{len(late)} requests went to a drained backend: {late[:3]}"
    there = result.backends[comes_and_goes.name]
    assert there > deployments.done, f"the added backend served {there} requests"
    world.note(
        seconds=took,
        requests=len(result),
        failed_without_reason=len(strays),
        lost_with_killed_workers=len(result.failed),
        connections_lost_with_them=stays.lost,
        reloads=RELOADS,
        reloads_by_signal=by_signal,
        upgrades=1,
        workers_killed=len(killed),
        backends_added_drained_removed=deployments.done,
        changes_that_waited_for_a_worker_to_start=deployments.waited,
        requests_at_those_backends=there,
        longest_request_s=result.longest,
        longest_pause_of_the_machine_s=result.stall,
    )


def strange(result: Result, killed: list[Span]) -> list[str]:
    """Failed requests that no killed worker explains: none was killed while the request, or the kept connection it came
    by, was there."""
    clients: dict[str, list[int]] = {}
    for index, sample in enumerate(result.samples):
        clients.setdefault(sample.identity.partition(".")[0], []).append(index)
    found = []
    for indexes in clients.values():
        samples = [result.samples[index] for index in indexes]
        for before, sample in pairwise([samples[0], *samples]):
            # The worker was there to answer the request before, but the client may have read that long after.
            if sample.failed and not any(before.start <= after and start <= sample.end for start, after in killed):
                found.append(str(sample))
    return found


class Deployments:
    """One backend is added, drained and removed by the admin API each second, so many times, in a thread."""

    def __init__(self, admin: Connection, server: Server, times: int) -> None:
        self._admin = admin
        self._server = server
        self._times = times
        self._away: list[tuple[float, float]] = []
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self.done = 0
        self.waited = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        drained = 0.0
        path = ("pools", "web", "backends", self._server.name)
        try:
            while self.done < self._times and not self._stopping.is_set():
                due = max(due + 1, time.monotonic())
                if drained:
                    self._away.append((drained, time.monotonic()))
                body = {"url": self._server.url, "name": self._server.name}
                self._in_force(self._admin.post(*path[:-1], body=body))
                eventually(lambda: self._admin.get(*path)["totalRequests"] >= SHARE, "its part", interval_s=0.02)
                self._in_force(self._admin.post(*path, "drain"))
                drained = time.monotonic()
                self._in_force(self._admin.delete(*path))
                self.done += 1
                self._stopping.wait(due - time.monotonic())
            self._away.append((drained, time.monotonic()))
        except BaseException as error:
            self._error = error

    def _in_force(self, done: dict[str, object]) -> None:
        """Wait until every worker runs it, as far as the answer to the change does not say so."""
        if done["applied"]:
            return
        assert done["warning"] == "not every worker runs it yet", done
        self.waited += 1
        generation = self._admin.get("status")["generation"]
        eventually(
            lambda: (
                (workers := self._admin.get("status")["workers"])
                and all(worker["generation"] >= generation for worker in workers)
            ),
            "the workers that start",
            interval_s=0.05,
        )

    def look(self) -> None:
        """Raises what went wrong."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Until all is done; raises what went wrong."""
        eventually(lambda: not self._thread.is_alive(), "the last backend to be removed", 60)
        self.look()

    def stop(self) -> None:
        self._stopping.set()

    def late(self, result: Result) -> list[str]:
        """Requests which that backend answered though they began after its drain, and ended before it came again."""
        return [
            str(sample)
            for sample in result.samples
            if sample.backend == self._server.name
            and any(drained < sample.start and sample.end < again for drained, again in self._away)
        ]


class Stays:
    """A WebSocket and a download that are there all the time. Those that die with a killed worker begin anew."""

    def __init__(self, world: World, pieces: int) -> None:
        self._world = world
        self._pieces = pieces
        self._tunnel = Tunnel(world)
        self._download = Download(world, pieces)
        self._excused = 0
        self.lost = 0

    def look(self, killed: list[Span]) -> None:
        """Both must be alive, if nobody has been killed since the last look."""
        excused = len(killed) > self._excused
        try:
            self._tunnel.echo(b"x" * 100)
        except (OSError, AssertionError):
            if not excused:
                raise
            self.lost += 1
            self._tunnel.close()
            self._tunnel = Tunnel(self._world)
        try:
            if self._download.read():  # whole: however long all this takes, there is always one
                self._download.close()
                self._download = Download(self._world, self._pieces)
        except (OSError, AssertionError):
            if not excused:
                raise
            self.lost += 1
            self._download.close()
            self._download = Download(self._world, self._pieces)
        self._excused = len(killed)

    def close(self) -> None:
        self._tunnel.echo(b"the end")
        self._tunnel.close()
        self._download.close()
        # And a whole one, through what is left of it all.
        assert download(self._world, 5) == 5 * 50_000


class Download:
    """A long download, checked as it comes."""

    def __init__(self, world: World, pieces: int) -> None:
        self._pieces = pieces
        self._socket = connect(world.address)
        self._socket.sendall(f"GET /long?pieces={pieces} HTTP/1.1\r\nHost: h.example\r\n\r\n".encode())
        self._data = b""
        self._at = -1

    def read(self) -> bool:
        """What has come since: each byte as it should be. True: all has come."""
        self._socket.setblocking(False)
        while True:
            if self._at == self._pieces:
                return True
            try:
                got = self._socket.recv(1 << 20)
            except BlockingIOError:
                return False
            assert got, "it has ended early"
            self._data += got
            if self._at < 0:
                head, end, rest = self._data.partition(b"\r\n\r\n")
                if not end:
                    continue
                assert head.startswith(b"HTTP/1.1 200"), head
                self._data, self._at = rest, 0
            while len(self._data) >= 50_000:
                assert self._data[:50_000] == piece(self._at), f"piece {self._at} is another"
                self._data, self._at = self._data[50_000:], self._at + 1

    def close(self) -> None:
        self._socket.close()


def main(seconds: float) -> dict[str, object]:
    """One soak; returns its figures."""
    with tempfile.TemporaryDirectory(prefix="headgate-soak-") as directory:
        world = World(Path(directory))
        try:
            soak(world, seconds)
            world.finish()
        finally:
            world.close()
    return world.figures


def summary(figures: dict[str, object]) -> str:
    """The figures for people, one to a line."""
    width = max(map(len, figures))
    return "\n".join(f"{name.replace('_', ' '):{width}}  {value}" for name, value in figures.items())


if __name__ == "__main__":
    print(summary(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)))
