"""Where a key stands in the text of a TOML or JSON file.

The standard library's readers keep no positions. This scanner goes over text that one of them accepted already, so it
may be simple: it knows strings, comments, brackets and keys, and nothing about values. What it cannot find has no
line; no message depends on it being right.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from headgate.config.problems import Key

_SPACE = re.compile(r"(?:[\s,]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]+")
_STRING = {
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
    "'": re.compile(r"'([^']*)'"),
    # Up to two quotes may stand before the closing three.
    '"""': re.compile(r'"""((?:[^\\]|\\.)*?)"""(?:"{0,2})', re.DOTALL),
    "'''": re.compile(r"'''(.*?)'''(?:'{0,2})", re.DOTALL),
}


class _Lost(Exception):
    """The text is not what a parser accepted."""


class Lines:
    """The line of every key of one file; `duplicates` are the keys of a JSON file that stand in one table twice."""

    def __init__(self, text: str, *, toml: bool) -> None:
        self._text = text
        self._position = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lines: dict[Key, int] = {}
        self._arrays: dict[Key, int] = {}  # [[name]] seen so far: the index of the last one
        self._toml = toml
        self.duplicates: list[tuple[Key, int]] = []
        try:
            if toml:
                self._document()
            else:
                self._value(())
        except (RecursionError, _Lost):
            return  # as far as it went

    def line_of(self, key: Key) -> int | None:
        """The line of a key, or of the nearest table around it."""
        while key:
            if key in self._lines:
                return self._lines[key]
            key = key[:-1]
        return None

    def _note(self, key: Key, position: int) -> None:
        line = bisect_right(self._starts, position)
        if not self._toml and key in self._lines and isinstance(key[-1], str):
            self.duplicates.append((key, line))
        self._lines.setdefault(key, line)

    def _skip(self) -> str:
        """Goes on to the next character that means something; "" at the end."""
        match = _SPACE.match(self._text, self._position)
        if match is not None:
            self._position = match.end()
        return self._text[self._position : self._position + 1]

    def _document(self) -> None:
        table: Key = ()
        while char := self._skip():
            start = self._position
            if char == "[":
                array = self._text.startswith("[[", start)
                self._position += 2 if array else 1
                table = self._resolve(self._names(), array)
                if self._skip() != "]":
                    raise _Lost
                self._position += 2 if array else 1
                self._note(table, start)
            else:
                key = (*table, *self._names())
                for depth in range(len(table) + 1, len(key) + 1):
                    self._note(key[:depth], start)
                self._skip()
                self._position += 1  # =
                self._value(key)

    def _resolve(self, names: list[str], array: bool) -> Key:
        """The key of a table header: names that are arrays of tables stand for their last element so far."""
        key: Key = ()
        for depth, name in enumerate(names, 1):
            key = (*key, name)
            if array and depth == len(names):
                self._arrays[key] = self._arrays.get(key, -1) + 1
            if key in self._arrays:
                key = (*key, self._arrays[key])
        return key

    def _names(self) -> list[str]:
        """A key, which in TOML may be dotted."""
        names = []
        while True:
            char = self._skip()
            if char in ('"', "'"):
                names.append(self._string())
            else:
                match = _BARE.match(self._text, self._position)
                if match is None:
                    raise _Lost
                names.append(match[0])
                self._position = match.end()
            if not self._toml or self._skip() != ".":
                return names
            self._position += 1

    def _string(self) -> str:
        quote = self._text[self._position]
        if self._toml and self._text.startswith(quote * 3, self._position):
            quote *= 3
        match = _STRING[quote].match(self._text, self._position)
        if match is None:
            raise _Lost
        self._position = match.end()
        try:
            return str(json.loads(f'"{match[1]}"')) if quote == '"' else match[1]
        except ValueError:  # an escape that JSON does not know
            return match[1]

    def _value(self, key: Key) -> None:
        char = self._skip()
        if char == "{":
            self._position += 1
            while self._skip() != "}":
                start = self._position
                inner = (*key, *self._names())
                for depth in range(len(key) + 1, len(inner) + 1):
                    self._note(inner[:depth], start)
                self._skip()
                self._position += 1  # = or :
                self._value(inner)
            self._position += 1
        elif char == "[":
            self._position += 1
            index = 0
            while self._skip() != "]":
                self._note((*key, index), self._position)
                self._value((*key, index))
                index += 1
            self._position += 1
        elif char in ('"', "'"):
            self._string()
        else:
            match = _SCALAR.match(self._text, self._position)
            if match is None:
                raise _Lost
            self._position = match.end()
