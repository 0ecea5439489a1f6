"""From the states of a pool's backends to the sets they may be picked from. The one rule, written once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Generic, Protocol, TypeVar

from headgate.resilience import priority


class Flag(IntFlag):
    """The state of a backend as it stands in the shared segment (`BackendFlag` in engine/stats.pxd)."""

    PRESENT = 1
    ENABLED = 2
    UP = 4
    CHECKED = 8
    EJECTED = 16
    HALF_OPEN = 32
    DRAINING = 64
    DRAINED = 128


class Stateful(Protocol):
    """What the rule looks at."""

    @property
    def flags(self) -> int: ...

    @property
    def weight(self) -> int: ...

    @property
    def priority(self) -> int:
        """0 = the first to be used."""

    @property
    def factor(self) -> float:
        """The part of its weight that it gets now (see `slow_start`)."""


B = TypeVar("B", bound=Stateful)
T = TypeVar("T")

# Below this share of routable backends ejection is more likely wrong than right: most of a pool does not break by
# itself, and the few that are left would break under the load of all. The same share as in Envoy.
PANIC_THRESHOLD = 0.5

# Plain numbers: arithmetic on an IntFlag costs a microsecond each time, and this runs over all backends of a pool
# between two batches of requests.
_PRESENT = int(Flag.PRESENT)
_SOUND = int(Flag.PRESENT | Flag.ENABLED | Flag.CHECKED | Flag.UP)
_BROKEN = int(Flag.EJECTED | Flag.HALF_OPEN)
_HALF_OPEN = int(Flag.HALF_OPEN)
_DRAINED = int(Flag.DRAINED)
_WANTED = int(Flag.PRESENT | Flag.ENABLED)
_WANTED_OR_DRAINING = int(Flag.PRESENT | Flag.ENABLED | Flag.DRAINING | Flag.DRAINED)


@dataclass(frozen=True, slots=True)
class Level(Generic[T]):
    """The backends of one priority."""

    priority: int
    backends: list[T]
    """Those that may be picked for new sessions."""
    load: float
    """The share of new sessions that is theirs; 0 while the levels before bear everything."""


@dataclass(frozen=True, slots=True)
class Eligibility(Generic[B]):
    """Who may serve what, each in the order given."""

    new_sessions: list[B]
    """For the strategy to pick from; those of all levels."""
    bound: list[B]
    """May serve a session that is bound to it by a cookie."""
    half_open: list[B]
    """To be probed with one idempotent request at a time."""
    panic: bool
    """Too few are routable: ejection is not looked at (in one level at least)."""
    levels: list[Level[B]]
    """By priority, the first one first; loads add up to 1 unless nobody may be picked at all."""


class _Counted(Generic[B]):
    """One level while it is worked out."""

    __slots__ = ("meant", "members", "routable", "sound", "usable")

    def __init__(self) -> None:
        self.members = 0
        self.meant = 0
        self.sound: list[B] = []
        self.routable: list[B] = []
        self.usable = 0.0

    @property
    def health(self) -> float:
        return priority.health(self.usable, self.members)

    def panics(self, threshold: float | None) -> bool:
        routable = len(self.routable)
        return threshold is not None and routable < threshold * self.meant and routable < len(self.sound)


def eligible(backends: Iterable[B], panic_threshold: float | None = PANIC_THRESHOLD) -> Eligibility[B]:
    """The sets that follow from flags, weights and priorities. `panic_threshold` is a share from 0 to 1; None = never.

    routable = PRESENT and ENABLED and CHECKED and UP, not EJECTED and not HALF_OPEN. New sessions go to those that are
    routable, not DRAINING, and have a weight. In panic EJECTED and HALF_OPEN are overlooked, and nothing else.

    The share is taken of those that are meant to serve new sessions: present, enabled, not draining, with a weight.
    What the administrator took out is no sign of trouble, and what drains is no help. A half-open one that no new
    request may probe (draining, or weight 0) is probed by the sessions bound to it, or it would never come back.

    With several priorities each level is looked at by itself, and none panics while all levels together can bear the
    load without that (as in Envoy): that is what the backups are for. How much a level bears (`priority.health`) is
    taken of all it has, those included that the administrator took out: they are missing, whatever the reason.
    """
    everybody = list(backends)
    counted: dict[int, _Counted[B]] = {}
    for backend in everybody:
        level = counted.get(backend.priority)
        if level is None:
            level = counted[backend.priority] = _Counted()
        if backend.weight > 0 and backend.flags & _PRESENT:
            level.members += 1
        if _meant(backend):
            level.meant += 1
            if backend.flags & _SOUND == _SOUND:
                level.sound.append(backend)
                if not backend.flags & _BROKEN:
                    level.routable.append(backend)
                    level.usable += backend.factor
    healths = {number: counted[number].health for number in sorted(counted)}
    enough = len(counted) > 1 and sum(healths.values()) >= 1
    panic = frozenset(number for number in counted if not enough and counted[number].panics(panic_threshold))
    levels = _levels(counted, healths, panic)
    chosen = {backend for level in levels for backend in level.backends} if len(levels) > 1 else None
    return Eligibility(
        new_sessions=[backend for level in levels for backend in level.backends]
        if chosen is None
        else [backend for backend in everybody if backend in chosen],
        bound=[backend for backend in everybody if _may_serve_bound(backend, backend.priority in panic)],
        half_open=[
            backend
            for backend in everybody
            if backend.flags & (_SOUND | _BROKEN) == _SOUND | _HALF_OPEN and _meant(backend)
        ],
        panic=bool(panic),
        levels=levels,
    )


def _levels(counted: Mapping[int, _Counted[B]], healths: Mapping[int, float], panic: Collection[int]) -> list[Level[B]]:
    sets = {number: counted[number].sound if number in panic else counted[number].routable for number in healths}
    known = list(healths.values())
    if not any(known):
        # Nobody is routable: in panic the load goes to what is there, by its size.
        known = [priority.health(len(sets[number]), counted[number].members) for number in healths]
    return [Level(number, sets[number], load) for number, load in zip(healths, priority.loads(known), strict=True)]


def _meant(backend: Stateful) -> bool:
    """Meant to serve new sessions."""
    return backend.flags & _WANTED_OR_DRAINING == _WANTED and backend.weight > 0


def _may_serve_bound(backend: Stateful, panic: bool) -> bool:
    if backend.flags & (_SOUND | _DRAINED) != _SOUND:
        return False
    broken = backend.flags & _BROKEN
    return not broken or panic or (broken == _HALF_OPEN and not _meant(backend))
