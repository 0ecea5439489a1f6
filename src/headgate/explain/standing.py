"""What is known of a pool at one moment, and in words why a backend may or may not be picked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headgate.balancing.base import Strategy
from headgate.config import schema
from headgate.explain.answer import State
from headgate.resilience.eligibility import Flag, Level


class Placer(Protocol):
    """Strategies by priority, and what places a request among them (`runtime.levels.Levels`)."""

    @property
    def strategies(self) -> Mapping[int, Strategy]: ...
    @property
    def pick(self) -> Callable[[Any, Collection[Any]], object]: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """One backend as it stands.

    backend: what strategies know it by. reason: of its state, as the supervisor wrote it. here: what this worker knows
    better than the supervisor; "" = nothing. eligible: for new sessions; bound_ok: for one that is bound to it. full:
    why it has no place for one more now; "" = it has.
    """

    backend: Any
    state: State
    flags: int
    reason: str
    weight: int
    factor: float
    priority: int
    active: int
    eligible: bool
    bound_ok: bool
    full: str = ""
    here: str = ""

    @property
    def share(self) -> float:
        return self.weight * self.factor


@dataclass(frozen=True, slots=True)
class PoolLook:
    """One pool at one moment.

    placer: picks, while `works`; fallback: does otherwise. Both are the ones in use: they are never asked themselves,
    only copies (`picking`). probe: the half-open backend that the next idempotent request would probe; claims nothing.
    full: why the whole pool has no place; "" = it has.
    """

    name: str
    config: schema.Pool
    backends: Sequence[Standing]
    levels: Sequence[Level[Any]]
    panic: bool
    sticky: Mapping[bytes, Any] | None
    placer: Placer
    fallback: Placer
    works: bool
    probe: Callable[[], Any] = lambda: None
    full: str = ""


def why_not(standing: Standing, look: PoolLook) -> str:
    """Everything that keeps requests, or part of them, away from a backend; "" when nothing does."""
    said = []
    if standing.state != "up":
        said.append(_of_state(standing, look.panic))
    if standing.here:
        said.append(standing.here)
    if standing.weight == 0:
        said.append("weight 0: only sessions that are bound to it")
    elif standing.factor < 1:
        said.append(f"starts slowly: {standing.factor:.0%} of its weight now")
    if standing.full:
        said.append(standing.full)
    if standing.eligible and (waiting := _of_level(standing, look.levels)):
        said.append(waiting)
    return "; ".join(said)


def _of_state(standing: Standing, panic: bool) -> str:
    words = {
        "down": "down",
        "unchecked": "not checked yet",
        "disabled": "disabled by an operator",
        "draining": "draining: only sessions that are bound to it",
        "drained": "drained: the deadline has passed",
        "ejected": "ejected by its breaker",
        "half_open": "half-open: one idempotent request at a time, to see whether it works again",
    }
    said = words[standing.state]
    if standing.reason and standing.reason not in ("draining", "disabled", "drained: the deadline has passed"):
        said += f" ({standing.reason})"
    if panic and standing.eligible and standing.flags & (Flag.EJECTED | Flag.HALF_OPEN):
        said += "; used all the same: too few others are left (panic)"
    return said


def _of_level(standing: Standing, levels: Sequence[Level[Any]]) -> str:
    if len(levels) < 2:
        return ""
    load = next((level.load for level in levels if level.priority == standing.priority), 0.0)
    if load >= 1:
        return ""
    if load <= 0:
        return f"priority {standing.priority} stands by: those before it bear everything"
    return f"priority {standing.priority} gets {load:.0%} of new sessions now"
