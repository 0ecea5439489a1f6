"""The counters as Prometheus reads them (text exposition format 0.0.4).

Base units (seconds, bytes), `_total` for what only grows, one family in one place, as the format and the naming rules
of Prometheus ask. Label values are escaped: a backend's name is the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headgate import __version__
from headgate.admin.documents import Backend, Metrics, Pool, Worker
from headgate.observe.status import CertificateStatus, LatencyStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BACKEND: tuple[tuple[str, str, str, Callable[[Backend], float]], ...] = (
    ("up", "gauge", "1 while it gets requests.", lambda row: row.healthy),
    ("weight", "gauge", "Its weight.", lambda row: row.weight),
    ("active_requests", "gauge", "Attempts in flight.", lambda row: row.active_connections),
    ("idle_connections", "gauge", "Kept connections that wait for a request.", lambda row: row.idle_connections),
    ("attempts_total", "counter", "Attempts started.", lambda row: row.total_requests),
    ("succeeded_total", "counter", "Attempts that succeeded.", lambda row: row.succeeded),
    ("failed_total", "counter", "Attempts that count against the backend.", lambda row: row.failed),
    ("retried_total", "counter", "Attempts that were a retry.", lambda row: row.retried),
    ("connections_opened_total", "counter", "Connections opened.", lambda row: row.opened_connections),
    ("connections_reused_total", "counter", "Attempts on a kept connection.", lambda row: row.reused_connections),
    ("received_bytes_total", "counter", "Body bytes from the backend.", lambda row: row.bytes_received),
    ("sent_bytes_total", "counter", "Body bytes to the backend.", lambda row: row.bytes_sent),
)
_POOL: tuple[tuple[str, str, str, Callable[[Pool], float]], ...] = (
    ("backends", "gauge", "Backends in the pool.", lambda row: row.backends),
    ("backends_up", "gauge", "Backends that get requests.", lambda row: row.healthy),
)
_WORKER: tuple[tuple[str, str, str, Callable[[Worker], float]], ...] = (
    ("connections", "gauge", "Open client connections.", lambda row: row.connections),
    ("requests_in_flight", "gauge", "Requests in flight.", lambda row: row.in_flight),
    ("accepted_total", "counter", "Client connections accepted.", lambda row: row.accepted),
)


def exposition(document: Metrics) -> bytes:
    """The whole page."""
    out: list[str] = []
    _family(out, "build_info", "gauge", "The version that runs.", [({"version": __version__}, 1)])
    totals = document.totals
    for name, kind, text, value in (
        ("connections", "gauge", "Open client connections.", totals.connections),
        ("requests_in_flight", "gauge", "Requests in flight.", totals.in_flight),
        ("tunnels", "gauge", "Connections that have switched protocols.", totals.tunnels),
        ("accepted", "counter", "Client connections accepted.", totals.accepted),
        ("refused_connections", "counter", "Client connections over a limit.", totals.refused_connections),
        ("requests", "counter", "Requests begun.", totals.requests),
        ("retries", "counter", "Attempts beyond a request's first.", totals.retries),
        ("received_bytes", "counter", "Body bytes from clients.", totals.bytes_received),
        ("sent_bytes", "counter", "Body bytes to clients.", totals.bytes_sent),
        ("strategy_errors", "counter", "Picks that the fallback had to make.", totals.strategy_errors),
        ("log_lines_dropped", "counter", "Access-log lines that could not be written.", totals.log_dropped),
    ):
        _family(out, name + ("_total" if kind == "counter" else ""), kind, text, [({}, value)])
    statuses = [({"class": name}, count) for name, count in totals.statuses.items()]
    _family(out, "responses_total", "counter", "Answers to clients by class of their status.", statuses)
    ends = [({"outcome": name}, count) for name, count in sorted(totals.outcomes.items())]
    _family(out, "request_outcomes_total", "counter", "Requests by how they ended.", ends)
    for name, kind, text, of_worker in _WORKER:
        rows = [({"worker": str(row.worker)}, of_worker(row)) for row in document.workers]
        _family(out, f"worker_{name}", kind, text, rows)
    for name, kind, text, of_pool in _POOL:
        _family(out, f"pool_{name}", kind, text, [({"pool": row.name}, of_pool(row)) for row in document.pools])
    _latencies(out, document.pools)
    for name, kind, text, of_backend in _BACKEND:
        labelled = [({"pool": row.pool, "backend": row.name}, of_backend(row)) for row in document.backends]
        _family(out, f"backend_{name}", kind, text, labelled)
    answers = [
        ({"pool": row.pool, "backend": row.name, "class": name}, count)
        for row in document.backends
        for name, count in row.statuses.items()
    ]
    _family(out, "backend_responses_total", "counter", "Answers of backends by class of their status.", answers)
    _certificates(out, document.certificates)
    return ("\n".join(out) + "\n").encode()


def _certificates(out: list[str], certificates: Iterable[CertificateStatus]) -> None:
    """One series for each file in each place, which stays the same when the certificate is renewed."""
    seconds = [({"where": row.where, "file": row.file}, row.expires_seconds) for row in certificates]
    text = "Seconds until the certificate expires; negative once it has."
    _family(out, "certificate_expiry_seconds", "gauge", text, seconds)


def _latencies(out: list[str], pools: Iterable[Pool]) -> None:
    """Summaries: the segment's own quantiles, each within 3.2 %."""
    families: tuple[tuple[str, str, Callable[[Pool], LatencyStatus | None]], ...] = (
        ("request_seconds", "How long exchanges took in all.", lambda row: row.total_time),
        ("first_byte_seconds", "How long exchanges took to their first byte.", lambda row: row.first_byte_time),
    )
    for name, text, of_pool in families:
        full = f"headgate_pool_{name}"
        out += [f"# HELP {full} {text}", f"# TYPE {full} summary"]
        for pool in pools:
            latency = of_pool(pool)
            if latency is None:
                continue
            labels = {"pool": pool.name}
            for quantile, seconds in (
                ("0.5", latency.p50_seconds),
                ("0.9", latency.p90_seconds),
                ("0.99", latency.p99_seconds),
            ):
                if seconds is not None:
                    out.append(_sample(full, {**labels, "quantile": quantile}, seconds))
            out.append(_sample(f"{full}_sum", labels, (latency.mean_seconds or 0.0) * latency.count))
            out.append(_sample(f"{full}_count", labels, latency.count))


def _family(out: list[str], name: str, kind: str, text: str, rows: Iterable[tuple[dict[str, str], float]]) -> None:
    full = f"headgate_{name}"
    out += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
    out += [_sample(full, labels, value) for labels, value in rows]


def _sample(name: str, labels: dict[str, str], value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    number = int(value) if isinstance(value, bool) else value
    return f"{name}{{{shown}}} {number}" if shown else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
