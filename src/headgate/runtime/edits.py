"""Changes to a configuration while it runs: each takes a `Config` and returns another one, or raises ValueError.

What may be written in a file may be set here and nothing else: the schema's own readers check the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.config.addresses import BackendUrl
from headgate.config.schema import HIGHEST_PRIORITY, Backend, Config, Pool, Strategy
from headgate.config.values import Name, Whole, Wrong


def pool_of(config: Config, pool: str) -> Pool:
    """The pool of this name. Raises ValueError that says which there are."""
    try:
        return config.pools[pool]
    except KeyError:
        known = ", ".join(config.pools) or "none at all"
        raise ValueError(f"there is no pool {pool!r} (there is: {known})") from None


def backend_of(config: Config, pool: str, backend: str) -> Backend:
    """The backend of this name, or with this URL if only one has it. Raises ValueError."""
    backends = pool_of(config, pool).backends
    for candidate in backends:
        if candidate.name == backend:
            return candidate
    by_url = [candidate for candidate in backends if backend in (candidate.url.text, candidate.url.text + "/")]
    if len(by_url) == 1:
        return by_url[0]
    if by_url:
        names = ", ".join(candidate.name for candidate in by_url)
        raise ValueError(f"several backends of pool {pool!r} have the URL {backend}: use a name ({names})")
    known = ", ".join(candidate.name for candidate in backends) or "none at all"
    raise ValueError(f"pool {pool!r} has no backend {backend!r} (it has: {known})")


def with_backend(
    config: Config, pool: str, url: str, weight: int, name: str | None, priority: int = 0
) -> tuple[Config, Backend]:
    """One backend more. Its name and its address must be new in the pool."""
    owner = pool_of(config, pool)
    try:
        added = Backend(
            url=BackendUrl.parse(url),
            weight=Whole(0, 256)(weight),
            priority=Whole(0, HIGHEST_PRIORITY)(priority),
            name=Name()(name) if name is not None else "",
        )
    except Wrong as error:
        raise ValueError(_text(error)) from None
    if any(other.name == added.name for other in owner.backends):
        raise ValueError(f"pool {pool!r} has a backend called {added.name!r} already")
    if (
        same := next((other for other in owner.backends if other.url.identity == added.url.identity), None)
    ) is not None:
        raise ValueError(f"pool {pool!r} has a backend at {added.url.text} already: {same.name}")
    return _with_pool(config, pool, backends=(*owner.backends, added)), added


def without_backend(config: Config, pool: str, backend: str) -> tuple[Config, Backend]:
    """One backend less. A pool may become empty: it then answers 503."""
    removed = backend_of(config, pool, backend)
    rest = tuple(other for other in pool_of(config, pool).backends if other is not removed)
    return _with_pool(config, pool, backends=rest), removed


def with_weight(config: Config, pool: str, backend: str, weight: int) -> tuple[Config, Backend]:
    """The same with another weight, 0 to 256; 0 keeps bound sessions only."""
    old = backend_of(config, pool, backend)
    try:
        new = msgspec.structs.replace(old, weight=Whole(0, 256)(weight))
    except Wrong as error:
        raise ValueError(f"weight: {_text(error)}") from None
    backends = tuple(new if other is old else other for other in pool_of(config, pool).backends)
    return _with_pool(config, pool, backends=backends), new


def with_strategy(config: Config, pool: str, strategy: str | Mapping[str, Any] | Strategy) -> Config:
    """Another strategy: a name, a table with a name and options, or the schema's object."""
    pool_of(config, pool)
    if not isinstance(strategy, Strategy):
        raw = Strategy.expand(dict(strategy) if isinstance(strategy, Mapping) else strategy)
        try:
            strategy = msgspec.convert(raw, Strategy)
        except msgspec.ValidationError as error:
            raise ValueError(f"strategy: {error}") from None
    return _with_pool(config, pool, strategy=strategy)


def _with_pool(config: Config, pool: str, **changes: object) -> Config:
    changed = msgspec.structs.replace(config.pools[pool], **changes)
    return msgspec.structs.replace(config, pools={**config.pools, pool: changed})


def _text(error: Wrong) -> str:
    return f"{error.message} ({error.suggestion})" if error.suggestion else error.message
