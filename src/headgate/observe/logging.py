"""The supervisor's own log: one plain line per event on standard error. (Requests go to the access log.)"""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

# The names that messages carry.
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Formatter(logging.Formatter):
    """`2031-05-04T12:00:00.123Z info text`: UTC, so that the lines of several machines can be merged."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        # A reason may quote what a backend sent: it must not be able to write lines of its own.
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        line = f"{when}.{int(record.msecs):03d}Z {record.levelname.lower()} {text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> logging.Logger:
    """Send everything below the logger "headgate" to `stream` (standard error by default), one line per record.

    Only for programs that are Headgate's own: embedded use leaves logging to its host. Calling it again replaces
    what the last call set up. Returns the logger.
    """
    logger = logging.getLogger("headgate")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter())
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False
    return logger
