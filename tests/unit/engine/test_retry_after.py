"""Retry-After: RFC 9110 section 10.2.3, dates in the three forms of section 5.6.7."""

from __future__ import annotations

import calendar
import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.retry_after import parse_retry_after

# Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example.
NOV_6 = 784111777


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b"007", 7.0),
        (b"9" * 400, 1e9),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 10.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 10.0),
        (b"Sun Nov  6 08:49:37 1994", 10.0),
        (b"Sun Nov 06 08:49:37 1994", 10.0),
        (b"Wed, 16 Nov 1994 08:49:37 GMT", 10.0 + 10 * 86400),
        (b"Sat, 05 Nov 1994 08:49:37 GMT", 0.0),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 1e9),
    ],
)
def test_seconds_and_dates(value: bytes, seconds: float) -> None:
    assert parse_retry_after(value, NOV_6 - 10) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b" ", b"-1", b"+1", b"1.5", b"1 ", b"1s", b"soon", b"Sun", b"Sun,", b"Sun, 06 Nov 1994 08:49:37"),
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 32 Nov 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 19x4 08:49:37 GMT",
        b"Sun, 06 nov 1994 08:49:37 GMT",
        b"Sun, 06-Nov-1994 08:49:37 GMT",
        b"Sunday, 06 Nov 94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 94",
        b"Sun Nov  6 08.49.37 1994",
    ],
)
def test_anything_else_is_none(value: bytes) -> None:
    assert parse_retry_after(value, NOV_6) is None


def test_two_digits_more_than_fifty_years_ahead_are_the_past() -> None:
    now = calendar.timegm((2026, 1, 1, 0, 0, 0))
    assert parse_retry_after(b"Thursday, 01-Jan-76 00:00:00 GMT", now) == 1e9  # 2076, still within fifty years
    assert parse_retry_after(b"Friday, 01-Jan-77 00:00:00 GMT", now) == 0.0  # 1977


@given(st.integers(0, 4 * 10**9), st.integers(0, 10**8))
def test_every_date_reads_as_written(now: int, ahead: int) -> None:
    moment = time.gmtime(now + ahead)
    assert parse_retry_after(email.utils.formatdate(now + ahead, usegmt=True).encode(), now) == ahead
    assert parse_retry_after(time.asctime(moment).encode(), now) == ahead


@given(st.binary(max_size=40), st.integers(0, 4 * 10**9))
def test_no_bytes_break_it(value: bytes, now: int) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds <= 1e9
