"""The status document: what the status page, the command line and a user's program see of a running balancer.

Made from the shared segment alone, so that whichever process is asked gives the same answer, over all workers.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from headgate.engine import stats
from headgate.engine.stats import Latency, Segment
from headgate.errors import MEANING, Kind
from headgate.resilience import slow_start
from headgate.tls.expiry import days_left
from headgate.tls.inventory import Used

State = Literal["up", "down", "unchecked", "disabled", "draining", "drained", "ejected", "half_open"]

# (pool name, backend name, URL, slot in the segment)
BackendRow = tuple[str, str, str, int]

_ROUTABLE = stats.PRESENT | stats.ENABLED | stats.CHECKED | stats.UP
_STATUS_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Python's names here, JSON's in the document."""


class PenaltyStatus(Record, frozen=True):
    """A backend gets less than its weight, since it answered 429 or 503 with Retry-After."""

    status: int
    """Which of the two."""
    reason: str
    until: str
    """The end of the time that it named, or of the minute that is believed at most (RFC 3339, UTC). From then on its
    share grows as after a start."""


class BackendStatus(Record, frozen=True):
    """One backend of one pool. Counters are since its slot was given to it, over all workers."""

    url: str
    name: str
    pool: str
    healthy: bool
    """Routable (see `routable`): it gets requests; while draining or with weight 0 only those of bound sessions."""
    state: State
    reason: str
    """Why it is in this state."""
    since: str | None
    """When it came into this state (RFC 3339, UTC); None = it never changed."""
    weight: int
    part: float
    """The part of its weight that it gets now: below 1 while it starts slowly, or since it asked for less."""
    whole_at: str | None
    """When it will have its whole weight again (RFC 3339, UTC); None = it has it."""
    penalty: PenaltyStatus | None
    """Why it asked for less; None = it did not, or has its whole weight again."""
    active_connections: int
    """Attempts in flight."""
    total_requests: int
    """Attempts started."""
    succeeded: int
    failed: int
    """Attempts that count against the backend."""
    retried: int
    """Attempts that were the retry of a request which had failed elsewhere."""
    open_connections: int
    """Kept ones included."""
    idle_connections: int
    """Kept connections that wait for a request."""
    opened_connections: int
    reused_connections: int
    """Attempts on a kept connection."""
    bytes_received: int
    bytes_sent: int
    statuses: dict[str, int]
    """Answers by class; "none" = attempts without one."""


class LatencyStatus(Record, frozen=True):
    """Durations in seconds, each within 3.2 %; None while there are none."""

    count: int
    mean_seconds: float | None
    p50_seconds: float | None
    p90_seconds: float | None
    p99_seconds: float | None


class QueueStatus(Record, frozen=True):
    """Where requests wait while all backends are full."""

    waiting: int
    queued: int
    """Requests that had to wait, since the pool was there."""
    queued_seconds: float
    """How long, together; those that still wait left out."""
    timed_out: int
    refused: int
    """Met a full queue."""
    left: int
    """The client left while it waited."""
    adaptive_limit: float | None
    """Requests in flight that adaptive concurrency allows, over all workers; None where it is not in use."""


class PoolStatus(Record, frozen=True):
    """One pool: its backends summed up, and the latency of its exchanges where its slot is known."""

    name: str
    backends: int
    healthy: int
    panic: bool
    """Are ejected backends used, since too few others are left?"""
    stand_in: str | None
    """What serves now, since nothing in it is routable: "pool NAME", "static answer", "" for nobody. None = it serves
    itself."""
    active_connections: int
    total_requests: int
    total_time: LatencyStatus | None
    first_byte_time: LatencyStatus | None
    queue: QueueStatus | None


class TotalStatus(Record, frozen=True):
    """The whole process tree, since it started."""

    accepted: int
    connections: int
    """Open client connections."""
    refused_connections: int
    requests: int
    in_flight: int
    answered: int
    retries: int
    retries_refused: int
    hedges: int
    hedges_won: int
    fallbacks: int
    tunnels: int
    bytes_received: int
    bytes_sent: int
    strategy_errors: int
    log_dropped: int
    """Access-log lines that could not be written."""
    statuses: dict[str, int]
    outcomes: dict[str, int]
    """Exchanges by how they ended (the log words of headgate.errors), those that occurred."""


class CertificateStatus(Record, frozen=True, kw_only=True):
    """A certificate in use, on a listener or shown to a pool's backends. Never its key."""

    where: str
    """ "listener :8443" or "pool web"."""
    file: str
    names: list[str]
    """Host names and addresses it is for."""
    subject: str
    """As RFC 4514 writes it; so is the issuer."""
    issuer: str
    key_type: str
    """ "EC", "RSA", "Ed25519"..."""
    fingerprint: str
    """SHA-256, in hexadecimal."""
    not_before: str
    """RFC 3339, UTC; as is not_after."""
    not_after: str
    days_left: int
    """Whole days until not_after; negative once it has expired."""
    expires_seconds: float
    """The same in seconds."""


class Status(Record, frozen=True):
    """The document."""

    backends: list[BackendStatus]
    pools: list[PoolStatus]
    totals: TotalStatus
    workers: int
    """Processes that carry traffic now: those that begin, and those that only finish what they have, too."""
    generation: int
    version: str
    certificates: list[CertificateStatus] = []


def certificate_list(certificates: Iterable[Used], now_s: float) -> list[CertificateStatus]:
    """Certificates as documents show them. now_s: seconds since 1970."""
    now = datetime.fromtimestamp(now_s, UTC)
    return [
        CertificateStatus(
            where=used.where,
            file=used.file,
            names=list(used.certificate.names),
            subject=used.certificate.subject,
            issuer=used.certificate.issuer,
            key_type=used.certificate.key_type,
            fingerprint=used.certificate.fingerprint,
            not_before=moment(int(used.certificate.not_before.timestamp() * 1000)),
            not_after=moment(int(used.certificate.not_after.timestamp() * 1000)),
            days_left=days_left(used.certificate.not_after, now),
            expires_seconds=(used.certificate.not_after - now).total_seconds(),
        )
        for used in certificates
    ]


def routable(flags: int) -> bool:
    """Whether a backend with these flags gets requests: present, enabled, checked, up, not drained, and its breaker
    closed."""
    return flags & (_ROUTABLE | stats.EJECTED | stats.HALF_OPEN | stats.DRAINED) == _ROUTABLE


def state_of(flags: int) -> State:
    """One word for the flags. Of several reasons not to use a backend, the one to look at first."""
    if not (flags & stats.PRESENT and flags & stats.ENABLED):
        return "disabled"
    if flags & stats.DRAINED:
        return "drained"
    if not flags & stats.CHECKED:
        return "unchecked"
    if not flags & stats.UP:
        return "down"
    if flags & stats.HALF_OPEN:
        return "half_open"
    if flags & stats.EJECTED:
        return "ejected"
    return "draining" if flags & stats.DRAINING else "up"


def build(
    segment: Segment,
    backends: Iterable[BackendRow],
    *,
    version: str,
    pool_slots: Mapping[str, int] | None = None,
    in_panic: Collection[str] = (),
    stand_ins: Mapping[str, str] | None = None,
    certificates: Iterable[Used] = (),
) -> Status:
    """The document for these backends, in their order; pools in the order in which they first occur.

    pool_slots: where each pool's latency is counted; a pool that is not in it has none in the document. Every pool in
    it is in the document, also one without backends. in_panic, stand_ins: the pools of which the segment does not tell
    that (`PoolStatus.panic`, `PoolStatus.stand_in`).
    certificates: those in use, of which it does not either.
    """
    rows = [backend_status(segment, row) for row in backends]
    slots = pool_slots or {}
    by_pool: dict[str, list[BackendStatus]] = {}
    for row in rows:
        by_pool.setdefault(row.pool, []).append(row)
    for name in slots:
        by_pool.setdefault(name, [])
    return Status(
        backends=rows,
        pools=[
            pool_status(
                segment, name, members, slots.get(name), panic=name in in_panic, stand_in=(stand_ins or {}).get(name)
            )
            for name, members in by_pool.items()
        ],
        totals=total_status(segment),
        workers=sum(segment.heartbeat_s(worker) > 0 for worker in range(segment.used)),
        generation=segment.generation,
        version=version,
        certificates=certificate_list(certificates, time.time()),
    )


def render(
    segment: Segment,
    backends: Iterable[BackendRow],
    *,
    version: str,
    pool_slots: Mapping[str, int] | None = None,
    in_panic: Collection[str] = (),
    stand_ins: Mapping[str, str] | None = None,
    certificates: Iterable[Used] = (),
) -> bytes:
    """The document as JSON; see `build`."""
    document = build(
        segment,
        backends,
        version=version,
        pool_slots=pool_slots,
        in_panic=in_panic,
        stand_ins=stand_ins,
        certificates=certificates,
    )
    return msgspec.json.encode(document)


def backend_status(segment: Segment, row: BackendRow) -> BackendStatus:
    """One backend, as the segment shows it now."""
    pool, name, url, slot = row
    flags, weight, reason, since_ms = segment.backend_state(slot)
    from_ms, for_ms = segment.backend_ramp(slot)
    asked = segment.backend_penalty(slot)
    now = time.monotonic()
    part = slow_start.factor(now, from_ms / 1e3, for_ms / 1e3)
    to_wall_ms = time.time() * 1000 - now * 1000
    counted = segment.backend_totals(slot)
    return BackendStatus(
        url=url,
        name=name,
        pool=pool,
        healthy=routable(flags),
        state=state_of(flags),
        reason=reason,
        since=moment(since_ms) if since_ms else None,
        weight=weight,
        part=part,
        whole_at=moment(int(from_ms + for_ms + to_wall_ms)) if part < 1 else None,
        penalty=PenaltyStatus(
            status=asked,
            reason=f"it answered {asked} with Retry-After",
            until=moment(int(from_ms + to_wall_ms)),
        )
        if asked and part < 1
        else None,
        active_connections=counted.active,
        total_requests=counted.attempts,
        succeeded=counted.succeeded,
        failed=counted.failed,
        retried=counted.retried,
        open_connections=counted.connections,
        idle_connections=counted.idle,
        opened_connections=counted.connects,
        reused_connections=counted.reused,
        bytes_received=counted.bytes_received,
        bytes_sent=counted.bytes_sent,
        statuses=dict(zip(_STATUS_CLASSES, counted.status, strict=True)),
    )


def pool_status(
    segment: Segment,
    name: str,
    members: Sequence[BackendStatus],
    slot: int | None,
    *,
    panic: bool = False,
    stand_in: str | None = None,
) -> PoolStatus:
    """One pool; `slot` is where its latency is counted."""
    return PoolStatus(
        name=name,
        backends=len(members),
        healthy=sum(member.healthy for member in members),
        panic=panic,
        stand_in=stand_in,
        active_connections=sum(member.active_connections for member in members),
        total_requests=sum(member.total_requests for member in members),
        total_time=None if slot is None else _latency(segment.latency(slot)),
        first_byte_time=None if slot is None else _latency(segment.latency(slot, first_byte=True)),
        queue=None if slot is None else _queue(segment, slot),
    )


def _queue(segment: Segment, slot: int) -> QueueStatus:
    total = segment.pool_totals(slot)
    return QueueStatus(
        waiting=total["waiting"],
        queued=total["queued"],
        queued_seconds=total["queued_ns"] / 1e9,
        timed_out=total["queue_timeouts"],
        refused=total["overloaded"],
        left=total["left"],
        adaptive_limit=total["limit"] or None,
    )


def _latency(latency: Latency) -> LatencyStatus:
    def quantile(q: float) -> float | None:
        ns = latency.quantile(q)
        return None if ns is None else ns / 1e9

    return LatencyStatus(
        count=latency.count,
        mean_seconds=latency.sum_ns / latency.count / 1e9 if latency.count else None,
        p50_seconds=quantile(0.50),
        p90_seconds=quantile(0.90),
        p99_seconds=quantile(0.99),
    )


def total_status(segment: Segment) -> TotalStatus:
    """All workers together."""
    total = segment.totals()
    return TotalStatus(
        accepted=total["accepted"],
        connections=total["connections"],
        refused_connections=total["refused_connections"],
        requests=total["requests"],
        in_flight=total["in_flight"],
        answered=total["answered"],
        retries=total["retries"],
        retries_refused=total["retries_refused"],
        hedges=total["hedges"],
        hedges_won=total["hedges_won"],
        fallbacks=total["fallbacks"],
        tunnels=total["tunnels"],
        bytes_received=total["bytes_received"],
        bytes_sent=total["bytes_sent"],
        strategy_errors=total["strategy_errors"],
        log_dropped=total["log_dropped"],
        statuses=dict(zip(_STATUS_CLASSES, total["status"], strict=True)),
        outcomes={MEANING[kind].word: total["kind"][kind] for kind in Kind if total["kind"][kind]},
    )


def moment(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
