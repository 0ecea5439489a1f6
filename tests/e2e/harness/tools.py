"""Programs that some tests need: without them a test is skipped, or fails in CI (HEADGATE_CI is set)."""

from __future__ import annotations

import resource
import shutil

import pytest


def require(tool: str) -> str:
    """Path of the program `tool`; skips the test when the machine has none."""
    # Debian keeps daemons where a user's PATH does not look.
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


def require_open_files(count: int) -> None:
    """Raise this process's soft limit of open files to the hard one; skips the test when that is below `count`."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the hard limit of open files is {hard}, this test needs {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else hard, hard))
