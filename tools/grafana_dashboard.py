"""Prints deploy/grafana-dashboard.json: `python tools/grafana_dashboard.py > deploy/grafana-dashboard.json`.

A test holds the file to this, and every query to the metrics there are. Import it in Grafana (10 and later) and choose
the Prometheus data source that scrapes the balancers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

Panel = dict[str, Any]
Query = tuple[str, str]
"""An expression and the legend of its series."""

SOURCE = {"type": "prometheus", "uid": "${source}"}
HERE = 'instance=~"$instance"'
POOL = f'{HERE},pool=~"$pool"'
COLUMNS = 24
HEIGHT = 8


def rate(metric: str, selector: str = HERE) -> str:
    """Of a counter, over what Grafana finds sensible for the scrape interval."""
    return f"rate({metric}{{{selector}}}[$__rate_interval])"


def quantile(q: float, histogram: str, selector: str, by: str) -> str:
    """Of a histogram, over all instances."""
    return f"histogram_quantile({q}, sum by ({by}, le) ({rate(f'{histogram}_bucket', selector)}))"


def graph(title: str, unit: str, queries: Sequence[Query], *, text: str = "", stacked: bool = False) -> Panel:
    """Lines over time."""
    custom = {"fillOpacity": 30 if stacked else 5, "stacking": {"mode": "normal" if stacked else "none"}}
    return {
        "type": "timeseries",
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": _targets(queries),
    }


def number(title: str, unit: str, query: str, *, red_above: float | None = None, text: str = "") -> Panel:
    """One number, red above a threshold."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if red_above is not None:
        steps.append({"color": "red", "value": red_above})
    return {
        "type": "stat",
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
        "targets": _targets([(query, "")]),
    }


def row(title: str) -> Panel:
    """A heading."""
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def _targets(queries: Sequence[Query]) -> list[dict[str, Any]]:
    return [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for index, (expression, legend) in enumerate(queries)
    ]


_NOT_OK = f'{HERE},outcome!="ok"'
_5XX = f'{HERE},class="5xx"'
_PANELS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            number("Requests", "reqps", f"sum({rate('headgate_responses_total')})"),
            number(
                "Errors",
                "percentunit",
                f"sum({rate('headgate_responses_total', _5XX)}) / sum({rate('headgate_responses_total')})",
                red_above=0.01,
                text="Share of answers of 500 and above.",
            ),
            number(
                "p99",
                "s",
                f"histogram_quantile(0.99, sum by (le) ({rate('headgate_pool_request_duration_seconds_bucket')}))",
            ),
            number("Clients", "short", f"sum(headgate_client_connections{{{HERE}}})"),
            number("In flight", "short", f"sum(headgate_requests_in_flight{{{HERE}}})"),
            number(
                "Backends down",
                "short",
                f"sum(headgate_pool_backends{{{HERE}}}) - sum(headgate_pool_backends_up{{{HERE}}})",
                red_above=1,
            ),
        ),
    ),
    (
        "Requests",
        (
            graph(
                "Answers by class",
                "reqps",
                [(f"sum by (class) ({rate('headgate_responses_total')})", "{{class}}")],
                stacked=True,
            ),
            graph(
                "What went wrong",
                "reqps",
                [(f"sum by (outcome) ({rate('headgate_requests_total', _NOT_OK)}) > 0", "{{outcome}}")],
                text="Requests by how they ended; docs/errors.md explains the words.",
            ),
            graph(
                "By listener",
                "reqps",
                [(f"sum by (listener) ({rate('headgate_listener_requests_total')})", "{{listener}}")],
            ),
            graph("By route", "reqps", [(f"sum by (route) ({rate('headgate_route_requests_total')})", "{{route}}")]),
            graph(
                "Duration by route, p99",
                "s",
                [(quantile(0.99, "headgate_route_request_duration_seconds", HERE, "route"), "{{route}}")],
            ),
            graph(
                "Bytes",
                "Bps",
                [
                    (f"sum({rate('headgate_client_received_bytes_total')})", "from clients"),
                    (f"sum({rate('headgate_client_sent_bytes_total')})", "to clients"),
                    (f"sum({rate('headgate_backend_received_bytes_total')})", "from backends"),
                    (f"sum({rate('headgate_backend_sent_bytes_total')})", "to backends"),
                ],
            ),
        ),
    ),
    (
        "Pools",
        (
            graph("Requests", "reqps", [(f"sum by (pool) ({rate('headgate_pool_requests_total', POOL)})", "{{pool}}")]),
            graph(
                "Duration",
                "s",
                [
                    (quantile(q, "headgate_pool_request_duration_seconds", POOL, "pool"), f"{{{{pool}}}} {name}")
                    for q, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
                ],
            ),
            graph(
                "First byte",
                "s",
                [
                    (quantile(q, "headgate_pool_first_byte_seconds", POOL, "pool"), f"{{{{pool}}}} {name}")
                    for q, name in ((0.5, "p50"), (0.99, "p99"))
                ],
            ),
            graph(
                "Backends up",
                "short",
                [
                    (f"headgate_pool_backends_up{{{POOL}}}", "{{pool}} up"),
                    (f"headgate_pool_backends{{{POOL}}}", "{{pool}} in all"),
                ],
            ),
            graph(
                "Retries and hedges",
                "reqps",
                [
                    (f"sum by (pool, reason) ({rate('headgate_pool_retries_total', POOL)}) > 0", "{{pool}} {{reason}}"),
                    (f"sum by (pool) ({rate('headgate_pool_hedges_total', POOL)}) > 0", "{{pool}} hedge"),
                    (f"sum by (pool) ({rate('headgate_pool_replays_total', POOL)}) > 0", "{{pool}} replay"),
                ],
            ),
            graph(
                "Retries not made",
                "reqps",
                [
                    (
                        f"sum by (pool, reason) ({rate('headgate_pool_retries_not_made_total', POOL)}) > 0",
                        "{{pool}} {{reason}}",
                    )
                ],
            ),
            graph(
                "Queue",
                "short",
                [
                    (f"headgate_pool_queue_length{{{POOL}}}", "{{pool}} waiting"),
                    (f"{rate('headgate_pool_queue_rejected_total', POOL)}", "{{pool}} rejected/s"),
                    (f"{rate('headgate_pool_queue_timeouts_total', POOL)}", "{{pool}} timed out/s"),
                ],
            ),
            graph(
                "Wait in the queue, mean",
                "s",
                [
                    (
                        f"{rate('headgate_pool_queue_wait_seconds_total', POOL)}"
                        f" / {rate('headgate_pool_queued_total', POOL)}",
                        "{{pool}}",
                    )
                ],
            ),
        ),
    ),
    (
        "Backends",
        (
            graph("Attempts", "reqps", [(rate("headgate_backend_attempts_total", POOL), "{{pool}} {{backend}}")]),
            graph(
                "Failures",
                "reqps",
                [(f"{rate('headgate_backend_attempts_failed_total', POOL)} > 0", "{{pool}} {{backend}}")],
            ),
            graph(
                "In flight",
                "short",
                [(f"headgate_backend_requests_in_flight{{{POOL}}}", "{{pool}} {{backend}}")],
            ),
            graph(
                "Not up, or breaker not closed",
                "short",
                [
                    (f"headgate_backend_up{{{POOL}}} == 0", "{{pool}} {{backend}} down"),
                    (f"headgate_backend_breaker_state{{{POOL}}} > 0", "{{pool}} {{backend}} breaker"),
                    (f"headgate_backend_weight_part{{{POOL}}} < 1", "{{pool}} {{backend}} part of its weight"),
                ],
            ),
            graph(
                "Ejections and checks that failed",
                "short",
                [
                    (
                        f"increase(headgate_backend_ejections_total{{{POOL}}}[$__rate_interval]) > 0",
                        "{{pool}} {{backend}} ejected",
                    ),
                    (
                        f"increase(headgate_pool_ejections_total{{{POOL}}}[$__rate_interval]) > 0",
                        "{{pool}}: {{cause}}",
                    ),
                    (
                        "increase(headgate_backend_health_checks_total{"
                        + POOL
                        + ',result="failed"}[$__rate_interval]) > 0',
                        "{{pool}} {{backend}} check failed",
                    ),
                ],
            ),
            graph(
                "Connections opened",
                "cps",
                [(rate("headgate_backend_connections_opened_total", POOL), "{{pool}} {{backend}}")],
                text="Near the rate of attempts: connections are not kept.",
            ),
        ),
    ),
    (
        "The balancer",
        (
            graph(
                "Processor time",
                "percentunit",
                [(rate("headgate_process_cpu_seconds_total"), "{{instance}} {{process}}")],
            ),
            graph(
                "Event loop lag",
                "s",
                [
                    (
                        f"histogram_quantile({q}, {rate('headgate_worker_event_loop_lag_seconds_bucket')})",
                        f"{{{{instance}}}} worker {{{{worker}}}} {name}",
                    )
                    for q, name in ((0.99, "p99"), (0.999, "p99.9"))
                ],
                text="How long a worker is busy at a time: what the next event waits for.",
            ),
            graph(
                "Memory",
                "bytes",
                [(f"headgate_process_resident_memory_bytes{{{HERE}}}", "{{instance}} {{process}}")],
            ),
            graph(
                "Descriptors",
                "percentunit",
                [
                    (
                        f"headgate_process_open_fds{{{HERE}}} / headgate_process_max_fds{{{HERE}}}",
                        "{{instance}} {{process}}",
                    )
                ],
            ),
            graph(
                "Client connections",
                "short",
                [
                    (f"sum by (instance) (headgate_client_connections{{{HERE}}})", "{{instance}} open"),
                    (
                        f"sum by (instance) ({rate('headgate_client_connections_accepted_total')})",
                        "{{instance}} accepted/s",
                    ),
                    (
                        f"sum by (instance) ({rate('headgate_client_connections_refused_total')})",
                        "{{instance}} refused/s",
                    ),
                ],
            ),
            graph(
                "Reloads, deaths, lost lines",
                "short",
                [
                    (f"increase(headgate_config_reloads_total{{{HERE}}}[$__rate_interval])", "reload {{result}}"),
                    (f"increase(headgate_worker_deaths_total{{{HERE}}}[$__rate_interval])", "worker died"),
                    (f"increase(headgate_access_log_lines_dropped_total{{{HERE}}}[$__rate_interval])", "lines dropped"),
                    (f"increase(headgate_strategy_errors_total{{{HERE}}}[$__rate_interval])", "strategy failed"),
                ],
            ),
        ),
    ),
)


def _variable(name: str, label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {name})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def dashboard() -> dict[str, Any]:
    """The whole document."""
    panels: list[Panel] = []
    y = 0
    for title, members in _PANELS:
        panels.append({**row(title), "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
        y += 1
        small = members[0]["type"] == "stat"
        width, height = (COLUMNS // len(members), HEIGHT // 2) if small else (COLUMNS // 2, HEIGHT)
        for index, panel in enumerate(members):
            column, line = index % (COLUMNS // width), index // (COLUMNS // width)
            place = {"x": column * width, "y": y + line * height, "w": width, "h": height}
            panels.append({**panel, "gridPos": place})
        y += -(-len(members) // (COLUMNS // width)) * height
    return {
        "uid": "headgate",
        "title": "Headgate",
        "tags": ["headgate"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {"type": "datasource", "name": "source", "label": "Data source", "query": "prometheus", "refresh": 1},
                _variable("instance", "Balancer", "headgate_build_info"),
                _variable("pool", "Pool", "headgate_pool_backends"),
            ]
        },
        "panels": [{**panel, "id": number} for number, panel in enumerate(panels, 1)],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
