"""The fixture that begins a conversation, and ends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .certificates import contexts
from .conversation import Conversation, Side

Converse = Callable[..., Conversation]


# Who speaks TLS in all transcripts: "client", "backend" or "both" (`make transcripts-tls`).
SIDE = os.environ.get("HEADGATE_TRANSCRIPTS_TLS", "")


# What these are about looks different through TLS: both are asked every time.
ALWAYS = {"test_continue", "test_half_close", "test_last_answer", "test_pipelining", "test_truncated", "test_upgrade"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not SIDE and metafunc.module.__name__.rpartition(".")[2] in ALWAYS and "side" in metafunc.fixturenames:
        metafunc.parametrize("side", ["", "both"], ids=["plain", "tls"])


# Other connections stand in that queue, which say nothing; and a configuration that says http closes what speaks https.
PLAIN_ONLY = ("a_connection_that_comes_late", "test_other_limits_while_requests_wait")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The PROXY header comes before TLS, not inside it.
        if SIDE and (item.path.name == "test_proxy_protocol.py" or any(name in item.name for name in PLAIN_ONLY)):
            item.add_marker(pytest.mark.skip(reason="not to be said inside TLS"))


@pytest.fixture
def side() -> str:
    """Who speaks TLS in this test; "" for nobody."""
    return SIDE


@pytest.fixture
def conversation(tmp_path: Path, side: Side) -> Iterator[Converse]:
    """Makes the one conversation of a test; its arguments are those of `Conversation`."""
    begun: list[Conversation] = []

    def begin(*arguments: object, **options: object) -> Conversation:
        begun.append(Conversation(tmp_path, *arguments, **options))  # type: ignore[arg-type]
        if side:
            begun[-1].over_tls(side, contexts())
        return begun[-1]

    yield begin
    for talk in begun:
        talk.close()
