"""Why a breaker opened: the bounded set of words that metrics know it by. The text for people is the reason."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """The rule that took a backend out."""

    CONSECUTIVE_FAILURES = "consecutive_failures"
    """`breaker.failure_threshold` was reached."""
    FAILURE_RATE = "failure_rate"
    """`breaker.failure_rate` was reached."""
    CONNECT_FAILURE = "connect_failure"
    """A request could not connect, and nothing checks the backend (`health.type = "none"`)."""
    PROBE_FAILED = "probe_failed"
    """It was half-open, and the request that tried it failed."""
