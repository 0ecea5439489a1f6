"""The one table of what the admin API answers: requests are matched by it, and the OpenAPI document is made of it."""

from __future__ import annotations

from typing import Any

from headgate.admin import changes, explaining, page, reads
from headgate.admin import documents as doc
from headgate.admin.endpoint import Call, Endpoint, Table
from headgate.admin.openapi import document
from headgate.admin.wire import CONFIG_LIMIT
from headgate.observe import exposition

_NO_POOL = {404: "There is no such pool."}
_NO_BACKEND = {404: "There is no such pool or backend."}
_BACKEND = "/pools/{pool}/backends/{backend}"
_GONE = {409: "It was removed by somebody else meanwhile."}


async def _openapi(call: Call) -> Any:
    return document(TABLE.endpoints)


def _get(path: str, summary: str, handler: Any, answer: Any, **more: Any) -> Endpoint:
    return Endpoint(method="GET", path=path, summary=summary, handler=handler, answer=answer, **more)


def _post(path: str, summary: str, handler: Any, answer: Any, **more: Any) -> Endpoint:
    return Endpoint(method="POST", path=path, summary=summary, handler=handler, answer=answer, **more)


TABLE = Table(
    [
        _get(
            "/",
            "The dashboard: a page that asks for the token and then for /stream. It holds no data itself.",
            page.index,
            "text/html; charset=utf-8",
            open_to_all=True,
        ),
        _get(
            "/dashboard/access",
            "Does one need the token here?",
            page.access,
            dict[str, bool],
            open_to_all=True,
            listed=False,
        ),
        _get("/dashboard/{file}", "A part of that page.", page.asset, "*/*", open_to_all=True, listed=False),
        _get(
            "/stream",
            "Everything, and then what changes: server-sent events, until the reader goes.",
            page.stream,
            "text/event-stream",
            query=doc.StreamQuery,
        ),
        _get("/livez", "Does the process serve?", reads.livez, "text/plain; charset=utf-8", open_to_all=True),
        _get(
            "/readyz",
            "Does it take traffic? 503 before it does, and once it is told to stop.",
            reads.readyz,
            "text/plain; charset=utf-8",
            open_to_all=True,
            refuses={503: "It takes no traffic."},
        ),
        _get("/openapi.json", "This document.", _openapi, dict[str, Any]),
        _get("/status", "Everything at a glance.", reads.overview, doc.Status),
        _get("/pools", "All pools.", reads.pools, list[doc.Pool]),
        _get("/pools/{pool}", "One pool.", reads.pool, doc.Pool, refuses=_NO_POOL),
        _get("/backends", "All backends, with the reasons for their state.", reads.backends, list[doc.Backend]),
        _get("/pools/{pool}/backends", "A pool's backends.", reads.pool_backends, list[doc.Backend], refuses=_NO_POOL),
        _get(_BACKEND, "One backend, by its name or URL.", reads.backend, doc.Backend, refuses=_NO_BACKEND),
        _get("/config", "The configuration, secrets masked.", reads.config, doc.ConfigDocument),
        _get("/metrics", "The counters, for Prometheus.", reads.metrics, exposition.TEXT),
        _get("/metrics.json", "The counters.", reads.metrics_json, doc.Metrics),
        _get("/events", "What happened lately.", reads.events, doc.Events, query=doc.EventsQuery),
        _get("/connections", "Who is connected, in numbers.", reads.connections, doc.Connections),
        _get(
            "/decisions",
            "Where requests went of late: those that did not go well, and samples.",
            explaining.decisions,
            doc.Decisions,
            query=doc.DecisionsQuery,
        ),
        _get("/log-level", "How much the balancer says of itself.", reads.log_level, doc.LogLevel),
        _post(
            "/explain",
            "Where a request would go now, and why. Nothing is sent, and nothing changes.",
            explaining.explain,
            doc.Explanation,
            body=doc.ExplainRequest,
            refuses={503: "No worker answers."},
        ),
        Endpoint(
            method="PUT",
            path="/log-level",
            summary="Another log level, until the balancer ends.",
            handler=changes.set_log_level,
            answer=doc.LogLevel,
            body=doc.NewLogLevel,
        ),
        _post(
            "/pools/{pool}/backends",
            "Add a backend. It is used once its first check has passed.",
            changes.add_backend,
            doc.BackendDone,
            status=201,
            body=doc.NewBackend,
            refuses={**_NO_POOL, 409: "The pool has a backend of this name or address, or it was removed meanwhile."},
        ),
        Endpoint(
            method="DELETE",
            path=_BACKEND,
            summary="Remove a backend. Requests in flight finish.",
            handler=changes.remove_backend,
            answer=doc.Done,
            refuses=_NO_BACKEND,
        ),
        _post(
            f"{_BACKEND}/drain",
            "No new sessions; those bound to it go on.",
            changes.drain_backend,
            doc.BackendDone,
            body=doc.Drain,
            body_optional=True,
            refuses={**_NO_BACKEND, **_GONE},
        ),
        _post(
            f"{_BACKEND}/disable",
            "No new requests at all; those in flight finish.",
            changes.disable_backend,
            doc.BackendDone,
            refuses={**_NO_BACKEND, **_GONE},
        ),
        _post(
            f"{_BACKEND}/enable",
            "The end of drain and disable.",
            changes.enable_backend,
            doc.BackendDone,
            refuses={**_NO_BACKEND, **_GONE},
        ),
        Endpoint(
            method="PUT",
            path=f"{_BACKEND}/weight",
            summary="Another weight.",
            handler=changes.set_weight,
            answer=doc.BackendDone,
            body=doc.NewWeight,
            refuses={**_NO_BACKEND, **_GONE},
        ),
        Endpoint(
            method="PUT",
            path="/pools/{pool}/strategy",
            summary="Another way to pick backends, tried in every worker first.",
            handler=changes.set_strategy,
            answer=doc.Done,
            body=doc.NewStrategy,
            refuses=_NO_POOL,
        ),
        _post(
            "/reload",
            "Read the configuration file again. One with mistakes changes nothing; they are all in `problems`.",
            changes.reload,
            doc.Plan,
            refuses={422: "The new configuration is refused."},
        ),
        _post(
            "/plan",
            "What a reload, or another configuration, would change, in words.",
            changes.plan,
            doc.Plan,
            body=doc.PlanRequest,
            body_optional=True,
            body_limit=CONFIG_LIMIT,
        ),
        _post(
            "/listeners/{listener}/drain",
            "Accept no more connections there; open ones go on.",
            changes.drain_listener,
            doc.Done,
            refuses={404: "There is no such listener.", 409: "Not now."},
        ),
        _post(
            "/listeners/{listener}/open",
            "Accept connections again.",
            changes.open_listener,
            doc.Done,
            refuses={404: "There is no such listener.", 409: "Not now."},
        ),
    ]
)
