"""Many raw connections from one process: what slow, idle and hasty clients are made of."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .load import Address

_RESET = struct.pack("ii", 1, 0)


def reset(sock: socket.socket) -> None:
    """End a connection with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def start_connecting(address: Address, *, receive_buffer: int = 0) -> socket.socket:
    """A non-blocking socket on its way to be connected."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    with contextlib.suppress(BlockingIOError):
        sock.connect(address)
    return sock


@dataclass(slots=True)
class Held:
    """How a connection that was held open went."""

    start: float
    end: float = 0.0  # 0: still open
    received: bytes = b""
    error: str = ""


def hold(
    address: Address, count: int, first: bytes, more: Callable[[], bytes], every_s: float, until: Callable[[], bool]
) -> list[Held]:
    """Open `count` connections, send `first` on each, and a little `more` every so often, until `until()`.

    Connections that the other side ended are not opened again."""
    poller = select.epoll()
    held: dict[int, tuple[socket.socket, Held]] = {}
    done: list[Held] = []
    for _ in range(count):
        sock = start_connecting(address)
        held[sock.fileno()] = (sock, Held(time.monotonic()))
        poller.register(sock.fileno(), select.EPOLLOUT)
    due = time.monotonic() + every_s

    def over(fd: int, error: str = "") -> None:
        sock, what = held.pop(fd)
        poller.unregister(fd)
        what.end, what.error = time.monotonic(), error
        done.append(what)
        sock.close()

    while held and not until():
        for fd, events in poller.poll(0.02):
            sock, what = held[fd]
            try:
                if events & select.EPOLLOUT:
                    sock.send(first)
                    poller.modify(fd, select.EPOLLIN)
                if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    data = sock.recv(65536)
                    what.received += data
                    if not data:
                        over(fd)
            except BlockingIOError:
                pass
            except OSError as error:
                over(fd, str(error))
        if time.monotonic() >= due:
            due += every_s
            for sock, _ in list(held.values()):
                # A connection that was ended shows that when it is read.
                with contextlib.suppress(OSError):
                    sock.send(more())
    for sock, what in held.values():
        done.append(what)
        sock.close()
    poller.close()
    return done


@dataclass(slots=True)
class Hasty:
    """One short connection: connect, one request, read to the end."""

    start: float
    end: float = 0.0
    received: bytes = b""
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error and self.received.startswith(b"HTTP/1.1 200")


def listen_overflows() -> int:
    """How often this network namespace dropped a connection since the queue of those to be accepted was full."""
    names, values = Path("/proc/self/net/netstat").read_text().splitlines()[:2]
    return int(dict(zip(names.split(), values.split(), strict=True))["ListenOverflows"])


def storm(address: Address, rate: float, seconds: float, request: bytes) -> list[Hasty]:
    """`rate` new connections per second, whether or not earlier ones are done (open loop), each with one request."""
    poller = select.epoll()
    open_: dict[int, tuple[socket.socket, Hasty]] = {}
    done: list[Hasty] = []
    begin = time.monotonic()
    wanted = int(rate * seconds)
    started = 0
    # How many a busy machine can begin in a second is its own affair, and noted; that one is not served is ours.
    progress = begin
    while started < wanted or open_:
        now = time.monotonic()
        if now > progress + 15:
            break
        due = min(wanted, int((now - begin) * rate) + 1)
        # A few at a time, so that answers are read in between.
        for _ in range(min(due - started, 32)):
            sock = start_connecting(address)
            open_[sock.fileno()] = (sock, Hasty(time.monotonic()))
            poller.register(sock.fileno(), select.EPOLLOUT)
            started += 1
        for fd, events in poller.poll(0.001 if started < wanted else 0.05):
            sock, what = open_[fd]
            try:
                if events & select.EPOLLOUT:
                    sock.send(request)
                    poller.modify(fd, select.EPOLLIN)
                    continue
                data = sock.recv(65536)
            except BlockingIOError:
                continue
            except OSError as error:
                what.error = str(error)
                data = b""
            what.received += data
            if not data:
                what.end = progress = time.monotonic()
                done.append(what)
                del open_[fd]
                poller.unregister(fd)
                sock.close()
    for sock, what in open_.values():
        what.error = what.error or "no end within 15 s"
        what.end = time.monotonic()
        done.append(what)
        sock.close()
    poller.close()
    return done
