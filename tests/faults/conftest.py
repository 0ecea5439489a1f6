"""Rows run side by side, each in processes and namespaces of its own; a test awaits its row."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from . import network, run

ROOT = Path(__file__).parents[2]
# Rows wait more than they work, and each starts half a dozen processes: more at once would only disturb each other.
SIDE_BY_SIDE = int(os.environ.get("HEADGATE_FAULTS_SIDE_BY_SIDE", "5"))
# A row that takes longer hangs.
LIMIT_S = 900.0 if os.environ.get("HEADGATE_FAULTS") == "long" else 120.0


class Outcomes:
    """Rows under way."""

    def __init__(self, keys: list[str]) -> None:
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE)
        self._futures: dict[str, Future[str]] = {key: self._pool.submit(self._run, key) for key in keys}

    @staticmethod
    def _run(key: str, again: bool = True) -> str:
        try:
            done = subprocess.run(
                run.command(key), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            # Twice in some thousand starts, on a virtual machine whose memory is reclaimed from below, the kernel could
            # not read the arguments of execve. Nothing of the row has begun then.
            if error.errno != errno.EFAULT or not again:
                raise
            return Outcomes._run(key, again=False)
        return done.stdout if done.returncode == 0 else f"{done.stdout}\n{done.stderr}\nexit status {done.returncode}"

    def of(self, key: str) -> dict[str, object]:
        """The outcome of a row, which is waited for."""
        printed = self._futures[key].result()
        try:
            outcome = json.loads(printed.splitlines()[-1])
        except (ValueError, IndexError):
            raise AssertionError(f"the row ended without an outcome:\n{printed}") from None
        assert isinstance(outcome, dict)
        return outcome

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """Starts all rows of which this session has the tests."""
    if (reason := network.missing()) is not None:
        pytest.skip(reason)
    keys = [
        str(item.callspec.params["key"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "outcomes" in item.fixturenames
    ]
    running = Outcomes(keys)
    yield running
    running.close()
