"""For all tests: in CI nothing may be skipped, and examples do not depend on the day."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# No deadline: how long an example takes depends on what else the machine does. The same examples each time, so that
# what fails is found by whoever changed it; `make fuzz` (HEADGATE_FUZZ) draws new ones.
settings.register_profile("headgate", deadline=None, derandomize="HEADGATE_FUZZ" not in os.environ)
settings.load_profile("headgate")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With HEADGATE_CI set, a test that would be skipped (a program it needs is missing) fails instead."""
    report = yield
    if report.skipped and os.environ.get("HEADGATE_CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which HEADGATE_CI does not allow: {call.excinfo and call.excinfo.value}"
    return report
