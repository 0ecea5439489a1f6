"""Who has an address that we wanted: found through /proc, for "could not start" messages and for `headgate check`.

Linux tells which socket listens where (/proc/net/tcp, tcp6, unix), by inode, and which process has an inode open
(/proc/PID/fd), for our own processes, or all of them for root. What cannot be seen is left out: nobody's start may
fail because /proc is hidden.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from pathlib import Path

from headgate.config.addresses import Bind

_PROC = Path("/proc")
_TCP_LISTEN = "0A"  # TCP_LISTEN in include/net/tcp_states.h
_ACCEPTING = 0x10000  # __SO_ACCEPTCON, the flag of a listening unix socket
_LONGEST_COMMAND = 120


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on an address. `pid` is 0 where only the user could be found out."""

    pid: int
    command: tuple[str, ...] = ()
    """Its command line; its name alone where that cannot be read."""
    user: int | None = None

    @property
    def is_headgate(self) -> bool:
        """Is it a running headgate: the `headgate` command, or `python -m headgate`?"""
        words = self.command
        if any(os.path.basename(word) == "headgate" for word in words[:2]):
            return True
        return any(flag == "-m" and module.partition(".")[0] == "headgate" for flag, module in pairwise(words))

    def __str__(self) -> str:
        if not self.pid:
            return f"a process of another user (uid {self.user})"
        text = " ".join(self.command)
        shown = text if len(text) <= _LONGEST_COMMAND else text[: _LONGEST_COMMAND - 3] + "..."
        return f"process {self.pid} ({shown})" if shown else f"process {self.pid}"


def describe_holder(bind: Bind) -> str:
    """Who listens on an address, in words: "process 4711 (nginx -g daemon off;)"; "" when that cannot be told."""
    holder = holder_of(bind)
    return "" if holder is None else str(holder)


def holder_of(bind: Bind, proc: Path = _PROC) -> Holder | None:
    """The process that listens on an address, or on one that gets in its way; None when that cannot be told."""
    try:
        found = dict(_unix_listeners(bind.path, proc) if bind.family == "unix" else _tcp_listeners(bind, proc))
    except (OSError, ValueError, struct.error):
        return None
    if not found:
        return None
    pids = _processes(set(found), proc)
    if not pids:
        user = next(iter(found.values()))
        return None if user is None else Holder(0, user=user)
    # Workers inherit the socket from the process that bound it: name that one.
    first = next((pid for pid in sorted(pids) if _parent(pid, proc) not in pids), min(pids))
    return Holder(first, _command(first, proc))


def _tcp_listeners(bind: Bind, proc: Path) -> Iterator[tuple[str, int | None]]:
    """Inode and user of each socket listening on the port, at an address that overlaps."""
    for name in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(proc / name, encoding="ascii") as table:
            next(table)
            for line in table:
                columns = line.split()
                host, port = columns[1].split(":")
                if columns[3] == _TCP_LISTEN and int(port, 16) == bind.port and _in_the_way(bind, _address(host)):
                    yield columns[9], int(columns[7])


def _address(text: str) -> IPv4Address | IPv6Address:
    """An address as /proc/net prints it: 32-bit words in the machine's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _in_the_way(bind: Bind, other: IPv4Address | IPv6Address) -> bool:
    if bind.family == "dual" or (other.version == 6 and other.is_unspecified):
        return True  # "::" may well be dual-stack; /proc does not tell
    mine = ip_address(bind.host)
    return mine.version == other.version and (mine == other or mine.is_unspecified or other.is_unspecified)


def _unix_listeners(path: str, proc: Path) -> Iterator[tuple[str, int | None]]:
    with open(proc / "net/unix", encoding="utf-8", errors="surrogateescape") as table:
        next(table)
        for line in table:
            columns = line.rstrip("\n").split(maxsplit=7)
            if len(columns) == 8 and columns[7] == path and int(columns[3], 16) & _ACCEPTING:
                yield columns[6], None


def _processes(inodes: set[str], proc: Path) -> set[int]:
    """Processes that have one of these sockets open, of those whose descriptors we may see."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    pids = set()
    for entry in os.listdir(proc):
        if not entry.isdecimal():
            continue
        with contextlib.suppress(OSError):  # ended in the meantime, or not ours to look into
            for descriptor in os.listdir(proc / entry / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(proc / entry / "fd" / descriptor) in wanted:
                        pids.add(int(entry))
                        break
    return pids


def _parent(pid: int, proc: Path) -> int:
    try:
        # The name in parentheses may hold anything, parentheses included; the parent is the second field after it.
        return int((proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _command(pid: int, proc: Path) -> tuple[str, ...]:
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        if words != [b""]:
            return tuple("".join(c if c.isprintable() else "?" for c in os.fsdecode(word)) for word in words)
        return ((proc / str(pid) / "comm").read_text(errors="replace").strip(),)
    except OSError:
        return ()
