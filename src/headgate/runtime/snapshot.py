"""The desired state of the whole balancer, as one immutable value: what a worker is asked to become.

A snapshot is complete. A worker compares it with what it runs and changes only what differs, so a snapshot that was
superseded before it was read costs nothing and none is ever missed.
"""

from __future__ import annotations

import msgspec

from headgate.config.schema import Config
from headgate.tls.files import NONE, TlsFiles


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A validated configuration plus everything a worker cannot know by itself.

    config: the configuration, as it is now (runtime changes are in it: added backends, weights, strategies).
    generation: grows by one with every snapshot; a worker answers `Applied(generation)`.
    pool_slots: pool name -> its slot in the shared segment.
    backend_slots: (pool name, backend name) -> its slot in the shared segment.
    addresses: backend slot -> packed `struct sockaddr` values to connect to, in the order to try them. A name that has
        not been resolved yet has an empty list.
    listener_slots, route_slots: a listener's `bind`, and a route's name (`observe.names`) -> its slot in the shared
        segment, where it has one of its own.
    sticky_secrets: pool name -> the key its stickiness cookies are signed with; the same in every worker.
    tls: the files that `config` names for TLS, as they are to be used.
    """

    config: Config
    generation: int
    pool_slots: dict[str, int]
    backend_slots: dict[tuple[str, str], int]
    addresses: dict[int, list[bytes]]
    sticky_secrets: dict[str, bytes] = {}
    listener_slots: dict[str, int] = {}
    route_slots: dict[str, int] = {}
    tls: TlsFiles = NONE

    def __repr__(self) -> str:
        """Without the secrets, since objects end up in logs and bug reports."""
        return f"Snapshot(generation={self.generation}, config={self.config!r}, tls={self.tls!r})"
