"""For runs under the sanitizers (tools/sanitize.sh): a test fails when any process it started was reported.

Loaded with `pytest -p tests.sanitizer`. Needs HEADGATE_SANITIZER_REPORTS, the directory that reports are written to.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

import headgate.engine.core

REPORTS = Path(os.environ["HEADGATE_SANITIZER_REPORTS"])
SHOWN_LINES = 60


def pytest_sessionstart() -> None:
    """The engine that is tested must be the instrumented one."""
    library = Path(headgate.engine.core.__file__)
    if b"__asan_init" not in library.read_bytes():
        raise pytest.UsageError(f"{library} was built without AddressSanitizer")


def _reports() -> set[Path]:
    return {path for path in REPORTS.iterdir() if path.stat().st_size}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """After the fixtures have ended what the test started."""
    yield
    for path in sorted(_reports() - _seen):
        _seen.add(path)
        pytest.fail("\n".join(path.read_text(errors="replace").splitlines()[:SHOWN_LINES]), pytrace=False)


_seen: set[Path] = set()
