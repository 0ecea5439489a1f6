"""Bounded waits on conditions that send no event (a port that opens, a state in a status page)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Waits in tests end when the thing awaited happens; the limit only bounds a failure. Wide enough for a busy machine.
PATIENCE_S = 15.0


def eventually(check: Callable[[], T], what: str, timeout_s: float = PATIENCE_S, interval_s: float = 0.01) -> T:
    """Call `check` until it answers something true, and return that; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}; last seen: {value!r}")
        time.sleep(interval_s)
