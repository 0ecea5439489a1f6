"""Runtime changes against the file: the last to speak wins, and what happens is said."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.schema import Backend, Config, Strategy
from headgate.runtime import edits, overrides
from headgate.runtime.overrides import NONE, Changes, effective


def config(backends: dict[str, tuple[str, int]], strategy: str = "round_robin", workers: int = 1) -> Config:
    """name -> (host, weight)"""
    rows = [{"name": name, "url": f"http://{host}", "weight": weight} for name, (host, weight) in backends.items()]
    pools = {"web": {"backends": rows, "strategy": strategy}}
    return Config.from_dict({"workers": workers, "listeners": [{"bind": ":1"}], "pools": pools})


FILE = config({"a": ("a", 1), "b": ("b", 1)})


def backend(config: Config, name: str) -> Backend:
    return edits.backend_of(config, "web", name)


def names(config: Config) -> list[str]:
    return [one.name for one in config.pools["web"].backends]


def said(file: Config, changes: Changes) -> list[tuple[str, str]]:
    return [(note.kind, note.where) for note in effective(file, changes).notes]


def test_nothing_changed_is_the_file_itself() -> None:
    assert effective(FILE, NONE).config is FILE


def test_a_weight_stays_until_the_file_has_another() -> None:
    changes = overrides.with_weight(NONE, FILE, "web", "a", 5)
    assert backend(effective(FILE, changes).config, "a").weight == 5
    other = config({"a": ("a", 1), "b": ("b", 7)}, strategy="p2c")
    assert backend(effective(other, changes).config, "a").weight == 5, "edited elsewhere"
    assert said(other, changes) == [("kept", "pool web, backend a")]
    edited = config({"a": ("a", 2), "b": ("b", 1)})
    result = effective(edited, changes)
    assert backend(result.config, "a").weight == 2
    assert not result.changes
    assert said(edited, changes) == [("dropped", "pool web, backend a")]


def test_a_change_back_to_what_the_file_says_is_none() -> None:
    changes = overrides.with_weight(NONE, FILE, "web", "a", 5)
    assert overrides.with_weight(changes, FILE, "web", "a", 1) == NONE
    strategy = Strategy(name="p2c")
    changes = overrides.with_strategy(NONE, FILE, "web", strategy)
    assert overrides.with_strategy(changes, FILE, "web", FILE.pools["web"].strategy) == NONE
    assert overrides.with_workers(overrides.with_workers(NONE, FILE, 3), FILE, 1) == NONE


def test_an_added_backend_stays_until_the_file_has_it() -> None:
    added = edits.with_backend(FILE, "web", "http://c", 2, "c")[1]
    changes = overrides.with_added(NONE, FILE, "web", added)
    assert names(effective(FILE, changes).config) == ["a", "b", "c"]
    by_name = config({"a": ("a", 1), "c": ("elsewhere", 1)})
    by_address = config({"a": ("a", 1), "x": ("c", 1)})
    for file in (by_name, by_address):
        result = effective(file, changes)
        assert result.config == file
        assert not result.changes
        assert [note.kind for note in result.notes] == ["dropped"]


def test_a_removed_backend_stays_away_until_its_name_means_another() -> None:
    changes = overrides.with_removed(NONE, FILE, "web", "a")
    assert names(effective(FILE, changes).config) == ["b"]
    gone = config({"b": ("b", 1)})
    assert effective(gone, changes) == overrides.Effective(gone, NONE, ())
    moved = config({"a": ("elsewhere", 1), "b": ("b", 1)})
    assert effective(moved, changes).config == moved
    assert not effective(moved, changes).changes


def test_removed_and_added_again_is_nothing() -> None:
    changes = overrides.with_removed(NONE, FILE, "web", "a")
    assert overrides.with_added(changes, FILE, "web", backend(FILE, "a")) == NONE
    heavier = msgspec.structs.replace(backend(FILE, "a"), weight=9)
    again = overrides.with_added(changes, FILE, "web", heavier)
    assert backend(effective(FILE, again).config, "a").weight == 9
    added = edits.with_backend(FILE, "web", "http://c", 2, "c")[1]
    assert overrides.with_removed(overrides.with_added(NONE, FILE, "web", added), FILE, "web", "c") == NONE


def test_drained_is_of_one_address() -> None:
    changes = overrides.with_state(NONE, "web", backend(FILE, "a"), "draining")
    kept = effective(FILE, changes).changes.pools["web"].states
    assert kept["a"].state == "draining"
    moved = config({"a": ("elsewhere", 1), "b": ("b", 1)})
    assert not effective(moved, changes).changes
    assert overrides.with_state(changes, "web", backend(FILE, "a"), None) == NONE


def test_a_pool_that_goes_takes_its_changes_along() -> None:
    changes = overrides.with_weight(NONE, FILE, "web", "a", 5)
    other = Config.from_dict({"listeners": [{"bind": ":1"}], "pools": {"api": {"backends": ["http://x"]}}})
    assert effective(other, changes).config == other
    assert said(other, changes) == [("dropped", "pool web")]


def test_workers_and_strategy() -> None:
    changes = overrides.with_workers(NONE, FILE, 3)
    changes = overrides.with_strategy(changes, FILE, "web", Strategy(name="p2c"))
    result = effective(FILE, changes).config
    assert (result.workers, result.pools["web"].strategy.name) == (3, "p2c")
    edited = config({"a": ("a", 1), "b": ("b", 1)}, strategy="random", workers=2)
    assert effective(edited, changes).config == edited


STATES: list[overrides.AdminState | None] = ["draining", "disabled", None]
HOSTS = st.sampled_from(["a", "b", "c"])
FILES = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.tuples(HOSTS, st.integers(0, 3)), min_size=1).filter(
    lambda rows: len({host for host, _ in rows.values()}) == len(rows)
)


@given(FILES, FILES, st.data())
def test_whatever_is_done_then_reloaded(first: Any, second: Any, data: st.DataObject) -> None:
    """Every sequence of changes: the same file again changes nothing, another one gives a valid configuration, changes
    survive being written down, and applying the rule twice is applying it once."""
    file = config(first)
    running, changes = file, NONE
    for _ in range(data.draw(st.integers(0, 6))):
        here = names(running)
        what = data.draw(st.sampled_from(["add", "remove", "weight", "state", "strategy"]))
        try:
            if what == "add":
                host, name = data.draw(HOSTS), data.draw(st.sampled_from(["a", "b", "c", "d"]))
                running, added = edits.with_backend(running, "web", f"http://{host}", 1, name)
                changes = overrides.with_added(changes, file, "web", added)
            elif what == "strategy":
                running = edits.with_strategy(running, "web", data.draw(st.sampled_from(["p2c", "round_robin"])))
                changes = overrides.with_strategy(changes, file, "web", running.pools["web"].strategy)
            elif here:
                name = data.draw(st.sampled_from(here))
                if what == "remove":
                    running = edits.without_backend(running, "web", name)[0]
                    changes = overrides.with_removed(changes, file, "web", name)
                elif what == "weight":
                    weight = data.draw(st.integers(0, 3))
                    running = edits.with_weight(running, "web", name, weight)[0]
                    changes = overrides.with_weight(changes, file, "web", name, weight)
                else:
                    state = data.draw(st.sampled_from(STATES))
                    changes = overrides.with_state(changes, "web", backend(running, name), state)
        except ValueError:
            continue
    changes = msgspec.json.decode(msgspec.json.encode(changes), type=Changes)
    again = effective(file, changes)
    assert {one.name: one for one in again.config.pools["web"].backends} == {
        one.name: one for one in running.pools["web"].backends
    }
    assert again.config.pools["web"].strategy == running.pools["web"].strategy
    assert all(note.kind == "kept" for note in again.notes)
    other = effective(config(second), changes)
    assert len(set(names(other.config))) == len(names(other.config))
    addresses = [one.url.identity for one in other.config.pools["web"].backends]
    assert len(set(addresses)) == len(addresses)
    twice = effective(config(second), other.changes)
    assert twice.config == other.config
    assert twice.changes == other.changes
    assert all(note.kind == "kept" for note in twice.notes)
