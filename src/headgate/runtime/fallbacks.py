"""What a pool's `fallback` is made of: the engine's static answers, and who stands in for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from headgate.config import schema
from headgate.runtime.parts import Parts

if TYPE_CHECKING:
    from headgate.engine import StaticAnswer

_STATUS_UNAVAILABLE = 503


def static_answer(config: schema.Fallback | None, parts: Parts) -> StaticAnswer | None:
    """The answer that `config` describes; None when it describes none. OSError when its file cannot be read, ValueError
    when that is too large."""
    if config is None or config.pool:
        return None
    body = config.body.encode()
    if config.file:
        with open(config.file, "rb") as file:
            body = file.read(schema.FALLBACK_BODY_LIMIT + 1)
        if len(body) > schema.FALLBACK_BODY_LIMIT:
            raise ValueError(f"{config.file} is larger than {schema.FALLBACK_BODY_LIMIT} bytes")
    fields = dict(config.headers)
    named = {name.lower() for name in fields}
    if "cache-control" not in named:
        fields["Cache-Control"] = "no-store"
    if config.status == _STATUS_UNAVAILABLE and "retry-after" not in named:
        fields["Retry-After"] = "1"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return parts.static_answer(config.status, config.type_of_body().encode(), lines.encode(), body)


def chain(pool: str, pools: Mapping[str, schema.Pool]) -> list[str]:
    """The pool, the one that stands in for it, the one that stands in for that... A loop ends where it would close."""
    names = [pool]
    while (config := pools[names[-1]].fallback) is not None and config.pool in pools and config.pool not in names:
        names.append(config.pool)
    return names


def stand_in(pool: str, pools: Mapping[str, schema.Pool], routable: Callable[[str], bool]) -> str:
    """Who serves a pool's requests while nothing in it is routable, as the engine goes about it: "pool spare", "static
    answer", or "" where nobody does. routable: whether a pool has a backend for a new session."""
    way = chain(pool, pools)
    for name in way[1:]:
        if routable(name):
            return f"pool {name}"
    last = pools[way[-1]].fallback
    return "static answer" if last is not None and not last.pool else ""
