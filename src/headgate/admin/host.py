"""What the admin API needs of the program it is part of: the supervisor has it, and so has a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

from headgate.engine.decisions import Decisions
from headgate.runtime.controller import Controller
from headgate.runtime.reload import ReloadResult


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerState:
    """A listener. bind: with the real port. state: "closed" is not yet, or not any more. configured: `bind` as the
    configuration has it, where that is another text."""

    bind: str
    state: Literal["open", "draining", "closed"]
    configured: str = ""


class Host(Protocol):
    """The program."""

    @property
    def config_path(self) -> str:
        """The configuration's file as it was named; "" where there is none."""

    @property
    def started_s(self) -> float:
        """Seconds since 1970."""

    @property
    def controller(self) -> Controller:
        """Desired and observed state."""

    @property
    def ready(self) -> bool:
        """Clients are let in, and may go on coming."""

    @property
    def listeners(self) -> Sequence[ListenerState]:
        """All of them."""

    @property
    def decisions(self) -> Decisions:
        """Where requests went."""

    async def reload(self) -> ReloadResult:
        """Read the file again and become it."""

    async def plan(self) -> ReloadResult:
        """What `reload` would do."""

    async def drain_listener(self, bind: str) -> None:
        """Accept no more there; open connections go on. Raises ValueError."""

    async def open_listener(self, bind: str) -> None:
        """Accept again. Raises ValueError."""

    async def saved(self) -> str | None:
        """Wait until the last change is in the state file. Why it is not; "" when it is, None without such a file."""
