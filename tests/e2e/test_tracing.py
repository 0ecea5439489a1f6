"""Distributed traces: what backends get as traceparent, and the spans that a collector gets."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import echo
from .harness.ports import HeldPort
from .harness.waiting import eventually

ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
VALUE = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def seen(response: Any) -> tuple[list[str], list[str]]:
    """The fields traceparent and tracestate as the backend had them."""
    fields = [(name.lower(), value) for name, value in response.json()["fields"]]
    return (
        [value for name, value in fields if name == "traceparent"],
        [value for name, value in fields if name == "tracestate"],
    )


@pytest.mark.parametrize("mode", ["off", "forward", "create"])
def test_what_a_backend_gets(balance: Balance, make_backend: MakeBackend, mode: str) -> None:
    tracing = {} if mode == "off" else {"tracing": {"traceparent": mode, "sample": 1.0}}
    log = {"access_log": {"format": "json", "fields": ["request_id", "trace_id"]}}
    headgate = balance(make_backend(echo), top={**tracing, **log})
    with headgate.client() as client:
        came = f"00-{ID}-{PARENT}-01"
        parents, states = seen(client.get("/", [("traceparent", came), ("Tracestate", "a=1"), ("tracestate", "b=2")]))
        assert states == ["a=1", "b=2"]
        if mode == "off":
            assert parents == [came]
        else:
            (parent,) = parents
            match = VALUE.fullmatch(parent)
            assert match is not None
            assert (match[1], match[3]) == (ID, "01")
            assert match[2] != PARENT
        for bad in (
            [("traceparent", f"00-{ID}-{PARENT}-1"), ("tracestate", "a=1")],
            [("traceparent", came), ("traceparent", came), ("tracestate", "a=1")],
            [("tracestate", "a=1")],
            [],
        ):
            parents, states = seen(client.get("/", bad))
            if mode == "off":
                assert len(parents) == sum(name == "traceparent" for name, _ in bad)
                continue
            assert states == []
            if mode == "forward":
                assert parents == []
            else:
                (parent,) = parents
                match = VALUE.fullmatch(parent)
                assert match is not None
                assert match[1] != ID
                assert match[3] == "03"  # sampled, and random
    shown = f'"trace_id":"{ID}"' if mode != "off" else '"trace_id":null'
    eventually(lambda: shown in headgate.process.stdout.text, "the trace's id in the log")


class Collector:
    """An OTLP receiver: keeps the spans of what it is sent."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.spans: list[Any] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.headers["Content-Type"] == "application/x-protobuf"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.services |= {
                        one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
                    }
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of(self, trace: str) -> list[Any]:
        return [span for span in list(self.spans) if span.trace_id.hex() == trace]


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otlp")
    made = Collector()
    yield made
    made.close()


def test_spans(balance: Balance, make_backend: MakeBackend, collector: Collector) -> None:
    """One for the exchange, one for each attempt; the backend's parent is its own attempt's."""
    good = make_backend(echo, name="good")
    with HeldPort() as dead:
        headgate = balance(
            {"url": dead.url, "name": "dead"},
            {"url": good.url, "name": "good"},
            breaker=False,
            top={"tracing": {"otlp": collector.url, "service": "edge"}},
        )
        with headgate.client() as client:
            fields = [("traceparent", f"00-{ID}-{PARENT}-01")]
            (parent,), _ = seen(client.get("/shop?token=s3cret", fields))
            seen(client.get("/", [("traceparent", f"00-{'1' * 32}-{PARENT}-00")]))  # not sampled: not sent
        eventually(lambda: collector.of(ID), "the spans")
    exchange, *attempts = sorted(collector.of(ID), key=lambda span: (span.kind != 2, span.start_time_unix_nano))
    assert collector.services == {"edge"}
    assert (exchange.parent_span_id.hex(), exchange.kind) == (PARENT, 2)
    assert [one.name for one in attempts] == ["attempt dead", "attempt good"]
    assert {one.parent_span_id for one in attempts} == {exchange.span_id}
    match = VALUE.fullmatch(parent)
    assert match is not None
    assert attempts[1].span_id.hex() == match[2]
    attributes = {one.key: one.value for one in exchange.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["url.path"].string_value == "/shop"
    failed = {one.key: one.value.string_value for one in attempts[0].attributes}
    assert failed["error.type"] == "connect_refused"
    assert exchange.start_time_unix_nano <= attempts[0].start_time_unix_nano
    assert attempts[1].end_time_unix_nano <= exchange.end_time_unix_nano + 1_000_000
    assert not collector.of("1" * 32)
    assert "s3cret" not in str(collector.spans)
