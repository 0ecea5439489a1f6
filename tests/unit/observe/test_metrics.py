"""The page for Prometheus: its table, both formats, and that it says what was counted."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from headgate.engine import stats
from headgate.engine.histogram import Latency
from headgate.engine.stats import Segment
from headgate.errors import Kind
from headgate.observe import exposition, log_page, metrics_page
from headgate.observe.metric import BOUNDS_NS, Reading, histogram, reading
from headgate.observe.metrics import METRICS
from headgate.observe.processes import Process
from headgate.observe.sums import Names, read

from ...e2e.harness.tools import require

DOCS = Path(__file__).parents[3] / "docs"
HOSTILE = 'a "quoted" \\ back\nslash {x="y"} é'
UP = stats.PRESENT | stats.ENABLED | stats.CHECKED | stats.UP


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment.create(2, backends=2000, pools=4, routes=4, listeners=4) as made:
        yield made


NAMES = Names(
    backends=[("web", "a", 0), ("web", HOSTILE, 1)],
    pools={"web": 0, "api": 1},
    routes={"(other)": 0, "shop.example/api": 1},
    listeners={"(other)": 0, ":8080": 1},
    workers=[0, 1],
)


def read_now(segment: Segment, names: Names = NAMES, **more: Any) -> Reading:
    backend_latency = more.pop("backend_latency", False)
    sums = asyncio.run(read(segment, names, backend_latency=backend_latency))
    return reading(sums, version="1.2", processes=[Process("supervisor", 1.5, 4096, 7, 1024, 99.0)], **more)


def page(segment: Segment, *, open_metrics: bool = False, **more: Any) -> str:
    return asyncio.run(exposition.exposition(read_now(segment, **more), open_metrics=open_metrics)).decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in parse_text(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


# ---- the table


def test_the_pages_are_up_to_date() -> None:
    for name, module in (("metrics", metrics_page), ("access-log", log_page)):
        made = f"make it anew: python -m headgate.observe.{module.__name__.rpartition('.')[2]} > docs/{name}.md"
        assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == module.render(), made


def test_names_are_as_prometheus_wants_them() -> None:
    assert len({metric.full_name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z]", metric.name), metric.name
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket", "_info")), metric.name
        assert not re.search(r"_(ms|us|ns|milliseconds|kb|mb|percent)(_|$)", metric.name), metric.name
        assert metric.text.endswith("."), metric.name
        assert "le" not in metric.labels
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds")


@pytest.mark.parametrize("open_metrics", [False, True])
def test_labels_are_those_of_the_table(segment: Segment, open_metrics: bool) -> None:
    text = page(segment, open_metrics=open_metrics, backend_latency=True)
    by_name = {metric.full_name: metric for metric in METRICS}
    seen = set()
    for family in (parse_open_metrics if open_metrics else parse_text)(text):
        for sample in family.samples:
            name = re.sub(r"_(bucket|sum|count)$", "", sample.name)
            metric = by_name[sample.name if sample.name in by_name else name]
            assert set(sample.labels) - {"le"} == set(metric.labels)
            seen.add(metric.full_name)
    # No certificate is in use here.
    assert set(by_name) - seen == {"headgate_certificate_expiry_seconds"}


def test_a_backend_has_no_more_than_25_series(segment: Segment) -> None:
    lines = [line for line in page(segment).splitlines() if 'backend="a"' in line]
    assert 20 <= len(lines) <= 25
    with_latency = [line for line in page(segment, backend_latency=True).splitlines() if 'backend="a"' in line]
    assert len(with_latency) - len(lines) == len(BOUNDS_NS) + 3


# ---- the formats


def test_promtool_is_happy(segment: Segment) -> None:
    promtool = require("promtool")
    text = page(segment, backend_latency=True)
    done = subprocess.run([promtool, "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_names_of_others_cannot_break_out(segment: Segment) -> None:
    segment.add_backend(0, 1, "attempts", 3)
    text = page(segment)
    assert value(text, "headgate_backend_attempts_total", pool="web", backend=HOSTILE) == 3
    families = {family.name: family for family in parse_open_metrics(page(segment, open_metrics=True))}  # type: ignore[no-untyped-call]
    attempts = families["headgate_backend_attempts"]
    assert {sample.labels["backend"] for sample in attempts.samples} == {"a", HOSTILE}


def test_open_metrics(segment: Segment) -> None:
    text = page(segment, open_metrics=True)
    assert text.endswith("# EOF\n")
    assert text.count("# EOF") == 1
    assert "# TYPE headgate_requests counter\n" in text
    assert "# TYPE headgate_build info\n" in text
    assert 'headgate_build_info{version="1.2"} 1\n' in text
    assert "# UNIT headgate_pool_first_byte_seconds seconds\n" in text
    old = page(segment)
    assert "# EOF" not in old
    assert "# UNIT" not in old
    assert "# TYPE headgate_requests_total counter\n" in old
    assert "# TYPE headgate_build_info gauge\n" in old

    def lines(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("#")]

    assert lines(text) == lines(old)


@pytest.mark.parametrize(
    ("accept", "open_metrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        # Prometheus 2.42, and 3 with a later version in front
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        ("application/openmetrics-text; version=2.0.0, text/plain;version=0.0.4;q=0.3", False),
        ("Application/OpenMetrics-Text; Version=1.0.0; q=0.2, text/plain; q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=x, text/plain", False),
    ],
)
def test_what_is_asked_for(accept: str, open_metrics: bool) -> None:
    assert exposition.wants_open_metrics(accept) is open_metrics


def test_others_run_while_a_large_page_is_made(segment: Segment) -> None:
    names = Names(
        backends=[("web", f"http://10.0.{n // 256}.{n % 256}:8080", n) for n in range(1000)], pools={"web": 0}
    )

    async def count_turns() -> tuple[int, int]:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(others())
        made = await exposition.exposition(reading(await read(segment, names), version="1"))
        task.cancel()
        return made.count(b"\n"), turns

    lines, turns = asyncio.run(count_turns())
    assert 24_000 < lines < 25_500
    assert turns >= 24


# ---- what it says


def test_it_says_what_was_counted(segment: Segment) -> None:
    for worker in range(2):
        segment.add_worker(worker, "requests", 7)
        segment.add_worker(worker, "kind", 3, index=Kind.OK)
        segment.add_worker(worker, "status", 2, index=2)
        segment.add_listener(worker, 1, 5)
        segment.add_route(worker, 1, 2, 3_000_000)
        segment.add_pool(worker, 0, "status", 4, index=4)
        segment.add_pool(worker, 0, "retried", 2, index=Kind.RESET)
        segment.add_pool(worker, 0, "not_retried", 3, index=stats.NOT_RETRIED.index("replay_cap"))
        segment.add_pool(worker, 0, "queued_ns", 1_500_000_000)
        segment.add_backend(worker, 0, "status", 5, index=2)
        segment.add_worker(worker, "batches", 100)
        segment.add_worker(worker, "busy_ns", 1_000_000)
    segment.set_backend(0, flags=UP, weight=3)
    segment.set_backend(1, flags=UP | stats.EJECTED, weight=1)
    segment.add_mark(1, "ejections", 2)
    segment.add_pool_mark(0, "ejections", stats.EJECTION_CAUSES.index("failure_rate"), 3)
    segment.add_pool_mark(0, "penalties", stats.PENALTY_STATUSES.index(429), 4)
    segment.set_backend(0, ramp=(12_500, 10_000), penalty=503)
    segment.set_backend(1, ramp=(5_000, 10_000))
    segment.add_mark(1, "checks_failed", 9)
    segment.add_supervisor("reloads_refused")
    text = page(segment, panic={"api"}, stand_ins={"api"}, heartbeats={0: 7.5, 1: 10.0}, now_s=10.0)

    assert value(text, "headgate_requests_begun_total") == 14
    assert value(text, "headgate_requests_total", outcome="ok", source="none") == 6
    assert value(text, "headgate_responses_total", **{"class": "2xx"}) == 4
    assert value(text, "headgate_listener_requests_total", listener=":8080", **{"class": "5xx"}) == 2
    assert value(text, "headgate_route_requests_total", route="shop.example/api", **{"class": "2xx"}) == 2
    assert value(text, "headgate_route_request_duration_seconds_sum", route="shop.example/api") == 0.006
    assert value(text, "headgate_pool_requests_total", pool="web", **{"class": "4xx"}) == 8
    assert value(text, "headgate_pool_retries_total", pool="web", reason="reset") == 4
    assert value(text, "headgate_pool_retries_not_made_total", pool="web", reason="replay_cap") == 6
    assert value(text, "headgate_pool_queue_wait_seconds_total", pool="web") == 3
    assert value(text, "headgate_pool_backends", pool="web") == 2
    assert value(text, "headgate_pool_backends_up", pool="web") == 1
    assert value(text, "headgate_pool_backends", pool="api") == 0
    assert value(text, "headgate_pool_panic", pool="api") == 1
    assert value(text, "headgate_pool_panic", pool="web") == 0
    assert value(text, "headgate_pool_fallback_active", pool="api") == 1
    assert value(text, "headgate_pool_fallback_active", pool="web") == 0
    assert value(text, "headgate_backend_responses_total", pool="web", backend="a", **{"class": "2xx"}) == 10
    assert value(text, "headgate_backend_weight", pool="web", backend="a") == 3
    assert value(text, "headgate_backend_up", pool="web", backend=HOSTILE) == 0
    assert value(text, "headgate_backend_breaker_state", pool="web", backend=HOSTILE) == 2
    assert value(text, "headgate_backend_ejections_total", pool="web", backend=HOSTILE) == 2
    assert value(text, "headgate_pool_ejections_total", pool="web", cause="failure_rate") == 3
    assert value(text, "headgate_pool_ejections_total", pool="web", cause="probe_failed") == 0
    assert value(text, "headgate_pool_penalties_total", pool="web", status="429") == 4
    assert value(text, "headgate_pool_backends_penalized", pool="web") == 1
    assert value(text, "headgate_pool_backends_draining", pool="web") == 0
    assert value(text, "headgate_backend_weight_part", pool="web", backend="a") == 0.1
    assert value(text, "headgate_backend_weight_part", pool="web", backend=HOSTILE) == 0.5
    assert value(text, "headgate_backend_health_checks_total", pool="web", backend=HOSTILE, result="failed") == 9
    assert value(text, "headgate_config_reloads_total", result="refused") == 1
    assert value(text, "headgate_worker_heartbeat_age_seconds", worker="0") == 2.5
    assert value(text, "headgate_worker_event_loop_lag_seconds_bucket", worker="1", le="0.001024") == 100
    assert value(text, "headgate_worker_event_loop_lag_seconds_count", worker="1") == 100
    assert value(text, "headgate_process_open_fds", process="supervisor") == 7


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 200_000_000_000), max_size=60))
def test_histograms_are_exact_at_their_bounds(durations: list[int]) -> None:
    with Segment.create(1, backends=1, pools=1, routes=2) as segment:
        for ns in durations:
            segment.add_latency(0, 0, ns)
            segment.add_route(0, 1, 2, ns)
        for latency in (segment.latency(0), segment.route_totals(1)["latency"]):
            shown = histogram(latency)
            assert list(shown.below) == [sum(ns < bound for ns in durations) for bound in BOUNDS_NS]
            assert shown.count == len(durations)
            assert shown.sum_s == sum(durations) / 1e9


def test_rates_are_differences_of_readings() -> None:
    with Segment.create(1, backends=1, pools=1) as segment:
        for ns in (1_000_000, 2_000_000, 2_000_000):
            segment.add_latency(0, 0, ns)
        before = segment.latency(0)
        assert before.since(before).quantile(0.5) is None
        for _ in range(10):
            segment.add_latency(0, 0, 80_000_000)
        new = segment.latency(0).since(before)
        assert (new.count, new.sum_ns) == (10, 800_000_000)
        assert new.quantile(0.01) == pytest.approx(80e6, rel=0.032)
        # The slot was cleared in between: what there is now is all new.
        segment.clear_pool(0)
        segment.add_latency(0, 0, 1_000_000)
        assert segment.latency(0).since(before).count == 1


def test_coarse_quantiles_keep_their_promise() -> None:
    with Segment.create(1, backends=1, pools=1) as segment:
        for ns in (1_100, 900_000, 3_333_333, 50_000_000, 7_000_000_000):
            segment.clear_backend(0)
            segment.add_first_byte(0, 0, ns)
            latency = segment.backend_first_byte_latency(0)
            assert latency.quantile(0.5) == pytest.approx(ns, rel=0.125)
    assert Latency(0, 0, []).up_to([1, 2]) == [0, 0]


def test_a_reading_counts_every_word_once(segment: Segment) -> None:
    """No metric shows another's word: a table of fifty lambdas invites that."""
    for name in ("replayed", "hedges", "hedges_won", "hedges_refused", "fallbacks", "queued", "queue_timeouts"):
        segment.add_pool(0, 0, name, 100 + len(name) * 7 + sum(map(ord, name)))
    for name in ("overloaded", "left"):
        segment.add_pool(0, 0, name, 5000 + sum(map(ord, name)))
    for number, name in enumerate(("attempts", "succeeded", "failed", "bytes_received", "bytes_sent", "connects")):
        segment.add_backend(0, 0, name, 10_001 + number)
    for number, name in enumerate(("reused", "retried", "idle", "connections", "active")):
        segment.add_backend(0, 0, name, 20_001 + number)
    text = page(segment)
    counts = Counter(number for (name, _), number in samples(text).items() if number > 100 and "process" not in name)
    assert counts
    assert set(counts.values()) == {1}
    assert len(counts) == 7 + 2 + 6 + 5
