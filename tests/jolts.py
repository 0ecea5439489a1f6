"""A machine that stands still now and then: `python -m tests.jolts -- python -m pytest -n 4 tests/e2e`.

Runs a command, and stops one of its descendants (SIGSTOP) for a moment, again and again: what a busy machine does to a
test once in a hundred runs, this does in each. A test that fails so takes how long something took for what was done, or
an order for granted that nobody promises.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def descendants(pid: int) -> Iterator[int]:
    """All processes below this one."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                yield child
                yield from descendants(child)


def stopped(pid: int) -> bool:
    """Somebody else has stopped it, or it is gone (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZX"
    except OSError:
        return True


def jolt(pid: int, seconds: float) -> None:
    """Let a process stand still for that time."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.jolts", description=__doc__)
    parser.add_argument("--longest", type=float, default=0.3, help="seconds; a pause lasts a third of it at least")
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two pauses, on average")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    process = subprocess.Popen(arguments.command)
    count = 0
    while process.poll() is None:
        time.sleep(random.expovariate(1 / arguments.every))
        chosen = [pid for pid in descendants(process.pid) if not stopped(pid)]
        if chosen:
            jolt(random.choice(chosen), random.uniform(arguments.longest / 3, arguments.longest))
            count += 1
    print(f"{count} pauses")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
