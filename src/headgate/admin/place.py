"""Where the admin API listens, and how the command line finds it.

Nothing configured: a unix socket with mode 0600, `admin.sock` in

1. $RUNTIME_DIRECTORY, which systemd sets for a unit with `RuntimeDirectory=`;
2. /run/headgate, for root;
3. $XDG_RUNTIME_DIR/headgate, for a user who is logged in;
4. /tmp/headgate-UID, for anybody else.

A directory that somebody else owns or may write to is not used.

A second balancer of the same user finds the first one's socket answered and takes `admin-PID.sock` beside it. Files
that nobody listens behind any more (a killed process leaves its own) are removed by whoever starts next. Two that start
at once take turns by a lock on the directory. Where the directory cannot be had, the balancer runs without an admin API
and says so: only an address that somebody configured is worth not starting for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from headgate.config.addresses import Bind
from headgate.runtime.holder import describe_holder
from headgate.runtime.sockets import BoundSocket, CannotBind, bind_one

MODE = 0o600
FIRST = "admin.sock"


def directory(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """Where the default socket is."""
    uid = os.geteuid() if uid is None else uid
    if given := environ.get("RUNTIME_DIRECTORY"):
        return Path(given.split(":", 1)[0])
    if uid == 0:
        return Path("/run/headgate")
    if session := environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "headgate"
    return Path(f"/tmp/headgate-{uid}")


def bind_default(where: Path | None = None, pid: int | None = None) -> BoundSocket:
    """A bound socket at the default place. Raises CannotBind."""
    where = directory() if where is None else where
    try:
        return _bind_in(where, os.getpid() if pid is None else pid)
    except OSError as error:
        raise CannotBind(f"no admin API: {where}: {error.strerror or error}") from error


def bind_configured(bind: Bind) -> BoundSocket:
    """A bound socket at a configured address. Raises CannotBind."""
    bound = bind_one(bind, describe_holder, mode=MODE)
    bound.listen()
    return bound


def running(where: Path | None = None) -> list[Path]:
    """Sockets at the default place that somebody answers behind, the first balancer's first."""
    where = directory() if where is None else where
    return [path for path in _sockets(where) if _answers(path)]


def _bind_in(where: Path, pid: int) -> BoundSocket:
    with contextlib.suppress(FileExistsError):
        where.mkdir(mode=0o700, parents=where.parent != Path("/tmp"))
    found = os.lstat(where)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a directory")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        # Somebody else could put a socket of his own there, to be asked in our place.
        raise PermissionError(errno.EPERM, "others may write there, or own it")
    with _locked(where):
        for path in _sockets(where):
            if not _answers(path):
                path.unlink(missing_ok=True)
        first = where / FIRST
        path = where / f"admin-{pid}.sock" if first.exists() else first
        bound = bind_one(Bind(f"unix:{path}", "unix", path=str(path)), mode=MODE)
        # Before the lock is let go: a socket that does not listen looks like one that was left behind.
        bound.listen()
        return bound


@contextlib.contextmanager
def _locked(where: Path) -> Iterator[None]:
    descriptor = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sockets(where: Path) -> list[Path]:
    try:
        found = sorted(path for path in where.iterdir() if path.name.startswith("admin") and path.suffix == ".sock")
    except OSError:
        return []
    return sorted(found, key=lambda path: path.name != FIRST)


def _answers(path: Path) -> bool:
    """Is somebody listening? One who may not be asked by us is somebody, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN, errno.EINPROGRESS, errno.EACCES, errno.EPERM)
