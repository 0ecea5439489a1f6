"""Listening sockets: bound once by the supervisor, shared by all workers, opened (listen) only when all is ready."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headgate.config.addresses import Bind
from headgate.runtime.address import describe_os_error

# The kernel cuts it to net.core.somaxconn (4,096 by default). As much as there is: thousands of clients that come back
# at once after an outage wait here for a moment, and beyond it their SYNs are dropped and come again only after 1 s.
BACKLOG = 65535
# A balancer in front usually runs as another user of the same group; everybody else has no business there.
UNIX_MODE = 0o660


class CannotBind(Exception):
    """An address that cannot be had; the text says which, why, and who has it where that can be told."""


@dataclass(slots=True)
class BoundSocket:
    """A bound socket that does not listen yet. `bind` carries the real port where the kernel chose it.

    file: device and inode of a unix socket's file that is ours to remove. shared: the service manager has it, too, and
    listens on when we have ended.
    """

    sock: socket.socket
    bind: Bind
    file: tuple[int, int] | None = None
    shared: bool = False

    def listen(self) -> None:
        """Let clients in. Raises CannotBind when somebody else listened here in the meantime."""
        try:
            self.sock.listen(BACKLOG)
        except OSError as error:
            raise CannotBind(f"cannot listen on {self.bind.text}: {describe_os_error(error.errno)}") from error

    def close(self) -> None:
        """Close our copy. A unix socket's file goes away too, if it is still ours."""
        self.sock.close()
        if self.file is not None:
            with contextlib.suppress(OSError):
                found = os.lstat(self.bind.path)
                if (found.st_dev, found.st_ino) == self.file:
                    os.unlink(self.bind.path)
            self.file = None


def bind_all(binds: Iterable[Bind], holder: Callable[[Bind], str] = lambda bind: "") -> list[BoundSocket]:
    """Bind every address or none. Raises CannotBind, whose text names all that failed, one per line.

    holder: tells in words who has an address that is taken; "" when it cannot.
    """
    bound: list[BoundSocket] = []
    failed: list[str] = []
    for bind in binds:
        try:
            bound.append(bind_one(bind, holder))
        except CannotBind as error:
            failed.append(str(error))
    if failed:
        for socket_ in bound:
            socket_.close()
        raise CannotBind("\n".join(failed))
    return bound


def bind_one(bind: Bind, holder: Callable[[Bind], str] = lambda bind: "", *, mode: int = UNIX_MODE) -> BoundSocket:
    """Bind one address: non-blocking, close-on-exec, not listening. Raises CannotBind.

    mode: of a unix socket's file.
    """
    try:
        if bind.family == "unix":
            return _bind_unix(bind, mode)
        return _bind_tcp(bind)
    except OSError as error:
        raise CannotBind(f"cannot bind {bind.text}: {_why(error, bind, holder)}") from error


def _bind_tcp(bind: Bind) -> BoundSocket:
    if bind.family == "inet":
        sock = _tcp_socket(socket.AF_INET)
        address: tuple[str, int] = (bind.host, bind.port)
    else:
        try:
            sock = _tcp_socket(socket.AF_INET6)
            # Dual: one socket for both families; clients over IPv4 show as ::ffff:a.b.c.d. Else IPv6 alone, so that
            # "[::]:80" can stand beside "0.0.0.0:80" (RFC 3493 section 5.3).
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bind.family != "dual")
            address = (bind.host or "::", bind.port)
        except OSError as error:
            if bind.family != "dual" or error.errno != errno.EAFNOSUPPORT:
                raise
            sock = _tcp_socket(socket.AF_INET)  # the machine has no IPv6
            address = ("0.0.0.0", bind.port)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        if bind.family == "dual" and error.errno == errno.EADDRNOTAVAIL and address[0] == "::":
            # IPv6 is compiled in but switched off (net.ipv6.conf.all.disable_ipv6).
            return _bind_tcp(Bind(bind.text, "inet", "0.0.0.0", bind.port))
        raise
    port = sock.getsockname()[1]
    if bind.port == 0:
        text = bind.text.removesuffix("0") + str(port)
        bind = Bind(text, bind.family, bind.host, port)
    return BoundSocket(sock, bind)


def _tcp_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # A restart must not wait for the last run's connections in TIME_WAIT; two listeners are refused all the same.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def _bind_unix(bind: Bind, mode: int) -> BoundSocket:
    _remove_stale(bind.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # The file must not be open to everybody even for the moment before chmod; nothing else runs in this thread.
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(bind.path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    found = os.lstat(bind.path)
    return BoundSocket(sock, bind, (found.st_dev, found.st_ino))


def _remove_stale(path: str) -> None:
    """A socket's file outlives a process that was killed. Remove it when nobody listens behind it."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code == errno.ECONNREFUSED:
        os.unlink(path)
    elif code in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    elif code != errno.ENOENT:
        raise OSError(code, os.strerror(code))


def _why(error: OSError, bind: Bind, holder: Callable[[Bind], str]) -> str:
    if error.errno == errno.EADDRINUSE:
        who = holder(bind)
        return f"already in use by {who}" if who else "already in use"
    if error.errno == errno.EACCES and bind.family != "unix" and bind.port < 1024:
        return "permission denied (ports below 1024 need root or the capability CAP_NET_BIND_SERVICE)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno == errno.EEXIST:
        return str(error.strerror)
    return describe_os_error(error.errno)
