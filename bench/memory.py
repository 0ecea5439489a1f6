"""What connections cost in memory, beside the other proxies: `python -m bench.memory [--case NAME]...`

    base    the process tree at start: supervisor and one worker
    idle    4,000 clients that have asked once and keep their connection: bytes of the tree for each of them
    tls     the same by TLS
    slow    2,000 readers that have asked for 1 MiB, have taken a little, and then take nothing: the worst a proxy can
            meet that has no time limit

Processes are counted by proportional set size of the whole tree. For slow readers there is more, shown against the same
machine with the proxy idle: pages of all TCP sockets (/proc/net/sockstat; readers and backend included, which are the
same for every proxy), and bytes that wait in pipes of the tree (splice).

Loopback only, and a minute at most for each proxy and case.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import resource
import selectors
import socket
import ssl
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from tests.e2e.harness.memory import proportional_bytes
from tests.e2e.harness.processes import Processes

from .cases import LARGE, Case
from .cpu import tree
from .proxies import STARTERS, Backends, Proxy, versions

RESULTS = Path(__file__).parent / "results"
READERS = 2000
CLIENTS = 4000
# A reader's receive buffer: small, as at the end of a slow line, so that what it does not read stays with the proxy.
READER_BUFFER_BYTES = 16384
TAKEN_BYTES = 4096
MIB = 1 << 20

T = TypeVar("T")

# The figures are taken when they have not changed by more than this in a second.
STEADY_BYTES = MIB
STEADY_TREE_BYTES = 16 << 10
PATIENCE_S = 30.0

SLOW = Case("slow", "slow readers of 1 MiB", connections=READERS, path=LARGE, backends=1)
IDLE = Case("idle", "clients that keep their connection", connections=CLIENTS)
TLS = replace(IDLE, name="tls", tls=True)


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


def tree_bytes(pid: int) -> int:
    """Proportional set size of the process and all its descendants."""
    return sum(map(proportional_bytes, tree(pid)))


def held(pid: int) -> Held:
    return Held(tree_bytes(pid), socket_bytes(), sum(map(pipe_bytes, tree(pid))))


def steady(look: Callable[[], T], size: Callable[[T], int], within: int) -> T:
    """What `look` sees once its size does not change any more."""
    deadline = time.monotonic() + PATIENCE_S
    last = look()
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = look()
        if abs(size(now) - size(last)) < within:
            return now
        last = now
    raise RuntimeError(f"the memory did not come to rest within {PATIENCE_S:g} s")


def steady_tree(pid: int) -> int:
    return steady(lambda: tree_bytes(pid), int, STEADY_TREE_BYTES)


def read_slowly(url: str, count: int) -> list[socket.socket]:
    """`count` clients that have asked and have taken a little of the answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    readers: list[socket.socket] = []
    waiting = selectors.DefaultSelector()
    for _ in range(count):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READER_BUFFER_BYTES)
        reader.connect((host, int(port)))
        reader.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % SLOW.path.encode())
        reader.setblocking(False)
        waiting.register(reader, selectors.EVENT_READ)
        readers.append(reader)
    deadline = time.monotonic() + PATIENCE_S
    while waiting.get_map():
        for key, _ in waiting.select(1.0):
            assert isinstance(key.fileobj, socket.socket)
            answer = key.fileobj.recv(TAKEN_BYTES)
            _expect_ok(answer)
            waiting.unregister(key.fileobj)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(waiting.get_map())} readers were not answered within {PATIENCE_S:g} s")
    waiting.close()
    return readers


def _expect_ok(answer: bytes) -> None:
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"a client was answered {answer[:200]!r}")


def ask_once(url: str, count: int) -> list[socket.socket]:
    """`count` clients that have had one answer, and stay. They come 16 at a time, as they would."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    clients: list[socket.socket] = []
    while len(clients) < count:
        some: list[socket.socket] = [socket.create_connection((host, int(port)), timeout=PATIENCE_S) for _ in range(16)]
        if scheme == "https":
            some = [context.wrap_socket(client) for client in some]
        for client in some:
            client.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % IDLE.path.encode())
        for client in some:
            answer = b""
            while b"hello, world\n" not in answer:
                more = client.recv(TAKEN_BYTES)
                if not more:
                    raise RuntimeError("a client's connection was closed")
                answer += more
            _expect_ok(answer)
        clients += some
    return clients


Measure = Callable[[Proxy], tuple[float, list[str]]]
"""The figure that proxies are compared by, and the cells of the table."""


def base(proxy: Proxy) -> tuple[float, list[str]]:
    whole = steady_tree(proxy.pid)
    return whole, [f"{whole / MIB:.1f} MiB"]


def idle(proxy: Proxy) -> tuple[float, list[str]]:
    for client in ask_once(proxy.url, 64):
        client.close()
    before = steady_tree(proxy.pid)
    clients = ask_once(proxy.url, CLIENTS)
    after = steady_tree(proxy.pid)
    for client in clients:
        client.close()
    each = (after - before) / CLIENTS
    return each, [f"{each:,.0f} B"]


def slow(proxy: Proxy) -> tuple[float, list[str]]:
    def total(one: Held) -> int:
        return one.total

    before = steady(lambda: held(proxy.pid), total, STEADY_BYTES)
    readers = read_slowly(proxy.url, READERS)
    busy = steady(lambda: held(proxy.pid), total, STEADY_BYTES)
    for reader in readers:
        reader.close()
    added = busy - before
    whole = busy.processes + added.sockets + busy.pipes
    parts = (busy.processes, added.sockets, busy.pipes, whole)
    return whole, [f"{part / MIB:.1f} MiB" for part in parts]


# Case, figure, columns, what Headgate may have at most: as a number, or as a multiple of a peer's.
CASES: dict[str, tuple[Case, Measure, list[str], float, str]] = {
    "base": (replace(IDLE, name="base"), base, ["in all"], 45 * MIB, ""),
    "idle": (IDLE, idle, ["for each of 4,000 clients"], 700, ""),
    "tls": (TLS, idle, ["for each of 4,000 TLS clients"], 1.0, "nginx"),
    "slow": (SLOW, slow, ["processes", "sockets", "pipes", "in all"], 1.2, "haproxy"),
}


def run(name: str, names: Sequence[str]) -> tuple[list[str], bool]:
    """(lines of a table, whether Headgate keeps to its limit)."""
    case, figure, columns, limit, peer = CASES[name]
    seen: dict[str, float] = {}
    lines = [f"| {name} | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for proxy_name in names:
        with tempfile.TemporaryDirectory() as directory, Processes() as processes:
            backends = Backends(processes, Path(directory))
            proxy = STARTERS[proxy_name](processes, Path(directory), case, backends.addresses(case.backends))
            seen[proxy_name], cells = figure(proxy)
            proxy.close()
            backends.close()
        lines.append(f"| {proxy_name} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    if peer and peer in seen:
        ratio = seen["headgate"] / seen[peer]
        lines += ["", f"Headgate / {peer}: {ratio:.2f}; at most {limit:g}."]
        return lines, ratio <= limit
    return lines, bool(peer) or seen["headgate"] <= limit


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.memory", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="only this case (may be repeated)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the table")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    known = versions()
    lines: list[str] = []
    kept = True
    for name in given.case or CASES:
        # Caddy holds fifty times as much per client: it says nothing that one run did not.
        table, within = run(name, [one for one in ("nginx", "haproxy", "headgate") if one in known])
        lines += [*table, ""]
        kept = kept and within
    text = "\n".join(lines)
    print("\n" + text)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "memory.md").write_text(text)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
