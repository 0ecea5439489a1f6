"""IP hash: a client's address decides, so the same client comes to the same backend."""

from __future__ import annotations

from headgate.balancing.base import Context
from headgate.balancing.ring_hash import RingHash


class IpHash(RingHash):
    """`ring_hash` by client address, and without options. The same client to the same backend while it is there; else
    to where it would go without it. O(1)."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
