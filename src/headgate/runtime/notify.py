"""What systemd wants to hear (sd_notify(3)) and what it hands over (sd_listen_fds(3)): datagrams and descriptors.

Without systemd the environment variables are missing and nothing here does anything.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

log = logging.getLogger("headgate.supervisor")

_FIRST_DESCRIPTOR = 3


class Notifier:
    """Tells the service manager how it goes. Never blocks, never raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]  # an abstract socket (unix(7))
        self.watchdog_s = _watchdog_s(environ)
        """The manager wants a word at least this often, or it restarts the service; 0 = it does not ask."""

    def ready(self, status: str) -> None:
        """Clients are let in; or the reload is over."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload or an upgrade has begun; `ready` ends it. (Type=notify-reload wants the time of it.)"""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """For the manager's watchdog."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("cannot notify the service manager: %s", error.strerror or error)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0  # meant for another process
    try:
        return max(0, int(environ.get("WATCHDOG_USEC", "0"))) / 1e6
    except ValueError:
        return 0.0


def listen_descriptors(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """The stream sockets that systemd opened for us (socket activation). They are ours from here on.

    The variables are removed: they are not for our children.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = []
    for fd in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count)):
        try:
            sock = socket.socket(fileno=fd)
        except OSError as error:
            log.warning("the service manager's descriptor %d is no socket: %s", fd, error.strerror)
            continue
        os.set_inheritable(fd, False)
        sock.setblocking(False)
        if sock.type != socket.SOCK_STREAM:
            log.warning("the service manager's descriptor %d is no stream socket: not used", fd)
            sock.close()
            continue
        sockets.append(sock)
    return sockets
