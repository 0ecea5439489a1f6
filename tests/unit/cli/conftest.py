"""A supervisor that only notes what it is asked to serve."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Literal

import msgspec
import pytest

from headgate.config.schema import Config


class Served:
    """The last call of `serve`, and what it answers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Config, str | None, str | None]] = []
        self.exit_code = 0
        self.during: Callable[[Config], object] = lambda config: None

    @property
    def config(self) -> Config:
        (call,) = self.calls
        return call[0]

    def serve(
        self,
        config: Config,
        *,
        app_dir: str | None = None,
        config_path: str | None = None,
        workers: int | Literal["auto"] | None = None,
        watch: bool = False,
        on_ready: Callable[[], None] | None = None,
    ) -> int:
        if workers is not None:
            config = msgspec.structs.replace(config, workers=workers)
        self.calls.append((config, app_dir, config_path))
        if on_ready is not None:
            on_ready()
        self.during(config)
        return self.exit_code


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    served = Served()
    module = ModuleType("headgate.runtime.supervisor")
    module.serve = served.serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "path", sys.path[:])  # --app-dir goes in front of it
    return served
