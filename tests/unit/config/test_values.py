"""Single values: durations, sizes, numbers, statuses, names."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.hosts import Authority, HostPattern, Network
from headgate.config.values import (
    Duration,
    FieldName,
    FieldValue,
    Path,
    Share,
    Size,
    StatusRange,
    Token,
    UpgradeToken,
    Whole,
    WorkerCount,
    Wrong,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@given(st.integers(1, 30 * 86400 * 1000))
def test_milliseconds_survive_formatting(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@given(st.floats(0.001, 30 * 86400.0))
def test_any_duration_survives_formatting(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@given(st.integers(1, 2**50))
def test_any_size_survives_formatting(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_text_is_a_duration_or_wrong(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except Wrong:
        return
    assert seconds >= 0
    assert math.isfinite(seconds)


@given(st.text())
def test_text_is_a_size_or_wrong(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except Wrong:
        return


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        ("5s", 5),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1m30s", 90),
        ("1.5s", 1.5),
        (3, 3),
        (0.25, 0.25),
        ("7", 7),
    ],
)
def test_duration(raw: object, seconds: float) -> None:
    assert Duration()(raw) == seconds


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "s",
        "5 s",
        "5sec",
        "-5s",
        "+5s",
        "5S",
        "1_0s",
        "²s",
        "1e3s",
        "nan",
        "inf",
        0,
        -1,
        0.0001,
        True,
        None,
        [],
        10**400,
        math.inf,
        math.nan,
        31 * 86400,
        "off",
        False,
    ],
)
def test_not_a_duration(raw: object) -> None:
    with pytest.raises(Wrong):
        Duration()(raw)


@pytest.mark.parametrize("raw", ["off", False])
def test_a_duration_may_be_off(raw: object) -> None:
    assert Duration(off=True)(raw) == 0.0


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        ("64KiB", 65536),
        ("10MB", 10000000),
        ("1 GiB", 2**30),
        ("512", 512),
        ("512B", 512),
        ("1.5KiB", 1536),
        (7, 7),
        ("64kib", 65536),
    ],
)
def test_size(raw: object, size: int) -> None:
    assert Size()(raw) == size


@pytest.mark.parametrize(
    "raw", ["", "64K", "KiB", "-1", "1.0001KB", "1PB", "²", 0, -1, 1.5, True, None, 2**60, "off", False]
)
def test_not_a_size(raw: object) -> None:
    with pytest.raises(Wrong):
        Size()(raw)


def test_a_unit_that_is_cut_short_is_completed() -> None:
    with pytest.raises(Wrong) as caught:
        parse_size("64k")
    assert caught.value.suggestion == 'did you mean "64KiB"?'


@pytest.mark.parametrize("raw", [True, False, 1.0, "1", None, [], 0, 11, 10**400])
def test_not_a_whole_number_from_1_to_10(raw: object) -> None:
    with pytest.raises(Wrong):
        Whole(1, 10)(raw)


def test_workers() -> None:
    assert [WorkerCount()(raw) for raw in (1, 256, "auto")] == [1, 256, "auto"]
    for raw in (0, 257, "many", True, 1.5, None):
        with pytest.raises(Wrong):
            WorkerCount()(raw)


@pytest.mark.parametrize(("raw", "share"), [(0.5, 0.5), (1, 1.0), (False, None), ("off", None)])
def test_share(raw: object, share: float | None) -> None:
    assert Share()(raw) == share


@pytest.mark.parametrize("raw", [0, -0.1, 1.1, 50, math.nan, math.inf, True, "0.5", None, 10**400])
def test_not_a_share(raw: object) -> None:
    with pytest.raises(Wrong):
        Share()(raw)


@pytest.mark.parametrize(
    ("raw", "pair"), [(200, (200, 200)), ("204", (204, 204)), ("200-299", (200, 299)), ("404-404", (404, 404))]
)
def test_statuses(raw: object, pair: tuple[int, int]) -> None:
    assert StatusRange()(raw) == pair


@pytest.mark.parametrize("raw", [99, 100, 600, 0, -200, "2xx", "200-", "299-200", "200-600", True, 200.0, None, "٢٠٠"])
def test_not_statuses(raw: object) -> None:
    with pytest.raises(Wrong):
        StatusRange()(raw)


@pytest.mark.parametrize(
    ("reader", "raw", "value"),
    [
        (Path(), "/a/b%20c", "/a/b%20c"),
        (Path(query=True), "/health?deep=1", "/health?deep=1"),
        (Token(), "X-Probe", "X-Probe"),
        (Token(off=True), False, None),
        (UpgradeToken(), "WebSocket", "websocket"),
        (FieldValue(), " a b ", "a b"),
        (HostPattern(), "Shop.Example.", "shop.example"),
        (HostPattern(), "*.Example", "*.example"),
        (HostPattern(), "127.0.0.1", "127.0.0.1"),
        (HostPattern(), "[::1]", "[::1]"),
        (Authority(), "Shop.example:8080", "shop.example:8080"),
        (Authority(), "[::1]:80", "[::1]:80"),
        (Network(), "10.0.0.0/8", "10.0.0.0/8"),
        (Network(), "127.0.0.1", "127.0.0.1"),
        (Network(), "127.0.0.1/32", "127.0.0.1"),
        (Network(), "fd00::/8", "fd00::/8"),
        (Network(), "unix", "unix"),
    ],
)
def test_texts(reader: Any, raw: object, value: object) -> None:
    assert reader(raw) == value


@pytest.mark.parametrize(
    ("reader", "raw"),
    [
        (Path(), "a"),
        (Path(), "/a?b"),
        (Path(), "/a#b"),
        (Path(), "/a b"),
        (Path(), "/ä"),
        (Path(), "/a\r\nX: y"),
        (Path(query=True), "/a#b"),
        (Token(), ""),
        (Token(), "a b"),
        (Token(), "ä"),
        (Token(), False),
        (UpgradeToken(), "h2c"),
        (UpgradeToken(), "H2C"),
        (FieldName(), "Host"),
        (FieldName(), "content-length"),
        (FieldValue(), "a\nb"),
        (FieldValue(), "ä"),
        (HostPattern(), "*"),
        (HostPattern(), "a.*.b"),
        (HostPattern(), "a:80"),
        (HostPattern(), ""),
        (HostPattern(), "a..b"),
        (HostPattern(), "1.2.3"),
        (Authority(), ":80"),
        (Authority(), "a:0"),
        (Authority(), "a\r\nb"),
        (Network(), "10.0.0.1/8"),
        (Network(), "10.0.0.0/33"),
        (Network(), "example"),
        (Network(), 5),
    ],
)
def test_not_such_texts(reader: Any, raw: object) -> None:
    with pytest.raises(Wrong):
        reader(raw)
