"""What the kernel knows of our processes: processor time, memory, descriptors (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One process. name: "supervisor", "worker-0"... None: the kernel did not say."""

    name: str
    cpu_s: float
    resident_bytes: int
    open_fds: int | None
    max_fds: int | None
    started_s: float


class Processes:
    """Looks at processes by their names. Processor time never goes back: a name keeps what its former holders used, as
    far as it was seen."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._seen: dict[str, tuple[int, float, float]] = {}  # name -> (pid, its CPU time, that of those before it)
        self._boot_s: float | None = None

    def look(self, wanted: Iterable[tuple[str, int]]) -> list[Process]:
        """Those of these (name, pid) that there are."""
        found = []
        for name, pid in wanted:
            try:
                found.append(self._one(name, pid))
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
        return found

    def _one(self, name: str, pid: int) -> Process:
        place = self._proc / str(pid)
        # The command's name stands in parentheses, and may hold any character.
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) * _TICK_S
        last_pid, last_s, before_s = self._seen.get(name, (pid, 0.0, 0.0))
        if last_pid != pid:
            before_s += last_s
        self._seen[name] = (pid, cpu_s, before_s)
        return Process(
            name=name,
            cpu_s=before_s + cpu_s,
            resident_bytes=int(fields[21]) * _PAGE,
            open_fds=_count_fds(place),
            max_fds=_limit(place),
            started_s=self._boot_time_s() + int(fields[19]) * _TICK_S,
        )

    def _boot_time_s(self) -> float:
        if self._boot_s is None:
            lines = (self._proc / "stat").read_text().splitlines()
            self._boot_s = next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
        return self._boot_s


def _count_fds(place: Path) -> int | None:
    try:
        # Since Linux 6.2 the directory's size is the number; before, all of them have to be listed.
        return os.stat(place / "fd").st_size or len(os.listdir(place / "fd"))
    except OSError:
        return None


def _limit(place: Path) -> int | None:
    try:
        lines = (place / "limits").read_text().splitlines()
        return next((int(line.split()[3]) for line in lines if line.startswith("Max open files")), None)
    except (OSError, ValueError):
        return None
