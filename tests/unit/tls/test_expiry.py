"""When something is said of a certificate that ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from headgate.tls.expiry import Dated, Reminder, days_left, describe

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LONG_AGO = NOW - 300 * DAY


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (15 * DAY, ""),
        (14 * DAY + timedelta(seconds=1), ""),
        (14 * DAY, "it expires in 14 days, on 2026-03-15 12:00 UTC"),
        (1.5 * DAY, "it expires in 1 day, on 2026-03-03 00:00 UTC"),
        (timedelta(hours=2), "it expires in less than a day, on 2026-03-01 14:00 UTC"),
        (timedelta(), "it has expired on 2026-03-01 12:00 UTC"),
        (-DAY, "it has expired on 2026-02-28 12:00 UTC"),
    ],
)
def test_the_end(left: timedelta, says: str) -> None:
    assert describe("it", LONG_AGO, NOW + left, NOW) == says


def test_the_begin() -> None:
    assert describe("it", NOW + DAY, NOW + 90 * DAY, NOW) == "it is not valid before 2026-03-02 12:00 UTC"


def test_days_left() -> None:
    assert [days_left(NOW + hours * timedelta(hours=1), NOW) for hours in (25, 24, 23, 0, -1)] == [1, 1, 0, 0, -1]


def test_once_a_day_each() -> None:
    reminder = Reminder()
    soon = Dated("soon", "1", LONG_AGO, NOW + 3 * DAY)
    late = Dated("late", "2", LONG_AGO, NOW + 15 * DAY)
    said = []
    for hour in range(49):
        now = NOW + timedelta(hours=hour)
        said += [(hour, text.split()[0]) for text in reminder.due([soon, late, soon], now)]
    assert said == [(0, "soon"), (24, "soon"), (24, "late"), (48, "soon"), (48, "late")]


def test_a_renewed_one_is_forgotten() -> None:
    reminder = Reminder()
    assert len(reminder.due([Dated("it", "1", LONG_AGO, NOW + DAY)], NOW)) == 1
    assert reminder.due([Dated("it", "2", NOW, NOW + 90 * DAY)], NOW) == []
    assert len(reminder.due([Dated("it", "1", LONG_AGO, NOW + DAY)], NOW + timedelta(hours=1))) == 1
