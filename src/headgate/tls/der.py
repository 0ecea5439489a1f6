"""Reads DER (ITU-T X.690), as far as certificates and revocation lists need it.

Strict: definite lengths in their shortest form, nothing behind the end. Every mistake is a `DerError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31


class DerError(ValueError):
    """Bytes that are no DER of the shape that was expected."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value. whole: its tag, length and content; content: what is in it."""

    tag: int
    content: bytes
    whole: bytes

    def items(self) -> Iterator[Value]:
        """The values in it."""
        rest = self.content
        while rest:
            value, rest = _first(rest)
            yield value

    def expect(self, tag: int) -> Value:
        """Itself, if it is one of these. Raises DerError."""
        if self.tag != tag:
            raise DerError(f"tag 0x{self.tag:02x} where 0x{tag:02x} is expected")
        return self


def read(data: bytes, tag: int = SEQUENCE) -> Value:
    """The one value that the bytes are. Raises DerError."""
    value, rest = _first(data)
    if rest:
        raise DerError("bytes behind the end")
    return value.expect(tag)


def _first(data: bytes) -> tuple[Value, bytes]:
    if len(data) < 2:
        raise DerError("cut short")
    tag, length, start = data[0], data[1], 2
    if tag & 0x1F == 0x1F:
        raise DerError("a tag of several bytes")
    if length >= 0x80:
        count = length & 0x7F
        start += count
        if not 1 <= count <= 4 or len(data) < start or data[2] == 0:
            raise DerError("a length that is none")
        length = int.from_bytes(data[2:start], "big")
        if length < 0x80:
            raise DerError("a length that is not the shortest")
    end = start + length
    if len(data) < end:
        raise DerError("cut short")
    return Value(tag, data[start:end], data[:end]), data[end:]


def oid(value: Value) -> str:
    """An object identifier in dotted decimals. Raises DerError."""
    content = value.expect(OID).content
    if not content or content[-1] & 0x80:
        raise DerError("an object identifier that is none")
    numbers: list[int] = []
    number = 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def integer(value: Value) -> int:
    """Raises DerError."""
    return int.from_bytes(value.expect(INTEGER).content, "big", signed=True)


def time(value: Value) -> datetime:
    """UTCTime or GeneralizedTime as certificates may have them (RFC 5280 section 4.1.2.5). Raises DerError."""
    text = value.content.decode("ascii", "replace")
    try:
        if value.tag == UTC_TIME and len(text) == 13:
            century = "19" if int(text[:2]) >= 50 else "20"
            return datetime.strptime(century + text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
        if value.tag == GENERALIZED_TIME and len(text) == 15:
            return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        pass
    raise DerError(f"{text!r} is no time")
