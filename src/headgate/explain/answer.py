"""What an explanation says: the JSON of `POST /explain`, the message from a worker, and what `text` prints."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["up", "down", "unchecked", "disabled", "draining", "drained", "ejected", "half_open"]
"""As on the status page (`observe.status.state_of`)."""

PickedBy = Literal["", "sticky", "probe", "strategy", "round_robin"]


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Python's names here, JSON's in the document."""


class RouteSeen(Part, frozen=True, kw_only=True):
    """A route, and what it has to do with this request."""

    number: int
    """Its place in the configuration, from 1."""
    listener: str
    """Empty: any."""
    host: str
    """Empty: any."""
    path_prefix: str
    pool: str
    why: str
    """Why it matches, or why it does not serve this request."""


class Candidate(Part, frozen=True, kw_only=True):
    """A backend of the pool that serves the request."""

    name: str
    url: str
    state: State
    reason: str
    """Why it is in that state, and everything else that keeps this request, or part of its share, away from it; empty
    when there is nothing of the kind."""
    routable: bool
    """It may be picked for this request."""
    picked: bool
    weight: int
    priority: int
    share: float
    """What it is to get against the others: its weight, less while it starts slowly."""
    active: int
    """Attempts in flight, over all workers."""
    score: float | None
    """What the strategy goes by, in the sense of the explanation's `rule`; None where it says nothing."""
    score_text: str
    """The same for people."""


class StickySeen(Part, frozen=True, kw_only=True):
    """The pool's stickiness, as far as this request goes."""

    cookie: str
    """Its name."""
    backend: str
    """Whom the request's cookie names; empty when it has none, or none that is known."""
    binds: bool
    why: str


class PassedPool(Part, frozen=True, kw_only=True):
    """A pool that came first and could not serve."""

    pool: str
    why: str


class WorkerView(Part, frozen=True, kw_only=True):
    """What one worker would do. Turns and what was learned are each worker's own."""

    worker: int
    picked: str
    """Empty: nobody."""
    picked_by: PickedBy
    outcome: str


class Explanation(Part, frozen=True, kw_only=True):
    """Where a request would go, and why."""

    method: str
    host: str
    path: str
    client: str
    """Resolved through trusted proxies."""
    listener: str
    route: RouteSeen | None = None
    shadowed: list[RouteSeen] = []
    """Routes that match as well, and why another goes before them."""
    missed: list[RouteSeen] = []
    """Routes that do not match, the nearest first."""
    passed: list[PassedPool] = []
    """Pools in whose place the next one stands (`fallback`)."""
    pool: str = ""
    strategy: str = ""
    rule: str = ""
    """What the strategy goes by, and how to read the scores."""
    panic: bool = False
    """Ejected backends are used, since too few others are left."""
    sticky: StickySeen | None = None
    candidates: list[Candidate] = []
    picked: str = ""
    """Whom it would go to now; empty: nobody, or nobody can say."""
    picked_by: PickedBy = ""
    status: int = 0
    """What the balancer would answer by itself; 0: it would not."""
    outcome: str
    """All in one sentence."""
    exact: bool = True
    """The very next request would go there, if none came before it. False where that is left to chance."""
    notes: list[str] = []
    worker: int | None = None
    """Who answers; None where no balancer was asked."""
    workers: list[WorkerView] = []
    """All workers, where there are several: which of them accepts a connection is the kernel's choice."""
