"""Strategies that are compiled as they stand, and how a test gets them not compiled."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

import headgate.balancing
from headgate.balancing.registry import BUILT_IN

DIRECTORY = Path(headgate.balancing.__path__[0])
TYPED = {f"headgate.balancing.{types.stem}" for types in DIRECTORY.glob("*.pxd")}
"""The modules that are compiled."""
COMPILED = [name for name, target in BUILT_IN.items() if target.partition(":")[0] in TYPED]
"""The strategies in them."""


class _Source:
    """Finds the source of what is compiled too."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in TYPED:
            return None
        file = str(DIRECTORY / f"{fullname.rpartition('.')[2]}.py")
        return spec_from_file_location(fullname, file, loader=SourceFileLoader(fullname, file))


@contextmanager
def not_compiled() -> Iterator[None]:
    """Inside, all of `headgate.balancing` is imported anew, from source."""
    kept = {name: module for name, module in sys.modules.items() if name.startswith("headgate.balancing.")}
    parts = dict(vars(headgate.balancing))
    finder = _Source()
    for name in kept:
        if name != "headgate.balancing.base":  # what tests have imported is meant to be the same
            del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith("headgate.balancing.")]:
            del sys.modules[name]
        sys.modules.update(kept)
        vars(headgate.balancing).update(parts)
