"""`python -m tests.ops.soak [SECONDS]`: load for a minute while everything is done that operators do.

100 reloads that add and remove a backend, every worker killed once, an upgrade; one WebSocket and one long download all
the time. No request may fail but those that a killed worker had, which are counted.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from ..e2e.harness.waiting import eventually
from ..faults.load import Result, connect
from ..faults.rows.operations import ALL, Tunnel, change, download, piece, tunnels_and_downloads
from ..faults.world import World

RELOADS = 100
WORKERS = 2
SLACK_S = 0.1


def soak(world: World, seconds: float) -> None:
    """Raises AssertionError for whatever went wrong; figures are in `world.figures`."""
    world.exact = False
    servers = world.backends(3, tunnels_and_downloads)
    kept = [server.url for server in servers[:2]]
    world.headgate(top={"workers": WORKERS, "supervisor": {"watchdog": "10s"}}, pool={"health": {"interval": "1s"}})
    began = time.monotonic()
    load = world.load(*ALL, rate=20)
    stays = Stays(world, int(seconds / 0.05 * 1.5))
    killed: list[float] = []
    victims = sorted(world.workers)
    upgrades = 0
    for number in range(RELOADS):
        due = began + seconds * (number + 1) / RELOADS
        time.sleep(max(0.0, due - time.monotonic()))
        urls = [*kept, servers[2].url] if number % 2 else kept
        change(world, pools={"web": {"backends": urls, "health": {"interval": "1s"}}})
        world.signal(signal.SIGHUP)
        world.wait_errors("new configuration in force", number + 1)
        if victims and number >= 10 * (len(killed) + 1):
            victim = victims.pop(0)
            killed.append(time.monotonic())
            os.kill(victim, signal.SIGKILL)
            eventually(lambda victim=victim: victim not in world.workers, "its end")  # type: ignore[misc]
        if number == RELOADS // 2:
            world.signal(signal.SIGUSR2)
            world.wait_errors("old workers finish")
            upgrades += 1
        stays.look(killed)
    took = time.monotonic() - began
    result = load.stop()
    stays.close()
    strays = strange(result, killed)
    assert not strays, "\n".join([f"{len(strays)} of {len(result)} failed:", *strays[:5], world.errors[-2000:]])
    world.note(
        seconds=took,
        requests=len(result),
        lost_with_killed_workers=len(result.failed),
        connections_lost_with_them=stays.lost,
        reloads=RELOADS,
        upgrades=upgrades,
        killed=len(killed),
    )


def strange(result: Result, killed: list[float]) -> list[str]:
    """Failed requests that no killed worker explains: none was killed while the request, or the kept connection it came
    by, was there."""
    clients: dict[str, list[int]] = {}
    for index, sample in enumerate(result.samples):
        clients.setdefault(sample.identity.partition(".")[0], []).append(index)
    found = []
    for indexes in clients.values():
        samples = [result.samples[index] for index in indexes]
        for before, sample in pairwise([samples[0], *samples]):
            since = before.end if before is not sample else sample.start
            if sample.failed and not any(since - SLACK_S <= moment <= sample.end + SLACK_S for moment in killed):
                found.append(str(sample))
    return found


class Stays:
    """A WebSocket and a download that are there all the time. Those that die with a killed worker begin anew."""

    def __init__(self, world: World, pieces: int) -> None:
        self._world = world
        self._pieces = pieces
        self._tunnel = Tunnel(world)
        self._download = Download(world, pieces)
        self._excused = 0
        self.lost = 0

    def look(self, killed: list[float]) -> None:
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
            self._download.read()
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
        self._socket = connect(world.address)
        self._socket.sendall(f"GET /long?pieces={pieces} HTTP/1.1\r\nHost: h.example\r\n\r\n".encode())
        self._data = b""
        self._at = -1

    def read(self) -> None:
        """What has come since: each byte as it should be."""
        self._socket.setblocking(False)
        while True:
            try:
                got = self._socket.recv(1 << 20)
            except BlockingIOError:
                return
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


if __name__ == "__main__":
    print(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
