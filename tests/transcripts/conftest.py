"""The fixture that begins a conversation, and ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conversation import Conversation

Converse = Callable[..., Conversation]


@pytest.fixture
def conversation(tmp_path: Path) -> Iterator[Converse]:
    """Makes the one conversation of a test; its arguments are those of `Conversation`."""
    begun: list[Conversation] = []

    def begin(*arguments: object, **options: object) -> Conversation:
        begun.append(Conversation(tmp_path, *arguments, **options))  # type: ignore[arg-type]
        return begun[-1]

    yield begin
    for talk in begun:
        talk.close()
