"""Adaptive concurrency: how many requests in flight a pool bears, learned from how long answers take.

Gradient2 of Netflix' concurrency-limits, with its figures where no other reason is given. The mean latency of a window
is compared with a long-term mean: while they are alike the limit grows by a little headroom, which is the queue a
healthy server is allowed; when latency rises by more than `TOLERANCE`, requests queue somewhere behind
us, and the limit shrinks in proportion. Both means are of the same traffic, so nothing has to be measured apart and no
probing phase holds traffic back, as Envoy's does.

What it does not do, here as in the original: hold for ever. The long-term mean learns from every window, those of an
overload too, so a latency that stays high becomes the usual one. Before a simulated server of 40 slots with ten times
the clients it bears, the limit is 64 after one minute, 97 after five, 156 after ten and at `HIGHEST` after fifteen;
eight slots, where the headroom is half of all, are overrun (31 for 8) after five. When the overload ends the mean is
led down within ten minutes. Not to learn from windows with a queue would take a service that became slower for good
for an overload, and throttle it for good. So a limit that is known belongs beside it (`max_requests`): the lower holds.

One limiter is one worker's: it bounds that worker's attempts, and several workers come to share what the pool bears.
"""

from __future__ import annotations

TOLERANCE = 1.5
"""Latency may be so much above the long-term mean before the limit shrinks."""
SMOOTHING = 0.2
"""How much of a window's result is taken over at once."""
HEADROOM = 4.0
"""By how much a limit that is in use grows at each window, before smoothing; for each backend."""
INITIAL = 20.0
"""For each backend. Netflix' value: what a small server bears without noticing."""
LOWEST = 4.0
"""In all. Below Netflix' 20, which is for one server's own threads: a balancer may stand before a single slow one."""
HIGHEST = 200.0
"""For each backend."""
LONG_WINDOW = 600
"""Windows that the long-term mean looks back over: ten minutes at one a second."""
WARM_UP = 10
"""The first so many windows are averaged plainly."""
DRIFT = 2.0
"""A long-term mean so far above the present latency tells of worse times that are over, and is led down faster."""


class Gradient2:
    """Call `update` once per window; `limit` is what it allows.

    backends: how many servers share the load. The figures above are for one.
    """

    def __init__(self, backends: int = 1) -> None:
        self._backends = max(1, backends)
        self._limit = INITIAL * self._backends
        self._long = self._sum = 0.0
        self._windows = 0

    @property
    def limit(self) -> float:
        """Attempts that may be in flight."""
        return self._limit

    @property
    def long_s(self) -> float:
        """The long-term mean latency in seconds; 0 = none yet."""
        return self._long

    def resize(self, backends: int) -> None:
        """There are now so many servers. What was learned of one holds for all."""
        backends = max(1, backends)
        if backends != self._backends:
            self._limit = self._clamped(self._limit * backends / self._backends, backends)
            self._backends = backends

    def update(self, seconds: float, in_flight: int) -> float:
        """A window is over: `seconds` is its mean latency (above 0, else nothing is learned), `in_flight` the most
        attempts there were at a time. Returns the new limit."""
        if not seconds > 0:
            return self._limit
        self._learn(seconds)
        if in_flight < self._limit / 2:
            return self._limit  # it was not the limit that kept latency low
        gradient = max(0.5, min(1.0, TOLERANCE * self._long / seconds))
        wanted = self._limit * gradient + HEADROOM * self._backends
        self._limit = self._clamped(self._limit + SMOOTHING * (wanted - self._limit), self._backends)
        return self._limit

    def _learn(self, seconds: float) -> None:
        self._windows += 1
        if self._windows <= WARM_UP:
            self._sum += seconds
            self._long = self._sum / self._windows
        else:
            self._long += (seconds - self._long) * 2 / (LONG_WINDOW + 1)
        if self._long / seconds > DRIFT:
            self._long *= 0.95

    @staticmethod
    def _clamped(limit: float, backends: int) -> float:
        return max(LOWEST, min(HIGHEST * backends, limit))
