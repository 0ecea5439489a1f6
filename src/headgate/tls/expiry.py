"""Dates of certificates: what is said of one that ends soon, and when. Pure; the clock is passed in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

WARN_BEFORE = timedelta(days=14)
"""Tools that renew do so 30 days before the end (certbot; 90-day certificates): who is at 14 was forgotten by them, and
there is still time."""
_AGAIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Dated:
    """Something that ends. what: what it is, for people. warn_before: how long before its end it is mentioned."""

    what: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    warn_before: timedelta = WARN_BEFORE


def days_left(not_after: datetime, now: datetime) -> int:
    """Whole days; negative once it has ended."""
    return (not_after - now) // timedelta(days=1)


def describe(
    what: str, not_before: datetime, not_after: datetime, now: datetime, warn_before: timedelta = WARN_BEFORE
) -> str:
    """What is to be said of its dates; "" while all is well."""
    day = f"{not_after.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if not_after <= now:
        return f"{what} has expired on {day}"
    if not_before > now:
        return f"{what} is not valid before {not_before.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    left = days_left(not_after, now)
    if not_after - now > warn_before:
        return ""
    count = {0: "in less than a day", 1: "in 1 day"}.get(left, f"in {left} days")
    return f"{what} expires {count}, on {day}"


class Reminder:
    """Says once a day, of each certificate, that it ends soon or has ended."""

    def __init__(self) -> None:
        self._said: dict[str, datetime] = {}

    def due(self, dated: Iterable[Dated], now: datetime) -> list[str]:
        """What is to be said now."""
        texts = []
        known = {}
        for one in dated:
            if one.fingerprint in known:
                continue
            text = describe(one.what, one.not_before, one.not_after, now, one.warn_before)
            last = self._said.get(one.fingerprint)
            if text and (last is None or now - last >= _AGAIN):
                texts.append(text)
                last = now
            if text and last is not None:
                known[one.fingerprint] = last
        self._said = known
        return texts
