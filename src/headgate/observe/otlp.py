"""Spans of sampled traces, sent by OTLP over HTTP (the extra `otlp`).

The engine knows nothing of this: it writes decisions into its rings, and the supervisor follows them here, once a
second, and sends what is new from a thread. A collector that is slow or away holds up nobody; what the rings overwrite
meanwhile is lost. One span for the exchange, below the client's, and one for each attempt below that: its id is what
the backend got as parent-id.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from headgate import __version__
from headgate.config.schema import Tracing
from headgate.engine.decisions import Decisions
from headgate.errors import Kind

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger("headgate.tracing")

# So old a span may be when it leaves. A ring of 1,024 is not overwritten in that time by less than as many a second.
EVERY_S = 1.0
# For one request to the collector, repetitions included; the next round waits for it.
_TIMEOUT_S = 10.0

Send = Callable[[Sequence["ReadableSpan"]], bool]
"""Delivers spans, and blocks meanwhile; false where it could not."""


def check(tracing: Tracing | None) -> None:
    """Raises ValueError when spans are to be sent and nothing here can send them."""
    if tracing is not None and tracing.otlp and find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise ValueError('tracing.otlp: needs the extra "otlp": pip install "headgate[otlp]"')


class Exporter:
    """Follows the decisions of all workers from now on, while a configuration says where to send spans."""

    def __init__(self, decisions: Decisions, loop: AbstractEventLoop) -> None:
        self._decisions = decisions
        self._loop = loop
        self._tracing: Tracing | None = None
        self._send: Send | None = None
        self._task: asyncio.Task[None] | None = None
        self._places: dict[tuple[int, int], int] = {}
        self._failing = False

    def configure(self, tracing: Tracing | None) -> None:
        """Send there from now on, or nowhere."""
        if tracing == self._tracing:
            return
        self._tracing = tracing
        self._send = None
        if tracing is not None and tracing.otlp:
            self._send = _sender(tracing)
            if self._task is None:
                self._decisions.follow(self._places)  # what was before is nobody's business
                self._task = self._loop.create_task(self._run())

    async def close(self) -> None:
        """Stop; what is new is sent, if that is possible at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._round()
            except TimeoutError:
                log.warning("the last spans could not be sent in time")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._round()

    async def _round(self) -> None:
        rows = self._decisions.follow(self._places)
        send, tracing = self._send, self._tracing
        if not rows or send is None or tracing is None:
            return
        try:
            sent = await asyncio.to_thread(lambda: send(spans(rows, tracing.service)))
        except Exception as error:
            sent = False
            log.debug("spans could not be sent: %r", error)
        if sent == self._failing:  # said once, not every second
            self._failing = not sent
            log.log(
                logging.INFO if sent else logging.WARNING,
                "spans are sent again" if sent else "spans cannot be sent to %s; those of now are lost",
                *(() if sent else (tracing.otlp,)),
            )


def _sender(tracing: Tracing) -> Send:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    exporter = OTLPSpanExporter(endpoint=tracing.otlp, timeout=_TIMEOUT_S)

    def send(found: Sequence[ReadableSpan]) -> bool:
        return exporter.export(found) is SpanExportResult.SUCCESS

    return send


def spans(rows: Sequence[Mapping[str, Any]], service: str) -> list[ReadableSpan]:
    """The spans of some decisions (`Decisions.follow`). Attributes: by OpenTelemetry's conventions for HTTP where they
    have a name, else ours below "headgate."."""
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create({"service.name": service, "service.version": __version__})
    return [span for row in rows for span in _of(row, resource)]


def _of(row: Mapping[str, Any], resource: Any) -> list[ReadableSpan]:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    def context(span: int, *, remote: bool = False) -> SpanContext:
        return SpanContext(int(row["trace_id"], 16), span, remote, TraceFlags(TraceFlags.SAMPLED))

    def status(kind: int, code: int) -> Status:
        if kind == Kind.OK and code < 500:
            return Status(StatusCode.UNSET)
        return Status(StatusCode.ERROR, "" if kind == Kind.OK else Kind(kind).word)

    def error(kind: int, code: int) -> dict[str, str]:
        if kind != Kind.OK:
            return {"error.type": Kind(kind).word}
        return {"error.type": str(code)} if code >= 500 else {}

    began = row["time_ns"]
    own = context(row["span"])
    parent = context(int(row["parent_id"], 16), remote=True) if row["parent_id"] else None
    path, _, query = row["path"].partition("?")
    found = [
        ReadableSpan(
            name=row["method"],
            context=own,
            parent=parent,
            resource=resource,
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": row["method"],
                "http.response.status_code": row["status"],
                "headgate.route": row["route"],
                "url.path": path,
                **({"url.query": query} if query else {}),
                "server.address": row["host"],
                "client.address": row["client"],
                "headgate.listener": row["listener"],
                "headgate.pool": row["pool"],
                "headgate.request_id": row["id"],
                "headgate.worker": row["worker"],
                **error(row["kind"], row["status"]),
            },
            status=status(row["kind"], row["status"]),
            start_time=began,
            end_time=began + row["total_ns"],
        )
    ]
    attempts = sorted(row["attempts"], key=lambda one: one["started_ms"])
    for number, one in enumerate(attempts, 1):
        if number == len(attempts):
            number = row["attempts_made"]  # some before the last may have been left out
        start = began + int(one["started_ms"] * 1e6)
        found.append(
            ReadableSpan(
                name=f"attempt {one['backend']}",
                context=context(row["span"] + number),
                parent=own,
                resource=resource,
                kind=SpanKind.CLIENT,
                attributes={
                    "http.request.method": row["method"],
                    "headgate.backend": one["backend"],
                    **({"http.response.status_code": one["status"]} if one["status"] else {}),
                    **({"http.request.resend_count": number - 1} if number > 1 else {}),
                    **error(one["kind"], one["status"]),
                },
                status=status(one["kind"], one["status"]),
                start_time=start,
                end_time=start + int(one["ms"] * 1e6),
            )
        )
    return found
