"""What a process is called. Apart from `processes`: workers start none, and `subprocess` is a quarter of a MiB."""

from __future__ import annotations

import contextlib
from pathlib import Path


def name_process(name: str) -> None:
    """What `ps`, `top` and `pkill` know this process by (15 bytes at most, proc(5)). An upgrade's exec would make it
    `python`."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
