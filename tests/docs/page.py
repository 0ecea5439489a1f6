"""What a page shows between fences, and what a reader does not see: how it is to be tried.

A comment before a fence says what the block alone does not:

    <!-- test: file NAME -->       the block is written to NAME before what follows is run
    <!-- test: in TABLE -->        a part of a configuration, to be read inside of TABLE (or `in top`)
    <!-- test: wait PORT… -->      the ports are open before the block is run
    <!-- test: until PORT… -->     it goes on as long as the page does, and the ports are open before what follows
    <!-- test: fails -->           the last command of the block ends with a status other than 0
    <!-- test: not run: REASON --> it cannot be run where tests run
    <!-- test: run                 (and commands, up to a line of -->) what a reader has already

A block of `text` right after one of `sh` is what that prints; `…` stands for anything within a line, a line of `…` for
any number of lines. A block of `output` is an example that is not compared: another time, another place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# Made from the program by tests of their own.
GENERATED = {"cli", "configuration", "errors", "metrics"}

_BLOCK = re.compile(
    r"^<!-- test: run\n(?P<before>.*?)^-->$"
    r"|(?P<comments>(?:^<!-- test: [^\n]* -->\n)*)^(?P<fence>```+)(?P<language>\S*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"<!-- test: (?P<word>not run|\w+):? ?(?P<rest>.*?) -->")


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    language: str
    text: str
    line: int
    notes: dict[str, str] = field(default_factory=dict)


def blocks(page: Path) -> list[Block]:
    """All blocks of the page, in order. ValueError for a comment that means nothing."""
    text = page.read_text()
    found = []
    for one in _BLOCK.finditer(text):
        if one["before"] is not None:
            found.append(Block("sh", one["before"], text.count("\n", 0, one.start()) + 1))
            continue
        notes = {}
        for comment in one["comments"].splitlines():
            read = _COMMENT.fullmatch(comment)
            if read is None or read["word"] not in {"file", "in", "wait", "until", "fails", "not run"}:
                raise ValueError(f"{page.name}: {comment}")
            notes[read["word"]] = read["rest"]
        line = text.count("\n", 0, one.start("fence")) + 1
        found.append(Block(one["language"], one["text"], line, notes))
    return found


def pattern(expected: str) -> re.Pattern[str]:
    """What a block of `text` promises, as a pattern for all that was printed."""
    parts = []
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*?".join(map(re.escape, line.rstrip().split("…"))) + r"[ \t]*\n")
    return re.compile("".join(parts))
