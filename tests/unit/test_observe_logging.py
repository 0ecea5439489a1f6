"""The supervisor's log lines: one per event, whatever is in them."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from headgate.observe.logging import configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    logger = logging.getLogger("headgate")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


def lines(write: object = None, level: int = logging.INFO) -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    configure(io.StringIO())
    configure(stream, level)
    return stream, logging.getLogger("headgate.control")


def test_time_level_text() -> None:
    stream, log = lines()
    log.warning("backend %s down", "web/a")
    log.debug("not shown")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning backend web/a down\n", stream.getvalue()), (
        stream.getvalue()
    )


def test_no_text_can_write_a_line_of_its_own() -> None:
    stream, log = lines()
    log.error("not an HTTP answer: %s", "x\n2000-01-01T00:00:00.000Z info all is well\x1b[2J\u2028")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert r"x\n2000" in stream.getvalue()


def test_exceptions_keep_their_traceback() -> None:
    stream, log = lines()
    try:
        raise KeyError("x")
    except KeyError:
        log.exception("odd")
    assert "Traceback" in stream.getvalue()
