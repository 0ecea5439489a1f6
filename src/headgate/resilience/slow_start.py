"""Slow start: a backend that came (back) gets a growing part of its weight, until its caches are warm and its pools are
filled. One that asks for less (429 or 503 with Retry-After) gets the least for that time, and then starts slowly too.

Both are one ramp: from `from_s` on the share grows in proportion to time, for `for_s` seconds; before it is the least.
The supervisor writes the two into the shared segment (`Warmth` says when), so all workers see the same ramp; each
works out where on it a backend stands (`factor`). Linear, from a tenth, as in Envoy (aggression 1) and HAProxy.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# Envoy's min_weight_percent: with less a backend would see no request, and warm up nothing.
LEAST = 0.10
# Each step is an update() of the strategy in each worker, which may build a table: twenty whatever the window.
STEPS = 20
# linkerd believes up to 300 s. A minute bounds what a mistaken or malicious answer can do; a backend that still wants
# less then says so again.
PENALTY_MAX_S = 60.0


def factor(now: float, from_s: float, for_s: float) -> float:
    """The part of its weight that a backend gets now, LEAST to 1, in steps. `from_s` 0 = no ramp."""
    if from_s == 0.0:
        return 1.0
    since = now - from_s
    if since < 0:
        return LEAST
    if since >= for_s:
        return 1.0
    return max(LEAST, int(since / for_s * STEPS) / STEPS)


class Warmth(Generic[K]):
    """Which backends of one pool must start slowly: those that come while another has been there for a whole window.

    Without a warm peer nobody could take what a cold one is spared (the rule of AWS's ALB): all that come back within
    one window of each other, after all were gone, get their full weight at once. `now` is monotonic seconds.
    """

    def __init__(self) -> None:
        self._since: dict[K, float] = {}

    def came(self, key: K, now: float, window_s: float) -> bool:
        """It became routable; must it start slowly?"""
        self._since[key] = now
        return window_s > 0 and any(now - since >= window_s for other, since in self._since.items() if other != key)

    def was_there(self, key: K) -> None:
        """It is routable since before we looked: warm, as far as anybody can know."""
        self._since[key] = float("-inf")

    def went(self, key: K) -> None:
        """It is not routable any more."""
        self._since.pop(key, None)
