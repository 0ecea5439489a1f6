"""How many workers `workers = "auto"` means: the cores this process may really use.

A machine of 64 cores may grant a container two. Affinity (cpusets, taskset) says which cores, the control group's quota
how much of them; the smaller one counts. sched(7), Documentation/admin-guide/cgroup-v2.rst and
Documentation/scheduler/sched-bwc.rst of the kernel.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from headgate.config.schema import Config


def worker_count(config: Config) -> int:
    """The number given, or one for each core this process may use."""
    return available_cores() if config.workers == "auto" else config.workers


def available_cores(root: Path = Path("/"), affinity: int | None = None) -> int:
    """At least 1. A quota of one and a half cores makes 2: the half is there to be used.

    root: of the file system to look in. affinity: how many cores the process may run on; asked of the system if None.
    """
    cores = len(os.sched_getaffinity(0)) if affinity is None else affinity
    quotas = [quota for quota in _quotas(root) if quota > 0]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas)]))


def _quotas(root: Path) -> Iterator[float]:
    """Each limit that is set, in cores: a group's own and those of the groups it is in."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for base in (mount, mount / "unified"):
                for group in _groups(base, path):
                    yield from _v2(group)
        elif "cpu" in controllers.split(","):
            for base in (mount / controllers, mount / "cpu", mount / "cpu,cpuacct"):
                for group in _groups(base, path):
                    yield from _v1(group)


def _groups(base: Path, path: str) -> Iterator[Path]:
    """A group's directory and those above it. In a container the path may be the host's, and the root our own."""
    inside = PurePosixPath(path.lstrip("/"))
    yield from (base / part for part in (inside, *inside.parents) if ".." not in part.parts)


def _v2(group: Path) -> Iterator[float]:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return


def _v1(group: Path) -> Iterator[float]:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        yield quota / int((group / "cpu.cfs_period_us").read_text())  # -1 is no limit
    except (OSError, ValueError, ZeroDivisionError):
        return
