"""All rows, by number."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import rows

if TYPE_CHECKING:
    from .world import World

Scenario = Callable[["World"], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A fault with its stated outcome. `run` raises AssertionError where it is not what happens."""

    key: str
    run: Scenario

    @property
    def claim(self) -> str:
        return (self.run.__doc__ or "").strip()


_ROWS: dict[str, Row] = {}


def row(number: int | str) -> Callable[[Scenario], Scenario]:
    """Makes a function a row of the matrix: 3 and killed_under_load become "03-killed_under_load"."""

    def add(scenario: Scenario) -> Scenario:
        key = f"{number:02}-{scenario.__name__}" if isinstance(number, int) else f"{number}-{scenario.__name__}"
        assert key not in _ROWS, key
        _ROWS[key] = Row(key, scenario)
        return scenario

    return add


def all_rows() -> dict[str, Row]:
    """Every row, in order."""
    for module in pkgutil.iter_modules(rows.__path__):
        importlib.import_module(f"{rows.__name__}.{module.name}")
    return dict(sorted(_ROWS.items()))
