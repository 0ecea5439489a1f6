"""Changes made while it runs, and what becomes of them when the file is read again. Pure.

One rule: **the last to speak wins**. A change made at run time (by the API, the command line or a signal) holds, also
across reloads and, where it is kept in a state file, restarts, until the file says something else *in the same place*
than it said when the change was made. Who edits the file in one place does not undo what was done in another, and who
changes something at run time does not lose it to a reload for another reason. Each change therefore remembers what the
file said. In detail:

- a weight or a strategy set at run time gives way once the file's own value has changed;
- a backend added at run time stays until the file has a backend of that name or address: then the file describes it;
- a backend removed at run time stays away until the file gives that name another address, or no longer has it;
- draining and disabled are not the file's business: they stay as long as the backend does (same name, same address);
- a pool that is gone from the file takes all of this with it.

`effective` says in words what it kept and what it dropped; `headgate plan` shows that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from headgate.config.diff import Change
from headgate.config.schema import Backend, Config, Pool, Strategy

AdminState = Literal["draining", "disabled"]


class WeightChange(msgspec.Struct, frozen=True):
    """A backend's weight. `file` is what the file said when it was set."""

    weight: int
    file: int


class StateChange(msgspec.Struct, frozen=True):
    """Taken out by the administrator; of this address only."""

    state: AdminState
    url: str


class StrategyChange(msgspec.Struct, frozen=True):
    """A pool's strategy. `file` is what the file said when it was set."""

    strategy: Strategy
    file: Strategy


class PoolChanges(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was changed in one pool, by backend name."""

    added: dict[str, Backend] = {}
    removed: dict[str, str] = {}
    """Name -> the URL that the file had for it."""
    weights: dict[str, WeightChange] = {}
    states: dict[str, StateChange] = {}
    strategy: StrategyChange | None = None

    def __bool__(self) -> bool:
        return self != PoolChanges()


class WorkersChange(msgspec.Struct, frozen=True):
    """The number of workers (SIGTTIN, SIGTTOU). `file` is what the file said when it was set."""

    workers: int
    file: int | Literal["auto"]


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that was changed at run time. Survives JSON and msgpack, for a state file and an upgrade."""

    pools: dict[str, PoolChanges] = {}
    workers: WorkersChange | None = None

    def __bool__(self) -> bool:
        return self != Changes()


NONE = Changes()


@dataclass(frozen=True, slots=True)
class Effective:
    """What runs: the file with the changes in it, and the changes that are still of use."""

    config: Config
    changes: Changes
    notes: tuple[Change, ...]
    """What the rule decided: "kept" and "dropped" changes, for people."""


def effective(file: Config, changes: Changes) -> Effective:
    """Puts run-time changes over a configuration that was just read."""
    if not changes:
        return Effective(file, changes, ())
    notes: list[Change] = []
    pools = dict(file.pools)
    left: dict[str, PoolChanges] = {}
    for name, changed in changes.pools.items():
        if name not in pools:
            notes.append(Change("dropped", f"pool {name}", "is not in the file any more; nor are changes made to it"))
            continue
        pools[name], rest = _Merge(name, pools[name], changed, notes).result()
        if rest:
            left[name] = rest
    config = msgspec.structs.replace(file, pools=pools)
    workers = changes.workers
    if workers is not None:
        if workers.file != file.workers:
            gives_way = f"{workers.workers} (set at run time) gives way to the file: {file.workers}"
            notes.append(Change("dropped", "workers", gives_way))
            workers = None
        else:
            notes.append(
                Change("kept", "workers", f"{workers.workers} (set at run time) stays; the file says {file.workers}")
            )
            config = msgspec.structs.replace(config, workers=workers.workers)
    return Effective(config, Changes(left, workers), tuple(notes))


class _Merge:
    """One pool's part of `effective`."""

    def __init__(self, name: str, file: Pool, changes: PoolChanges, notes: list[Change]) -> None:
        self._name = name
        self._file = {backend.name: backend for backend in file.backends}
        self._pool = file
        self._changes = changes
        self._notes = notes

    def result(self) -> tuple[Pool, PoolChanges]:
        removed = self._removed()
        backends = {name: backend for name, backend in self._file.items() if name not in removed}
        added = self._added(removed)
        backends |= added
        weights = self._weights(backends, added)
        for name, change in weights.items():
            backends[name] = msgspec.structs.replace(backends[name], weight=change.weight)
        strategy = self._strategy()
        pool = msgspec.structs.replace(
            self._pool,
            backends=tuple(backends.values()),
            strategy=self._pool.strategy if strategy is None else strategy.strategy,
        )
        return pool, PoolChanges(added, removed, weights, self._states(backends), strategy)

    def _say(self, kind: Literal["kept", "dropped"], backend: str, text: str) -> None:
        where = f"pool {self._name}, backend {backend}" if backend else f"pool {self._name}"
        self._notes.append(Change(kind, where, text))

    def _removed(self) -> dict[str, str]:
        left = {}
        for name, url in self._changes.removed.items():
            now = self._file.get(name)
            if now is None:
                continue  # both agree that it is gone
            if now.url.text != url:
                self._say(
                    "dropped", name, f"was removed at run time; the file has it with another address: {now.url.text}"
                )
                continue
            self._say("kept", name, "stays removed (at run time); the file still has it")
            left[name] = url
        return left

    def _added(self, removed: dict[str, str]) -> dict[str, Backend]:
        here = {name: backend for name, backend in self._file.items() if name not in removed}
        addresses = {backend.url.identity for backend in here.values()}
        left = {}
        for name, backend in self._changes.added.items():
            if name in here or backend.url.identity in addresses:
                self._say("dropped", name, "was added at run time; the file has it now, and describes it")
                continue
            self._say("kept", name, "stays (added at run time); it is not in the file")
            left[name] = backend
        return left

    def _weights(self, backends: dict[str, Backend], added: dict[str, Backend]) -> dict[str, WeightChange]:
        left = {}
        for name, change in self._changes.weights.items():
            now = backends.get(name)
            if now is None or name in added or now.weight == change.weight:
                continue
            if now.weight != change.file:
                self._say(
                    "dropped", name, f"weight {change.weight} (set at run time) gives way to the file: {now.weight}"
                )
                continue
            self._say("kept", name, f"weight {change.weight} (set at run time) stays; the file says {now.weight}")
            left[name] = change
        return left

    def _states(self, backends: dict[str, Backend]) -> dict[str, StateChange]:
        left = {}
        for name, change in self._changes.states.items():
            now = backends.get(name)
            if now is None:
                continue
            if now.url.text != change.url:
                self._say(
                    "dropped", name, f"was {change.state} at run time; with another address it is another backend"
                )
                continue
            self._say("kept", name, f"stays {change.state} (at run time)")
            left[name] = change
        return left

    def _strategy(self) -> StrategyChange | None:
        change = self._changes.strategy
        if change is None or change.strategy == self._pool.strategy:
            return None
        ours, file = change.strategy.name, self._pool.strategy.name
        if self._pool.strategy != change.file:
            self._say("dropped", "", f"strategy {ours} (set at run time) gives way to the file: {file}")
            return None
        self._say("kept", "", f"strategy {ours} (set at run time) stays; the file says {file}")
        return change


# Each of these takes the changes so far and returns them with one more. `file` is the configuration without any.


def with_added(changes: Changes, file: Config, pool: str, backend: Backend) -> Changes:
    """A backend was added at run time; one that had been removed comes back."""

    def change(old: PoolChanges) -> PoolChanges:
        known = _in_file(file, pool, backend.name)
        if known is not None and known.url.text == backend.url.text:
            # The file's own, back again.
            rest = _without(old, backend.name)
            if known.weight == backend.weight:
                return rest
            weights = {**rest.weights, backend.name: WeightChange(backend.weight, known.weight)}
            return msgspec.structs.replace(rest, weights=weights)
        return msgspec.structs.replace(old, added={**old.added, backend.name: backend})

    return _in_pool(changes, pool, change)


def with_removed(changes: Changes, file: Config, pool: str, name: str) -> Changes:
    """A backend was removed at run time."""

    def change(old: PoolChanges) -> PoolChanges:
        known = _in_file(file, pool, name)
        removed = {**old.removed, name: known.url.text} if known is not None else old.removed
        return msgspec.structs.replace(_without(old, name), removed=removed)

    return _in_pool(changes, pool, change)


def with_weight(changes: Changes, file: Config, pool: str, name: str, weight: int) -> Changes:
    """A backend's weight was set at run time."""

    def change(old: PoolChanges) -> PoolChanges:
        if name in old.added:
            backend = msgspec.structs.replace(old.added[name], weight=weight)
            return msgspec.structs.replace(old, added={**old.added, name: backend})
        known = _in_file(file, pool, name)
        weights = {other: set_ for other, set_ in old.weights.items() if other != name}
        if known is not None and known.weight != weight:
            weights[name] = WeightChange(weight, known.weight)
        return msgspec.structs.replace(old, weights=weights)

    return _in_pool(changes, pool, change)


def with_state(changes: Changes, pool: str, backend: Backend, state: AdminState | None) -> Changes:
    """A backend was drained or disabled at run time; None: enabled again."""

    def change(old: PoolChanges) -> PoolChanges:
        states = {name: set_ for name, set_ in old.states.items() if name != backend.name}
        if state is not None:
            states[backend.name] = StateChange(state, backend.url.text)
        return msgspec.structs.replace(old, states=states)

    return _in_pool(changes, pool, change)


def with_strategy(changes: Changes, file: Config, pool: str, strategy: Strategy) -> Changes:
    """A pool's strategy was set at run time."""

    def change(old: PoolChanges) -> PoolChanges:
        owner = file.pools.get(pool)
        said = None if owner is None or owner.strategy == strategy else StrategyChange(strategy, owner.strategy)
        return msgspec.structs.replace(old, strategy=said)

    return _in_pool(changes, pool, change)


def with_workers(changes: Changes, file: Config, workers: int) -> Changes:
    """The number of workers was set at run time."""
    change = None if file.workers == workers else WorkersChange(workers, file.workers)
    return msgspec.structs.replace(changes, workers=change)


def _in_file(file: Config, pool: str, name: str) -> Backend | None:
    owner = file.pools.get(pool)
    if owner is None:
        return None
    return next((backend for backend in owner.backends if backend.name == name), None)


def _without(old: PoolChanges, name: str) -> PoolChanges:
    """Nothing about this backend."""
    return msgspec.structs.replace(
        old,
        added={other: value for other, value in old.added.items() if other != name},
        removed={other: value for other, value in old.removed.items() if other != name},
        weights={other: value for other, value in old.weights.items() if other != name},
        states={other: value for other, value in old.states.items() if other != name},
    )


def _in_pool(changes: Changes, pool: str, change: Callable[[PoolChanges], PoolChanges]) -> Changes:
    pools = {**changes.pools, pool: change(changes.pools.get(pool, PoolChanges()))}
    return msgspec.structs.replace(changes, pools={name: one for name, one in pools.items() if one})
