"""Whom a strategy would pick, found out without its noticing: a copy is asked, and chance is put back.

A copy is made with `copy.deepcopy`; backends, compiled tables and the context's random source are shared with the
original, since a pick does not change the first two, and the last one's state is put back, as is that of Python's own
`random`. So a strategy that can be copied predicts exactly; one that cannot says so, and nothing is asked of it.
A strategy may define `__deepcopy__` where it knows better.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.balancing.base import Backend, Grounds, Request, Score, Strategy
from headgate.explain.standing import PoolLook

# Under chance, of whatever kind, the same strategy picks the same; this one is the module's own.
_GLOBAL: random.Random = random._inst


@dataclass(frozen=True, slots=True)
class Picked:
    """backend: None = nobody is left, or (`error`) nobody can say. by_fallback: round robin serves instead."""

    backend: Any
    grounds: Mapping[int, Grounds]
    by_fallback: bool = False
    error: str = ""
    exact: bool = True


@contextlib.contextmanager
def unchanged(sources: Iterable[random.Random]) -> Iterator[None]:
    """These random sources, and Python's own, go on afterwards as if nothing had been drawn."""
    kept = [(source, source.getstate()) for source in {id(one): one for one in (*sources, _GLOBAL)}.values()]
    try:
        yield
    finally:
        for source, state in kept:
            source.setstate(state)


def preview(
    look: PoolLook, request: Request, tried: Collection[Any], *, sources: Sequence[random.Random] = ()
) -> Picked:
    """What the pool would do with this request now. Changes nothing."""
    shared: list[object] = [standing.backend for standing in look.backends]
    with unchanged(sources):
        grounds: dict[int, Grounds] = {}
        error = ""
        if look.works:
            try:
                placer = _copied(look.placer, (*shared, *sources))
                grounds = {priority: _grounds(one, request) for priority, one in placer.strategies.items()}
                # Asking for grounds may have changed it.
                placer = _copied(look.placer, (*shared, *sources))
            except Exception as problem:
                text = f"the strategy cannot be copied, so nobody can say whom it picks ({_named(problem)})"
                return Picked(None, grounds, error=text, exact=False)
            try:
                chosen = placer.pick(request, tried)
            except Exception as problem:
                error = f"the strategy raises {_named(problem)}; round robin serves"
            else:
                if chosen is None or _usable(chosen, look, tried):
                    if chosen is not None:
                        return Picked(chosen, grounds)
                else:
                    error = f"the strategy picks {chosen!r:.100}, which may not be used now; round robin serves"
        else:
            error = "the strategy failed when it was told of its backends; round robin serves"
        chosen = _copied(look.fallback, (*shared, *sources)).pick(request, tried)
        return Picked(chosen if _usable(chosen, look, tried) else None, grounds, by_fallback=True, error=error)


def _usable(chosen: object, look: PoolLook, tried: Collection[Any]) -> bool:
    return chosen not in tried and any(standing.backend is chosen and standing.eligible for standing in look.backends)


def _copied(value: Any, shared: Iterable[object]) -> Any:
    return copy.deepcopy(value, {id(one): one for one in shared})


def _grounds(strategy: Strategy, request: Request) -> Grounds:
    """What the strategy says of itself; a strategy that says nothing, or fails at it, has no scores."""
    explain = getattr(strategy, "explain", None)
    if explain is None:
        return Grounds("a strategy that does not say what it goes by", {})
    try:
        said = explain(request)
    except Exception as error:
        return Grounds(f"its explain() raises {_named(error)}", {})
    if not isinstance(said, Grounds):
        return Grounds("its explain() returns something else than Grounds", {})
    return said


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def score_of(backend: Backend, grounds: Mapping[int, Grounds]) -> Score | None:
    """What any of the levels' strategies says of a backend."""
    for one in grounds.values():
        if (score := one.scores.get(backend)) is not None:
            return score
    return None
