"""What one value of the configuration may be, and how its text is read.

Each class here is a reader: it stands in an annotation of the schema (`Annotated[float, Duration()]`), is called with
the raw value as TOML, JSON, YAML or Python gave it, and returns the value as the program uses it, or raises `Wrong`.
Durations become seconds (float), sizes become bytes (int); 0 stands for "off" where a limit may be off.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from typing import Protocol

from headgate.config.log_fields import FIELDS, HEADER

_DAY = 86400.0
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_UNITS_BYTES = {
    "": 1,
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([a-z]{0,3})", re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


class Wrong(ValueError):
    """A value that cannot be used. `suggestion` is a hint for the reader, "" where there is none."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion


class Reader(Protocol):
    """Turns a raw value into the one the program uses. `expects` completes "expected …" and names it in the docs."""

    @property
    def expects(self) -> str: ...

    def __call__(self, raw: object) -> object: ...


def kind_of(raw: object) -> str:
    """The kind of a raw value in the words of a configuration file."""
    if raw is None:
        return "nothing"
    if isinstance(raw, bool):
        return "true" if raw else "false"
    for types, word in ((str, "a string"), ((int, float), "a number"), ((list, tuple), "a list"), (dict, "a table")):
        if isinstance(raw, types):
            return word
    return "a date or time" if hasattr(raw, "isoformat") else f"a {type(raw).__name__}"


def quoted(text: str) -> str:
    """The text as it is shown in a message: in quotes, unprintable characters escaped, cut when it is very long."""
    shown = text if len(text) <= 80 else text[:77] + "..."
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown) + '"'


def is_token(text: str) -> bool:
    """Is it a token as RFC 9110 section 5.6.2 defines it (field names, cookie names, protocol names)?"""
    return _TOKEN.fullmatch(text) is not None


def string(raw: object, expects: str) -> str:
    """The raw value, which must be a string; raises `Wrong`."""
    if not isinstance(raw, str):
        raise Wrong(f"expected {expects}, got {kind_of(raw)}")
    return raw


# --- durations and sizes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Duration:
    """ "5s", "500ms", "2m", "1h", "1m30s", or a plain number of seconds; the result is seconds.

    `off` allows "off" (or false), which becomes 0.0. The bounds catch slips of unit: a timer below a millisecond
    cannot be kept, and a timeout above 30 days is a number of milliseconds that was taken for seconds.
    """

    off: bool = False
    lowest_s: float = 0.001
    highest_s: float = 30 * _DAY

    @property
    def expects(self) -> str:
        return 'a duration such as "5s" or "500ms"' + (', or "off"' if self.off else "")

    def __call__(self, raw: object) -> float:
        if raw is False or raw == "off":
            if self.off:
                return 0.0
            raise Wrong("cannot be off")
        if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
            raise Wrong(f"expected {self.expects}, got {kind_of(raw)}")
        seconds = parse_duration(raw) if isinstance(raw, str) else _finite(raw)
        if seconds <= 0:
            raise Wrong("must be longer than nothing", 'use "off" for no limit' if self.off else "")
        if seconds < self.lowest_s:
            raise Wrong(f"{format_duration(seconds)} is too short: at least {format_duration(self.lowest_s)}")
        if seconds > self.highest_s:
            hint = f'did you mean "{raw}ms"?' if isinstance(raw, int) and raw < 10**12 else ""
            raise Wrong(f"too long: at most {format_duration(self.highest_s)}", hint)
        return seconds


def _finite(number: int | float) -> float:
    try:
        value = float(number)
    except OverflowError:  # an integer beyond what a float holds
        value = math.inf
    if not math.isfinite(value):
        raise Wrong("not a finite number")
    return value


def parse_duration(text: str) -> float:
    """Seconds from "500ms", "5s", "1m30s" or a number; raises `Wrong` for any other text. A sign is not a duration."""
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped):
        return _finite(float(stripped))
    if _DURATION.fullmatch(stripped):
        return _finite(math.fsum(float(n) * _UNITS_S[unit] for n, unit in _DURATION_PART.findall(stripped)))
    if re.fullmatch(r"-[0-9].*", stripped):
        raise Wrong("must be longer than nothing")
    squeezed = stripped.lower().replace(" ", "")
    hint = f'did you mean "{squeezed}"?' if squeezed != stripped and _DURATION.fullmatch(squeezed) else ""
    raise Wrong(f"{quoted(text)} is not a duration", hint or 'write it as "5s", "500ms", "2m" or "1h"')


def format_duration(seconds: float) -> str:
    """The shortest exact text, which `parse_duration` reads back; "off" for 0."""
    if seconds == 0:
        return "off"
    for unit in ("d", "h", "m", "s", "ms"):
        count = seconds / _UNITS_S[unit]
        if count >= 1 and count == int(count) and int(count) * _UNITS_S[unit] == seconds:
            return f"{int(count)}{unit}"
    return f"{seconds:.9f}".rstrip("0") + "s" if seconds < 0.001 else f"{seconds!r}s"


@dataclass(frozen=True)
class Size:
    """ "64KiB", "10MB", "512B" or a plain number of bytes. KiB is 1,024 bytes, KB is 1,000."""

    off: bool = False
    lowest: int = 1
    highest: int = 2**50

    @property
    def expects(self) -> str:
        return 'a size such as "64KiB" or "10MB"' + (', or "off"' if self.off else "")

    def __call__(self, raw: object) -> int:
        if raw is False or raw == "off":
            if self.off:
                return 0
            raise Wrong("cannot be off")
        if isinstance(raw, bool) or not isinstance(raw, (int, str)):
            raise Wrong(f"expected {self.expects}, got {kind_of(raw)}")
        size = parse_size(raw) if isinstance(raw, str) else raw
        if size < self.lowest:
            raise Wrong(f"too small: at least {format_size(self.lowest)}")
        if size > self.highest:
            raise Wrong(f"too large: at most {format_size(self.highest)}")
        return size


def parse_size(text: str) -> int:
    """Bytes from "64KiB", "10MB", "512B" or "512"; raises `Wrong` for any other text."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Wrong(f"{quoted(text)} is not a size", 'write it as "64KiB", "10MB" or a number of bytes')
    number, unit = match[1], match[2].lower()
    if unit not in _UNITS_BYTES:
        wanted = next((u for u in ("KiB", "MiB", "GiB", "TiB") if unit and u.lower().startswith(unit[0])), "")
        hint = f'did you mean "{number}{wanted}"?' if wanted else 'write it as "64KiB" or "10MB"'
        raise Wrong(f"{quoted(text)} is not a size", hint)
    if "." not in number:
        return int(number) * _UNITS_BYTES[unit]
    size = float(number) * _UNITS_BYTES[unit]
    if size != int(size):
        raise Wrong(f"{quoted(text)} is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact text, which `parse_size` reads back; "off" for 0."""
    if size == 0:
        return "off"
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB"):
        if size % _UNITS_BYTES[unit.lower()] == 0:
            return f"{size // _UNITS_BYTES[unit.lower()]}{unit}"
    return f"{size}B"


# --- numbers and words -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds; `off` allows "off" (or false), which becomes 0."""

    lowest: int
    highest: int
    off: bool = False

    @property
    def expects(self) -> str:
        return f"a whole number from {self.lowest} to {self.highest}" + (', or "off"' if self.off else "")

    def __call__(self, raw: object) -> int:
        if self.off and (raw is False or raw == "off"):
            return 0
        if isinstance(raw, bool) or not isinstance(raw, int):
            shown = f"{raw}" if isinstance(raw, float) else quoted(raw) if isinstance(raw, str) else kind_of(raw)
            raise Wrong(f"expected {self.expects}, got {shown}")
        if not self.lowest <= raw <= self.highest:
            raise Wrong(f"expected {self.expects}, got {_short(raw)}")
        return raw


def _short(number: int) -> str:
    # str() of a huge integer raises ValueError (more than 4,300 digits), and nobody wants to read one.
    return str(number) if abs(number) < 10**18 else "a huge number"


@dataclass(frozen=True)
class WorkerCount:
    """A number of processes, or "auto"."""

    expects: str = 'a whole number from 1 to 256, or "auto"'

    def __call__(self, raw: object) -> int | str:
        if raw == "auto":
            return "auto"
        try:
            return Whole(1, 256)(raw)
        except Wrong as wrong:
            got = wrong.message.partition(", got ")[2]
            raise Wrong(f"expected {self.expects}, got {got}") from None


@dataclass(frozen=True)
class Share:
    """A fraction above 0 and at most 1, or false for off (None)."""

    expects: str = "a number above 0 and at most 1, or false"

    def __call__(self, raw: object) -> float | None:
        if raw is False or raw == "off":
            return None
        if isinstance(raw, bool) or not isinstance(raw, (int, float)):
            raise Wrong(f"expected {self.expects}, got {kind_of(raw)}")
        if not 0 < raw <= 1:
            shown = _short(raw) if isinstance(raw, int) else f"{raw}"
            hint = f"did you mean {raw / 100:g}?" if 1 < raw <= 100 else ""
            raise Wrong(f"expected {self.expects}, got {shown}", hint)
        return float(raw)


@dataclass(frozen=True)
class Part:
    """A fraction above 0 and at most 1, which cannot be off."""

    expects: str = "a number above 0 and at most 1"

    def __call__(self, raw: object) -> float:
        value = None if raw == "off" else Share(self.expects)(raw)
        if value is None:
            raise Wrong(f"expected {self.expects}, got {kind_of(raw)}")
        return value


@dataclass(frozen=True)
class Text:
    """A string of printable characters that is not empty."""

    expects: str = "a string"

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        if not text:
            raise Wrong("must not be empty")
        if not text.isprintable():
            raise Wrong(f"{quoted(text)} has control characters")
        return text


@dataclass(frozen=True)
class Token:
    """A token of RFC 9110; `off` allows false, which becomes None; `lower` folds case."""

    expects: str = "a name"
    off: bool = False
    lower: bool = False

    def __call__(self, raw: object) -> str | None:
        if self.off and raw is False:
            return None
        text = string(raw, self.expects + (" or false" if self.off else ""))
        if not is_token(text):
            raise Wrong(f"{quoted(text)} is not {self.expects}", "letters, digits and !#$%&'*+-.^_`|~ only")
        return text.lower() if self.lower else text


@dataclass(frozen=True)
class UpgradeToken:
    """A protocol name for the Upgrade field, folded to lower case. h2c is refused: it would smuggle requests past
    us."""

    expects: str = 'a protocol name such as "websocket"'

    def __call__(self, raw: object) -> str:
        name = str(Token(self.expects, lower=True)(raw))
        if name == "h2c":
            raise Wrong("h2c is never passed on: requests inside it would not be seen by the load balancer")
        return name


@dataclass(frozen=True)
class FieldValue:
    """The value of a header field: printable ASCII, no CR or LF (RFC 9110 section 5.5)."""

    expects: str = "a header value"

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        if re.fullmatch(r"[\x20-\x7e]*", text) is None:
            raise Wrong(f"{quoted(text)} is not a header value: printable ASCII only")
        return text.strip(" ")


_SET_BY_US = ("connection", "content-length", "host", "transfer-encoding", "upgrade", "expect", "te", "trailer")


@dataclass(frozen=True)
class FieldName:
    """The name of a header field that a health check may carry."""

    expects: str = "a header name"

    def __call__(self, raw: object) -> str:
        name = str(Token(self.expects)(raw))
        if name.lower() in _SET_BY_US:
            hint = "use the key host" if name.lower() == "host" else ""
            raise Wrong(f"{quoted(name)} cannot be set here", hint)
        return name


@dataclass(frozen=True)
class LogFieldName:
    """A field of the access log, header names folded to lower case."""

    expects: str = 'the name of a field such as "status" or "header:x-tenant"'

    def __call__(self, raw: object) -> str:
        name = string(raw, self.expects)
        if name.startswith(HEADER):
            return HEADER + str(Token("a header name behind header:", lower=True)(name.removeprefix(HEADER)))
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, 1)
            hint = f"did you mean {quoted(close[0])}?" if close else "one of " + ", ".join(FIELDS) + ", header:NAME"
            raise Wrong(f"there is no field {quoted(name)}", hint)
        return name


@dataclass(frozen=True)
class Path:
    """The path of a URL: begins with a slash, visible ASCII, no fragment; a query only where `query` allows it."""

    expects: str = 'a path such as "/status"'
    query: bool = False

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        if not text.startswith("/"):
            raise Wrong(f"{quoted(text)} does not begin with a slash", f"did you mean {quoted('/' + text)}?")
        if re.fullmatch(r"[\x21-\x7e]+", text) is None:
            raise Wrong(f"{quoted(text)} has characters that a path must percent-encode")
        if "#" in text or ("?" in text and not self.query):
            raise Wrong(f"{quoted(text)} is not a path: no {'#' if '#' in text else '?'} in it")
        return text


# --- names and statuses -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Name:
    """A name of the user's own, for logs, metrics and the status page."""

    expects: str = "a name"

    def __call__(self, raw: object) -> str:
        text = Text(self.expects)(raw)
        if len(text) > 200:
            raise Wrong("longer than 200 characters")
        return text


@dataclass(frozen=True)
class StatusRange:
    """A status (200) or a range ("200-299"); the result is its first and last status."""

    expects: str = 'a status such as 200 or a range such as "200-299"'

    def __call__(self, raw: object) -> tuple[int, int]:
        match = re.fullmatch(r"([0-9]{3})(?:-([0-9]{3}))?", raw) if isinstance(raw, str) else None
        if match is not None:
            first, last = int(match[1]), int(match[2] or match[1])
        elif isinstance(raw, int) and not isinstance(raw, bool):
            first = last = raw
        else:
            shown = quoted(raw) if isinstance(raw, str) else kind_of(raw)
            raise Wrong(f"expected {self.expects}, got {shown}")
        # 1xx answers are not final, so none of them can pass a check.
        if not 200 <= first <= 599 or not 200 <= last <= 599:
            raise Wrong("a status is a number from 200 to 599")
        if first > last:
            raise Wrong(f"{first}-{last} is empty", f'did you mean "{last}-{first}"?')
        return first, last
