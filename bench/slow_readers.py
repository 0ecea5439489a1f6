"""What 2,000 slow readers of a 1 MiB body cost in memory: the process tree, and what the kernel holds for it.

    python -m bench.slow_readers [--readers N]

Every reader has asked, has taken a little, and then takes nothing: the worst a proxy can meet that has no time limit.
Shown per proxy, against the same machine with the proxy idle:

    processes   proportional set size of the whole tree
    sockets     pages of all TCP sockets (/proc/net/sockstat): both sides of the proxy, readers and backend included,
                which are the same for every proxy
    pipes       bytes that wait in pipes of the tree (splice)

Loopback only, and a minute at most.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import resource
import selectors
import shutil
import socket
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness.memory import proportional_bytes
from tests.e2e.harness.processes import Processes

from .cases import LARGE, Case
from .cpu import tree
from .proxies import STARTERS, Backends, Proxy

READERS = 2000
# A reader's receive buffer: small, as at the end of a slow line, so that what it does not read stays with the proxy.
READER_BUFFER_BYTES = 16384
TAKEN_BYTES = 4096
MIB = 1 << 20

# The figures are taken when they have not changed by more than this in a second.
STEADY_BYTES = MIB
PATIENCE_S = 20.0

CASE = Case("slow", "slow readers of 1 MiB", connections=READERS, path=LARGE, backends=1)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes."""

    processes: int
    sockets: int
    pipes: int

    @property
    def total(self) -> int:
        return self.processes + self.sockets + self.pipes

    def __sub__(self, other: Held) -> Held:
        return Held(self.processes - other.processes, self.sockets - other.sockets, self.pipes - other.pipes)


def socket_bytes() -> int:
    """What all TCP sockets of this network namespace hold (proc(5): in pages)."""
    found = re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * resource.getpagesize()


def pipe_bytes(pid: int) -> int:
    """What waits in the pipes that the process holds the reading end of."""
    total = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            # A write end opened for reading would look at the same pipe twice.
            flags = re.search(r"flags:\t(\d+)", Path(f"/proc/{pid}/fdinfo/{path.name}").read_text())
            if not os.readlink(path).startswith("pipe:") or flags is None or int(flags[1], 8) & os.O_ACCMODE:
                continue
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                (waiting,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
                total += waiting
            finally:
                os.close(fd)
    return total


def held(pid: int) -> Held:
    pids = tree(pid)
    return Held(sum(map(proportional_bytes, pids)), socket_bytes(), sum(map(pipe_bytes, pids)))


def steady(look: Callable[[], Held]) -> Held:
    """The figures once they have come to rest."""
    deadline = time.monotonic() + PATIENCE_S
    last = look()
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = look()
        if abs(now.total - last.total) < STEADY_BYTES:
            return now
        last = now
    raise RuntimeError(f"the memory did not come to rest within {PATIENCE_S:g} s")


def read_slowly(url: str, count: int) -> list[socket.socket]:
    """`count` clients that have asked and have taken a little of the answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    readers: list[socket.socket] = []
    waiting = selectors.DefaultSelector()
    for _ in range(count):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READER_BUFFER_BYTES)
        reader.connect((host, int(port)))
        reader.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % CASE.path.encode())
        reader.setblocking(False)
        waiting.register(reader, selectors.EVENT_READ)
        readers.append(reader)
    deadline = time.monotonic() + PATIENCE_S
    while waiting.get_map():
        for key, _ in waiting.select(1.0):
            assert isinstance(key.fileobj, socket.socket)
            answer = key.fileobj.recv(TAKEN_BYTES)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"a reader was answered {answer[:200]!r}")
            waiting.unregister(key.fileobj)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(waiting.get_map())} readers were not answered within {PATIENCE_S:g} s")
    waiting.close()
    return readers


def measure(proxy: Proxy, count: int) -> tuple[Held, Held]:
    """(the proxy with its readers, what the readers added)."""
    idle = steady(lambda: held(proxy.pid))
    readers = read_slowly(proxy.url, count)
    busy = steady(lambda: held(proxy.pid))
    for reader in readers:
        reader.close()
    return busy, busy - idle


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.slow_readers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--readers", type=int, default=READERS)
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    names = ["headgate", *(["haproxy"] if shutil.which("haproxy") else [])]
    print(f"{options.readers:,} slow readers of a 1 MiB body; MiB with them, (added by them)\n")
    print("| proxy | processes | sockets | pipes | in all |\n|---|---:|---:|---:|---:|")
    totals: dict[str, int] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as directory, Processes() as processes:
            backends = Backends(processes, Path(directory))
            proxy = STARTERS[name](processes, Path(directory), CASE, backends.addresses(1))
            busy, added = measure(proxy, options.readers)
            proxy.close()
            backends.close()
        totals[name] = busy.processes + added.sockets + busy.pipes
        cells = [
            f"{busy.processes / MIB:.1f} ({added.processes / MIB:+.1f})",
            f"{added.sockets / MIB:.1f}",
            f"{busy.pipes / MIB:.1f}",
            f"{totals[name] / MIB:.1f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if len(totals) == 2:
        print(f"\nHeadgate / HAProxy: {totals['headgate'] / totals['haproxy']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
