"""What the admin API sends and takes, as types: the OpenAPI document is made of them.

Names in JSON are those of the status page ("activeConnections"). Times are RFC 3339 in UTC, durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headgate.admin.endpoint import Body
from headgate.explain.answer import Explanation as Explanation
from headgate.observe.status import BackendStatus, CertificateStatus, PoolStatus, Record, State, TotalStatus

Level = Literal["debug", "info", "warning", "error"]
Weight = Annotated[int, Meta(ge=0, le=256)]


class Backend(BackendStatus, frozen=True, kw_only=True):
    """A backend, with everything there is to say of its state."""

    reasons: list[str]
    """All reasons for its state, the first to look at first; empty when it simply works."""
    addresses: list[str]
    """Where its name leads now."""
    changed: list[str]
    """What was changed while running and is not in the file: "added", "weight", "draining", "disabled"."""


class Pool(PoolStatus, frozen=True, kw_only=True):
    """A pool."""

    strategy: str
    strategy_options: dict[str, Any]
    changed: list[str]
    """What was changed while running and is not in the file: "strategy", "backends"."""


class Worker(Record, frozen=True, kw_only=True):
    """A process that carries traffic."""

    worker: int
    pid: int
    generation: int
    """The last configuration it runs."""
    connections: int
    """Open client connections."""
    in_flight: int
    """Requests."""
    tunnels: int
    accepted: int
    refused_connections: int
    requests: int
    problem: str
    """Why it does not run the last configuration; empty when it does, or is about to."""


class Listener(Record, frozen=True, kw_only=True):
    """An address where clients are accepted."""

    bind: str
    state: Literal["open", "draining", "closed"]


class Status(Record, frozen=True, kw_only=True):
    """Everything at a glance."""

    version: str
    pid: int
    started: str
    ready: bool
    config_file: str
    generation: int
    listeners: list[Listener]
    workers: list[Worker]
    pools: list[Pool]
    backends: list[Backend]
    totals: TotalStatus
    certificates: list[CertificateStatus]
    """Those of listeners, and those that backends are shown."""


class BackendConnections(Record, frozen=True, kw_only=True):
    """A backend's share of the connections."""

    pool: str
    backend: str
    active: int
    """Attempts in flight."""
    idle: int
    """Kept connections that wait for a request."""


class ListenerConnections(Listener, frozen=True, kw_only=True):
    """A listener's share of the connections."""

    connections: int
    """Open client connections that came in by it; while it is draining those that are left."""


class Connections(Record, frozen=True, kw_only=True):
    """Who is connected, in numbers."""

    clients: int
    in_flight: int
    tunnels: int
    listeners: list[ListenerConnections]
    workers: list[Worker]
    backends: list[BackendConnections]
    """Those that have any."""


class Event(Record, frozen=True, kw_only=True):
    """Something that happened."""

    number: int
    """Counts them from 1, in this run."""
    time: str
    pool: str
    """Empty where it is about none."""
    backend: str
    what: str
    """ "up", "down", "ejected", "half-open", "readmitted", "draining", "reloaded"..."""
    reason: str


class Events(Record, frozen=True, kw_only=True):
    """Oldest first."""

    events: list[Event]
    last: int
    """The number of the newest event there is; ask for what comes `after` it."""


class EventsQuery(Body, frozen=True):
    """Which events."""

    after: Annotated[int, Meta(ge=0, le=2**62)] = 0
    """Only those with a higher number."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    """At most so many, the newest."""


class Metrics(Record, frozen=True, kw_only=True):
    """All counters. They grow from the start of the process tree on."""

    totals: TotalStatus
    workers: list[Worker]
    pools: list[Pool]
    backends: list[Backend]
    certificates: list[CertificateStatus]


class Change(Record, frozen=True, kw_only=True):
    """One difference between what runs and what would, in words."""

    kind: Literal["added", "removed", "changed", "kept", "dropped"]
    """ "kept" and "dropped" are about changes made while running that the file does not have, or contradicts."""
    where: str
    text: str


class Plan(Record, frozen=True, kw_only=True):
    """What a reload changes, or has changed."""

    changes: list[Change]


class PlanRequest(Body, frozen=True):
    """A configuration to compare with."""

    config: dict[str, Any] | None = None
    """With the keys of a configuration file. Not given: the file that the balancer was started with, read anew."""


class Done(Record, frozen=True, kw_only=True):
    """A change has been made."""

    applied: bool
    """Every worker runs it. (A worker that is busy or being replaced gets it when it can.)"""
    saved: bool
    """It is in the state file; false where none is configured, too."""
    warning: str
    """What could not be done; empty when all is well."""


class BackendDone(Done, frozen=True, kw_only=True):
    """A backend has been changed."""

    backend: Backend


class NewBackend(Body, frozen=True):
    """A backend to add."""

    url: str
    weight: Weight = 1
    name: str | None = None
    """Not given: its url."""


class Drain(Body, frozen=True):
    """How a backend is drained."""

    deadline: Annotated[float, Meta(gt=0, le=2592000)] | None = None
    """After so many seconds bound sessions go elsewhere, too, and what is in flight is cut off. Not given: never."""


class NewWeight(Body, frozen=True):
    """0: sessions bound to it only, nothing new."""

    weight: Weight


class NewStrategy(Body, frozen=True):
    """A strategy."""

    name: str
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class ExplainRequest(Body, frozen=True):
    """A request to be explained; nothing of it is sent."""

    url: Annotated[str, Meta(min_length=1, max_length=8192)]
    """Absolute: "http://shop.example:8080/cart?x=1". Its port says which listener is meant."""
    method: Annotated[str, Meta(min_length=1, max_length=64)] = "GET"
    headers: Annotated[tuple[tuple[str, str], ...], Meta(max_length=200)] = ()
    """Names and values, in their order."""
    client: str = "127.0.0.1"
    """The address that connects."""
    listener: str = ""
    """Which listener is meant, by its `bind`. Not given: the one of the URL's port."""


class Attempt(Record, frozen=True, kw_only=True):
    """One try at one backend."""

    backend: str
    """Its name, cut at 40 bytes."""
    kind: str
    """How it ended, by the words of docs/errors.md."""
    status: int
    """What the backend answered; 0: nothing."""
    started_ms: float
    """Since the request's head was complete."""
    first_byte_ms: float | None
    """Since the attempt began; None: no byte came."""
    ms: float


class Decision(Record, frozen=True, kw_only=True):
    """A real request: where it went, and what became of each attempt. Long texts are cut."""

    id: str
    """The request id of the access log and of X-Request-ID."""
    time: str
    """When it began."""
    worker: int
    sampled: bool
    """It is here by its share of all requests; else because something went wrong."""
    failed: bool
    """It did not end well, or only after another attempt."""
    method: str
    host: str
    path: str
    """Without its query, unless `decisions.query` says otherwise."""
    client: str
    listener: str
    route: str
    """Its route, by the name that metrics have; empty where none matched."""
    pool: str
    kind: str
    """How it ended, by the words of docs/errors.md."""
    why: str
    """That word in a sentence."""
    status: int
    """What the client was answered; 0: nothing."""
    attempts: list[Attempt]
    """The first four and the last one at most."""
    attempts_made: int
    sticky: bool
    """A cookie bound it to a backend."""
    notes: list[str]
    """What the access log says besides: "hedged", "fallback", "retry_budget"..."""
    queued_ms: float | None
    """In the queue; None: it did not wait."""
    first_byte_ms: float | None
    total_ms: float
    trace_id: str
    """Empty where it has none."""


class Decisions(Record, frozen=True, kw_only=True):
    """Newest first."""

    decisions: list[Decision]


class DecisionsQuery(Body, frozen=True):
    """Which decisions."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    """At most so many, the newest."""
    id: Annotated[str, Meta(max_length=128)] = ""
    """Only those of this request id."""
    failed: bool = False
    """Only those that did not end well, or only after another attempt."""
    backend: Annotated[str, Meta(max_length=1024)] = ""
    """Only those with an attempt at the backend of this name."""


class LogLevel(Record, frozen=True, kw_only=True):
    """How much the balancer says of itself."""

    level: Level


class NewLogLevel(Body, frozen=True):
    """How much the balancer shall say of itself, until it ends."""

    level: Level


class ConfigDocument(Record, frozen=True, kw_only=True):
    """Configurations, with the keys of a configuration file. Secrets are shown as "***"."""

    effective: dict[str, Any]
    """What runs."""
    file: dict[str, Any]
    """What the file says, without changes made while running."""
    changes: list[Change]
    """Those, in words."""


# What `GET /stream` sends (docs/admin-api.md). Moments are milliseconds since 1970 here, latencies milliseconds.

StreamRow = tuple[int, float, float, float | None, float | None, float | None, int, int]
Recent = tuple[float | None, float | None, float | None]


class StreamQuery(Body, frozen=True):
    """What a reader that was connected before has already."""

    run: Annotated[str, Meta(max_length=64)] = ""
    """The `run` it was told; with another one it has nothing."""
    after: Annotated[int, Meta(ge=0, le=2**40)] = 0
    """The last second that it has a row of."""
    event: Annotated[int, Meta(ge=0, le=2**62)] = 0
    """The number of the last event it has."""


class StreamPool(Record, frozen=True, kw_only=True):
    """A pool."""

    name: str
    strategy: str
    strategy_options: dict[str, Any]
    changed: list[str]


class StreamRoute(Record, frozen=True, kw_only=True):
    """A route."""

    listener: str | None
    host: str | None
    path_prefix: str
    pool: str


class StreamBackend(Record, frozen=True, kw_only=True):
    """A backend's state."""

    id: int
    pool: str
    name: str
    url: str
    healthy: bool
    state: State
    reason: str
    more: list[str]
    """Reasons besides the first."""
    since: int
    weight: int
    priority: int
    part: float


class StreamBackendWhole(Record, frozen=True, kw_only=True):
    """A backend with its numbers."""

    state: StreamBackend
    numbers: tuple[float, float, int, float | None, int, int]
    points: list[tuple[float, float | None]] | None


class StreamEvent(Record, frozen=True, kw_only=True):
    """Something that happened."""

    number: int
    time: int
    pool: str
    backend: str
    what: str
    reason: str


class StreamCertificate(Record, frozen=True, kw_only=True):
    """A certificate in use."""

    where: str
    file: str
    names: list[str]
    ends: int
    days: int
    """Whole days that are left; negative once it has expired."""


class StreamState(Record, frozen=True, kw_only=True):
    """`event: state`: everything. Without a past where the reader has it."""

    run: str
    now: int
    version: str
    pid: int
    started: int
    config_file: str
    ready: bool
    recent: Recent
    totals: TotalStatus
    workers: list[Worker]
    listeners: list[Listener]
    pools: list[StreamPool]
    pool_numbers: list[tuple[Any, ...]]
    certificates: list[StreamCertificate]
    routes: list[StreamRoute]
    route_numbers: list[tuple[Any, ...]]
    backends: list[StreamBackendWhole]
    seconds: list[StreamRow] | None
    minutes: list[StreamRow] | None
    events: list[StreamEvent]


class StreamTick(Record, frozen=True, kw_only=True, omit_defaults=True):
    """`event: tick`, once a second, and `event: change`, at once after an event: what has become different."""

    now: int
    row: StreamRow | None = None
    minute: StreamRow | None = None
    recent: Recent | None = None
    ready: bool = True
    totals: TotalStatus | None = None
    workers: list[Worker] | None = None
    listeners: list[Listener] | None = None
    certificates: list[StreamCertificate] | None = None
    pools: list[tuple[Any, ...]] = msgspec.field(default_factory=list)
    routes: list[tuple[Any, ...]] = msgspec.field(default_factory=list)
    numbers: list[tuple[Any, ...]] = msgspec.field(default_factory=list)
    points: list[tuple[int, float, float | None]] = msgspec.field(default_factory=list)
    states: list[StreamBackend] = msgspec.field(default_factory=list)
    events: list[StreamEvent] = msgspec.field(default_factory=list)
