"""Changes made while running, kept over a restart: whole or not at all."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from headgate.admin import state_file
from headgate.admin.state_file import StateFile, StateFileError, load, store
from headgate.config.validate import validate
from headgate.runtime import overrides
from headgate.runtime.overrides import NONE, Changes

from .client import ask
from .world import TREE, serving

CONFIG = validate(TREE)


def changes(weight: int = 7) -> Changes:
    made = overrides.with_weight(NONE, CONFIG, "web", "a", weight)
    made = overrides.with_removed(made, CONFIG, "web", "b")
    made = overrides.with_listener(made, "127.0.0.1:18080", closed=True)
    return overrides.with_state(made, "api", CONFIG.pools["api"].backends[0], "draining")


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    assert load(path, CONFIG) == NONE
    store(path, changes())
    assert load(path, CONFIG) == changes()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a state file"),
        (b"\x00\xff", "not a state file"),
        (b"{}", "not a state file"),
        (b'{"headgate_state": 1', "not a state file"),
        (b'{"headgate_state": 1}', "not a state file"),
        (b'{"headgate_state": 1, "changes": {"pools": 1}}', "not a state file"),
        (b"[" * 100_000, "not a state file"),
        (b'{"headgate_state": 2, "changes": {}}', "version 2"),
        (
            b'{"headgate_state": 1, "changes": {"pools": {"web": {"weights": {"a": {"weight": 999, "file": 1}}}}}}',
            "expected a whole number from 0 to 256, got 999",
        ),
    ],
)
def test_one_that_cannot_be_used_is_named_and_left_alone(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(StateFileError, match=r"state\.json") as caught:
        load(str(path), CONFIG)
    assert says in str(caught.value)
    assert "move it away" in str(caught.value)
    assert path.read_bytes() == content


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    store(str(path), changes(7))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store(str(path), changes(8))
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]
    assert load(str(path), CONFIG) == changes(7)


def test_the_newest_state_is_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "state.json")
    stored: list[Changes] = []
    monkeypatch.setattr(state_file, "store", lambda path, changes: stored.append(changes))

    async def scenario() -> None:
        file = StateFile(path)
        for weight in (2, 3, 4):
            file.note(changes(weight))
        assert await file.saved() == ""
        assert await file.saved() == ""
        assert stored == [changes(4)]

    asyncio.run(scenario())


def test_a_failure_is_told_and_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = StateFile(str(tmp_path / "sub" / "state.json"))
        file.note(changes())
        assert "no such file" in (await file.saved()).lower()
        (tmp_path / "sub").mkdir()
        assert await file.saved() == ""
        assert load(file.path, CONFIG) == changes()

    asyncio.run(scenario())


def test_the_answer_says_whether_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with serving(state_file=path) as (_, address, _):
        reply = ask(address, "PUT", "/pools/web/backends/a/weight", {"weight": 7}).json
        assert (reply["saved"], reply["warning"]) == (True, "")
        document = json.loads(path.read_text())
        assert document["changes"]["pools"]["web"]["weights"]["a"] == {"weight": 7, "file": 1}
        path.unlink()
        path.mkdir()
        reply = ask(address, "PUT", "/pools/web/backends/a/weight", {"weight": 8}).json
        assert reply["saved"] is False
        assert "not in the state file" in reply["warning"]
        assert ask(address, "GET", "/pools/web/backends/a").json["weight"] == 8
