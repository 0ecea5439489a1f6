"""What is wrong with a configuration, for people: where it stands, what it is, what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headgate.config.values import quoted

Key = tuple[str | int, ...]
"""The way from the top of a configuration to a value: names of tables and indexes of lists."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `str()` renders it as `headgate.toml:14: pools.web.strategy: unknown … (did you mean …?)`."""

    file: str
    """As the user named it; "" where the configuration did not come from a file."""
    line: int | None
    """Counted from 1; None where it could not be had."""
    key: str
    """As in `pools.web.backends[1].weight`; "" for the configuration as a whole."""
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return ": ".join(part for part in (place, self.key, self.message) if part) + hint


class ConfigError(Exception):
    """A configuration that cannot be used. `problems` has every mistake, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems:
    """Collects mistakes by key, and finds their lines at the end."""

    def __init__(
        self,
        file: str = "",
        line_of: Callable[[Key], int | None] | None = None,
        label: Callable[[Key], str] | None = None,
    ) -> None:
        self._file = file
        self._line_of = line_of or (lambda key: None)
        self._label = label or key_text
        self._found: list[tuple[Key, str, str]] = []

    def add(self, key: Key, message: str, suggestion: str = "") -> None:
        """Notes a mistake at `key`."""
        self._found.append((key, message, suggestion))

    def touches(self, *keys: Key) -> bool:
        """Was something found at, or below, one of these keys? Then their values are defaults, and say nothing."""
        return any(found[: len(key)] == key for found, _, _ in self._found for key in keys)

    def __bool__(self) -> bool:
        return bool(self._found)

    def error(self) -> ConfigError:
        """All that was found, in the order of lines; what has no line comes last, in the order of discovery."""
        problems = [
            Problem(self._file, self._line_of(key), self._label(key), message, suggestion)
            for key, message, suggestion in self._found
        ]
        return ConfigError(sorted(problems, key=lambda problem: problem.line or 10**9))


def key_text(key: Key) -> str:
    """The key as it is shown: `pools.web.backends[1]`; names that need it are quoted."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else quoted(part)
            text += f".{name}" if text else name
    return text


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A suggestion when one of the known words is near, else ""."""
    folded = wrong.lower().replace("-", "_")
    near = difflib.get_close_matches(folded, list(known), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""
