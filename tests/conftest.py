"""For all tests: in CI nothing may be skipped, and examples do not depend on the day."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

# No deadline, and no check of how long drawing takes: both depend on what else the machine does. The same examples each
# time, so that what fails is found by whoever changed it; `make fuzz` (HEADGATE_FUZZ) draws new ones.
settings.register_profile(
    "headgate",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="HEADGATE_FUZZ" not in os.environ,
)
settings.load_profile("headgate")


def pytest_configure(config: pytest.Config) -> None:
    """Balancers of tests have their admin sockets in a place of their own, not among those of this machine."""
    directory = tempfile.mkdtemp(prefix="headgate-test-")  # short: a unix socket's path has 107 bytes at most
    os.environ["RUNTIME_DIRECTORY"] = directory
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))


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


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test does to the balancer's logger (a command that is called sets it up, on a stream that ends with the
    test) concerns no other test."""
    logger = logging.getLogger("headgate")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
