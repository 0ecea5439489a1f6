"""Worker processes: started by exec, watched, replaced with patience when they keep dying."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from headgate.runtime.transport import MessageChannel

# What `headgate.runtime.worker` exits with when it cannot start, and nothing will change that.
COULD_NOT_START = 3

# A worker is replaced within a second however often it is killed; only one that did not come up several times in a row
# gets more time, since whatever stops it will hardly be gone in the next second. A start takes up to half a second of
# the processor, and is a part of that second.
_HASTY_STARTS = 4
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_SOON_S = 0.4
_LONGEST_DELAY_S = 10.0
# One that lived this long died of something new.
_FORGIVEN_AFTER_S = 10.0


def worker_command(
    worker: int, control: int, segment: int, app_dir: str | None, wakes: Sequence[int] = (), decisions: int = -1
) -> list[str]:
    """The command line of worker number `worker`; `control`, `segment`, `wakes` and `decisions` are inherited
    descriptors; -1 = none."""
    command = [sys.executable, "-m", "headgate.runtime.worker"]
    command += ["--control", str(control), "--segment", str(segment), "--worker", str(worker)]
    if wakes:
        command += ["--wakes", ",".join(map(str, wakes))]
    if decisions >= 0:
        command += ["--decisions", str(decisions)]
    return command if app_dir is None else [*command, "--app-dir", app_dir]


def spawn(
    worker: int, segment: int, app_dir: str | None, wakes: Sequence[int] = (), decisions: int = -1
) -> tuple[subprocess.Popen[bytes], MessageChannel]:
    """Start a worker. Raises OSError when the system refuses (no process, no descriptor, no memory).

    wakes: the segment's eventfds. decisions: the memfd of `engine.decisions`; -1 = none. It stays in our session and
    process group, so that a terminal's job control sees one job, and shares our standard output and error.
    """
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            worker_command(worker, theirs.fileno(), segment, app_dir, wakes, decisions),
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), segment, *wakes, *([decisions] if decisions >= 0 else [])),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, MessageChannel(ours)


def describe_exit(code: int) -> str:
    """A return code as `subprocess` gives it, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Backoff:
    """How long to wait before the next start of one worker."""

    def __init__(self) -> None:
        self._deaths = 0
        self._failed_starts = 0

    def died(self, lived_s: float, *, served: bool) -> float:
        """It has died after `lived_s` seconds; `served`: it had come up. Returns the seconds to wait."""
        if lived_s >= _FORGIVEN_AFTER_S:
            self._deaths = 0
        self._deaths += 1
        self._failed_starts = 0 if served else self._failed_starts + 1
        if self._deaths == 1:
            return 0.0
        longest = _LONGEST_DELAY_S if self._failed_starts > _HASTY_STARTS else _LONGEST_DELAY_SOON_S
        return float(min(longest, _FIRST_DELAY_S * 2 ** min(self._deaths - 2, 20)))

    @property
    def deaths(self) -> int:
        """In a row, without a long life between."""
        return self._deaths


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used, 0 when it has ended (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
