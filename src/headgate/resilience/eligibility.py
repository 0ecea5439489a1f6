"""From the states of a pool's backends to the sets they may be picked from. The one rule, written once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from typing import Generic, Protocol, TypeVar


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


B = TypeVar("B", bound=Stateful)

# Below this share of routable backends ejection is more likely wrong than right: most of a pool does not break by
# itself, and the few that are left would break under the load of all. The same share as in Envoy.
PANIC_THRESHOLD = 0.5

# Plain numbers: arithmetic on an IntFlag costs a microsecond each time, and this runs over all backends of a pool
# between two batches of requests.
_SOUND = int(Flag.PRESENT | Flag.ENABLED | Flag.CHECKED | Flag.UP)
_BROKEN = int(Flag.EJECTED | Flag.HALF_OPEN)
_HALF_OPEN = int(Flag.HALF_OPEN)
_DRAINED = int(Flag.DRAINED)
_WANTED = int(Flag.PRESENT | Flag.ENABLED)
_WANTED_OR_DRAINING = int(Flag.PRESENT | Flag.ENABLED | Flag.DRAINING)


@dataclass(frozen=True, slots=True)
class Eligibility(Generic[B]):
    """Who may serve what, each in the order given."""

    new_sessions: list[B]
    """For the strategy to pick from."""
    bound: list[B]
    """May serve a session that is bound to it by a cookie."""
    half_open: list[B]
    """To be probed with one idempotent request at a time."""
    panic: bool
    """Too few are routable: ejection is not looked at."""


def eligible(backends: Iterable[B], panic_threshold: float | None = PANIC_THRESHOLD) -> Eligibility[B]:
    """The sets that follow from flags and weights. `panic_threshold` is a share from 0 to 1; None = never panic.

    routable = PRESENT and ENABLED and CHECKED and UP, not EJECTED and not HALF_OPEN. New sessions go to those that are
    routable, not DRAINING, and have a weight. In panic EJECTED and HALF_OPEN are overlooked, and nothing else.

    The share is taken of those that are meant to serve new sessions: present, enabled, not draining, with a weight.
    What the administrator took out is no sign of trouble, and what drains is no help. A half-open one that no new
    request may probe (draining, or weight 0) is probed by the sessions bound to it, or it would never come back.
    """
    everybody = list(backends)
    meant = [backend for backend in everybody if _meant(backend)]
    sound = [backend for backend in meant if backend.flags & _SOUND == _SOUND]
    routable = [backend for backend in sound if not backend.flags & _BROKEN]
    panic = panic_threshold is not None and len(routable) < panic_threshold * len(meant) and len(routable) < len(sound)
    return Eligibility(
        new_sessions=sound if panic else routable,
        bound=[backend for backend in everybody if _may_serve_bound(backend, panic)],
        half_open=[backend for backend in sound if backend.flags & _BROKEN == _HALF_OPEN],
        panic=panic,
    )


def _meant(backend: Stateful) -> bool:
    """Meant to serve new sessions."""
    return backend.flags & _WANTED_OR_DRAINING == _WANTED and backend.weight > 0


def _may_serve_bound(backend: Stateful, panic: bool) -> bool:
    if backend.flags & (_SOUND | _DRAINED) != _SOUND:
        return False
    broken = backend.flags & _BROKEN
    return not broken or panic or (broken == _HALF_OPEN and not _meant(backend))
