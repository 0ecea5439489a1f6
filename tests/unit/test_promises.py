"""docs/promises.md names the tests that hold each promise: they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from ..faults.matrix import all_rows

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/promises.md").read_text()
TEST = re.compile(r"^- `(tests/\S+\.py)::(\w+)(?:\[(\S+)\])?`$", re.MULTILINE)


def test_every_promise_has_tests() -> None:
    promises = re.split(r"^## (P[1-8]) ", TEXT, flags=re.MULTILINE)[1:]
    assert promises[::2] == [f"P{number}" for number in range(1, 9)]
    without = [name for name, text in zip(promises[::2], promises[1::2], strict=True) if not TEST.search(text)]
    assert not without, without


def test_they_exist() -> None:
    named = TEST.findall(TEXT)
    assert len(named) == len(re.findall(r"^- ", TEXT, re.MULTILINE)), "an entry that is no test"
    rows = all_rows()
    missing = []
    for path, name, row in named:
        functions = {
            node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
        }
        if name not in functions or (row and row not in rows):
            missing.append(f"{path}::{name}[{row}]" if row else f"{path}::{name}")
    assert not missing, missing


def test_every_row_of_the_page_is_there() -> None:
    """Rows 22, 25, 28-36, 43 and 45 are about parts that have tests of their own."""
    numbers = {int(key[:2]) for key in all_rows() if key[:2].isdigit()}
    assert numbers == {*range(1, 22), 23, 24, 26, 27, *range(37, 43), 44}
