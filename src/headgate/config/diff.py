"""What a new configuration would change, in words: `headgate plan`, and the log after a reload.

Pure: two configurations in, a list of changes out. Things are matched by what names them (a listener by its address, a
backend by its name in its pool, a route by what it matches), so that a line moved in the file is no change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from headgate.config.schema import Backend, Config, Listener, Pool, Route, Strategy, Struct
from headgate.config.tls import Certificate
from headgate.config.values import Duration, Size, format_duration, format_size
from headgate.config.walk import fields_of

# Compared by name here; what else a table holds is compared key by key.
_NAMED = {Config: ("listeners", "routes", "pools"), Pool: ("backends", "strategy"), Listener: ("bind",)}
# Their values do not belong on a screen or in a log.
_SECRET = ("secret", "token", "headers", "key")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `str()` is the whole sentence: "pool web, backend b: weight 1 becomes 3"."""

    kind: Literal["added", "removed", "changed", "kept", "dropped"]
    """ "kept" and "dropped" are about changes made at run time that the file says nothing of, or contradicts."""
    where: str
    """What it is about: "pool web", "listener 127.0.0.1:8080", "workers"."""
    text: str
    """What becomes of it."""

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def plan(old: Config, new: Config) -> list[Change]:
    """Every difference, in the order top, listeners, pools, routes; empty when there is none."""
    if old == new:
        return []
    return [*_keys(old, new, ""), *_listeners(old, new), *_pools(old, new), *_routes(old, new)]


def _listeners(old: Config, new: Config) -> Iterator[Change]:
    before = {listener.bind.text: listener for listener in old.listeners}
    after = {listener.bind.text: listener for listener in new.listeners}
    for bind, listener in after.items():
        if bind not in before:
            yield Change("added", f"listener {bind}", "is added")
        else:
            yield from _keys(before[bind], listener, f"listener {bind}")
    for bind in before:
        if bind not in after:
            yield Change("removed", f"listener {bind}", "accepts no more; its connections finish")


def _pools(old: Config, new: Config) -> Iterator[Change]:
    for name, pool in new.pools.items():
        where = f"pool {name}"
        before = old.pools.get(name)
        if before is None:
            yield Change("added", where, f"is added: {_count(pool.backends)}, {_strategy(pool.strategy)}")
        elif before != pool:
            if before.strategy != pool.strategy:
                became = f"strategy {_strategy(before.strategy)} becomes {_strategy(pool.strategy)}, and begins anew"
                yield Change("changed", where, became)
            yield from _backends(where, before.backends, pool.backends)
            yield from _keys(before, pool, where)
    for name, pool in old.pools.items():
        if name not in new.pools:
            yield Change("removed", f"pool {name}", f"is removed, {_count(pool.backends)}; requests in flight finish")


def _backends(pool: str, old: Sequence[Backend], new: Sequence[Backend]) -> Iterator[Change]:
    before = {backend.name: backend for backend in old}
    names = {backend.name for backend in new}
    for backend in new:
        where = f"{pool}, backend {backend.name}"
        known = before.get(backend.name)
        if known is None:
            yield Change("added", where, f"is added, weight {backend.weight}; used once its first check has passed")
        elif known.url.identity != backend.url.identity:
            moved = f"{known.url.text} becomes {backend.url.text}: another backend, checked anew"
            yield Change("changed", where, moved)
            yield from _keys(known, msgspec.structs.replace(backend, url=known.url), where)
        elif known != backend:
            yield from _keys(known, backend, where)
    for backend in old:
        if backend.name not in names:
            removed = "is removed; its requests in flight finish"
            yield Change("removed", f"{pool}, backend {backend.name}", removed)


def _routes(old: Config, new: Config) -> Iterator[Change]:
    before = {_matches(route): route for route in old.routes}
    after = {_matches(route): route for route in new.routes}
    for matched, route in after.items():
        known = before.get(matched)
        if known is None:
            yield Change("added", f"route {matched}", f"is added, to pool {route.pool}")
        elif known != route:
            yield from _keys(known, route, f"route {matched}")
    for matched, route in before.items():
        if matched not in after:
            yield Change("removed", f"route {matched}", f"is removed (led to pool {route.pool})")


def _matches(route: Route) -> str:
    listener = f" on {route.listener}" if route.listener else ""
    certificate = f" with client certificate {route.client_cert}" if route.client_cert is not None else ""
    return f"{route.host or '*'}{route.path_prefix}{certificate}{listener}"


def _keys(old: Struct, new: Struct, where: str, path: str = "") -> Iterator[Change]:
    """The keys of two tables of one kind that differ, tables inside them included."""
    if old == new:
        return
    for name, hint in fields_of(type(new)).items():
        before, after = getattr(old, name), getattr(new, name)
        if before == after or name in _NAMED.get(type(new), ()):
            continue
        key = f"{path}{name}"
        if isinstance(before, Struct) and type(before) is type(after):
            yield from _keys(before, after, where, f"{key}.")
        elif name in _SECRET:
            yield _changed(where, key, "is another one")
        else:
            yield _changed(where, key, f"{_shown(before, hint)} becomes {_shown(after, hint)}")


def _changed(where: str, key: str, text: str) -> Change:
    return Change("changed", where, f"{key} {text}") if where else Change("changed", key, text)


def _shown(value: Any, hint: Any) -> str:
    """A value as a file could have it."""
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Struct):
        return "set" if type(value).EXPECTS == Struct.EXPECTS else type(value).__name__.lower()
    for note in notes:
        if isinstance(note, Duration):
            return "off" if value == 0 else format_duration(value)
        if isinstance(note, Size):
            return "off" if value == 0 else format_size(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple) and all(isinstance(item, (str, Certificate)) for item in value):
        return "[" + ", ".join(f'"{item if isinstance(item, str) else item.cert}"' for item in value) + "]"
    text = getattr(value, "text", None)
    return text if isinstance(text, str) else str(value)


def _strategy(strategy: Strategy) -> str:
    options = ", ".join(f"{name} = {value!r}" for name, value in strategy.options.items())
    return f"{strategy.name} ({options})" if options else strategy.name


def _count(backends: Sequence[Backend]) -> str:
    return f"{len(backends)} backend" + ("" if len(backends) == 1 else "s")
