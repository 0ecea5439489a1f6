"""What a supervisor knows of its backends, in a form that outlives it: an upgrade hands it to the new version."""

from __future__ import annotations

import msgspec

from headgate.resilience.breaker import Remembered


class KnownBackend(msgspec.Struct, frozen=True, kw_only=True):
    """One backend. Known by its pool, name and URL: the same name with another address is another backend."""

    pool: str
    name: str
    url: str
    slot: int
    checked: bool
    up: bool
    reason: str
    addresses: list[bytes]
    breaker: Remembered | None = None
    """None while it is closed and nothing is held against it. Times are of CLOCK_MONOTONIC, which goes on."""


class Knowledge(msgspec.Struct, frozen=True, kw_only=True):
    """All backends, and who has which slot of the segment."""

    backends: list[KnownBackend] = []
    pools: dict[str, int] = {}
    resting_backends: list[int] = []
    """Slots that workers may still know under their former owner."""
    resting_pools: list[int] = []
    listeners: dict[str, int] = {}
    """Slots of listeners by their `bind`."""
    routes: dict[str, int] = {}
    """Slots of routes by their names."""
    resting_listeners: list[int] = []
    resting_routes: list[int] = []
