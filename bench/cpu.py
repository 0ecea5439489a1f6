"""Processor time of a whole process tree, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    # The name in parentheses may hold spaces; the fields after it do not.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """The process and all its living descendants."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _thread_ns(pid: int) -> int:
    """Time on a processor of the threads that live, in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def own_seconds(pid: int) -> float:
    """User and system time of this process alone, in seconds."""
    return _thread_ns(pid) / 1e9


def seconds(root: int) -> float:
    """User and system time of the tree so far, in seconds, children that have ended and were waited for included.

    From the scheduler's own account, in nanoseconds; only that of ended children is kept in ticks (10 ms).
    """
    nanoseconds, ticks = 0, 0
    for pid in tree(root):
        nanoseconds += _thread_ns(pid)
        # cutime and cstime: fields 16 and 17 of proc(5), and the list starts with field 3.
        ticks += sum(int(value) for value in _stat(pid)[13:15])
    return nanoseconds / 1e9 + ticks / _TICKS_PER_S
