"""traceparent by the rules of W3C Trace Context, Level 1 section 3.2.2 (Level 2: the random flag)."""

from __future__ import annotations

import pytest

from headgate.engine.trace import read_traceparent

ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{ID}-{PARENT}-01", 1),
        (f"00-{ID}-{PARENT}-00", 0),
        (f"00-{ID}-{PARENT}-03", 3),
        (f"00-{ID}-{PARENT}-ff", 3),  # flags nobody knows are not passed on
        (f"01-{ID}-{PARENT}-01", 1),
        (f"cc-{ID}-{PARENT}-01-what-the-future-holds", 1),
    ],
)
def test_valid(value: str, flags: int) -> None:
    assert read_traceparent(value.encode()) == (ID, PARENT, flags)


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{ID}-{PARENT}",
        f"00-{ID}-{PARENT}-1",
        f"00-{ID}-{PARENT}-01-",
        f"00-{ID}-{PARENT}-01.",
        f"cc-{ID}-{PARENT}-01.what",
        f"ff-{ID}-{PARENT}-01",
        f"00-{ID.upper()}-{PARENT}-01",
        f"0X-{ID}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID[:-1]}g-{PARENT}-01",
        f"00_{ID}-{PARENT}-01",
        f"00-{ID}-{PARENT}-0g",
        f"-00-{ID}-{PARENT}-01",
    ],
)
def test_not_valid(value: str) -> None:
    assert read_traceparent(value.encode()) is None
