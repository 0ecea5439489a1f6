"""The status document, from a segment filled by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.stats import CHECKED, DRAINED, DRAINING, EJECTED, ENABLED, HALF_OPEN, PRESENT, UP, Segment
from headgate.errors import Kind
from headgate.observe.status import Status, build, render, routable, state_of

GOOD = PRESENT | ENABLED | CHECKED | UP
A = ("web", "a", "http://127.0.0.1:9001", 3)
B = ("web", "b", "http://127.0.0.1:9002", 4)
C = ("api", "c", "unix:/run/app.sock", 60)


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment.create(2, backends=64, pools=4) as made:
        yield made


@pytest.mark.parametrize(
    ("flags", "state", "healthy"),
    [
        (GOOD, "up", True),
        (GOOD | DRAINING, "draining", True),
        (GOOD & ~UP, "down", False),
        (GOOD & ~CHECKED, "unchecked", False),
        (GOOD & ~CHECKED & ~UP, "unchecked", False),
        (GOOD & ~ENABLED, "disabled", False),
        (GOOD & ~PRESENT, "disabled", False),
        (0, "disabled", False),
        (GOOD | EJECTED, "ejected", False),
        (GOOD | HALF_OPEN, "half_open", False),
        (GOOD | EJECTED | HALF_OPEN, "half_open", False),
        (GOOD & ~UP | EJECTED, "down", False),
        (GOOD & ~ENABLED | DRAINING, "disabled", False),
        (GOOD | DRAINING | EJECTED, "ejected", False),
        (GOOD | DRAINING | DRAINED, "drained", False),
        (GOOD & ~UP | DRAINING | DRAINED, "drained", False),
        (GOOD & ~ENABLED | DRAINED, "disabled", False),
    ],
)
def test_flags_are_one_word_and_one_verdict(flags: int, state: str, healthy: bool) -> None:
    assert (state_of(flags), routable(flags)) == (state, healthy)


@given(st.integers(0, 255))
def test_what_is_routable_is_up_or_draining_and_nothing_else_is(flags: int) -> None:
    assert routable(flags) == (state_of(flags) in ("up", "draining"))


def test_a_backend_with_its_counters(segment: Segment) -> None:
    segment.set_backend(3, flags=GOOD, weight=5, reason="2 checks passed", since_ms=1_795_222_923_456)
    for worker in (0, 1):
        for name, amount in {
            "active": 1,
            "attempts": 10,
            "succeeded": 8,
            "failed": 2,
            "bytes_received": 1000,
            "bytes_sent": 50,
            "connects": 3,
            "reused": 7,
            "retried": 4,
            "idle": 6,
            "connections": 7,
        }.items():
            segment.add_backend(worker, 3, name, amount)
        segment.add_backend(worker, 3, "status", 9, index=2)
        segment.add_backend(worker, 3, "status", 1, index=0)
    document = msgspec.json.decode(render(segment, [A, B], version="1.2.3"))
    assert document["backends"][0] == {
        "url": "http://127.0.0.1:9001",
        "name": "a",
        "pool": "web",
        "healthy": True,
        "state": "up",
        "reason": "2 checks passed",
        "since": "2026-11-21T01:02:03.456Z",
        "weight": 5,
        "part": 1.0,
        "wholeAt": None,
        "penalty": None,
        "activeConnections": 2,
        "totalRequests": 20,
        "succeeded": 16,
        "failed": 4,
        "retried": 8,
        "openConnections": 14,
        "idleConnections": 12,
        "openedConnections": 6,
        "reusedConnections": 14,
        "bytesReceived": 2000,
        "bytesSent": 100,
        "statuses": {"none": 2, "1xx": 0, "2xx": 18, "3xx": 0, "4xx": 0, "5xx": 0},
    }
    untouched = document["backends"][1]
    assert (untouched["state"], untouched["since"], untouched["totalRequests"]) == ("disabled", None, 0)


def test_pools_sum_up_their_backends_in_order_of_appearance(segment: Segment) -> None:
    segment.set_backend(3, flags=GOOD)
    segment.set_backend(4, flags=GOOD | EJECTED)
    segment.set_backend(60, flags=GOOD | DRAINING)
    for slot, amount in ((3, 5), (4, 6), (60, 7)):
        segment.add_backend(0, slot, "attempts", amount)
        segment.add_backend(1, slot, "active", amount)
    status = build(segment, [A, C, B], version="0", pool_slots={"api": 2, "empty": 3})
    assert [row.name for row in status.backends] == ["a", "c", "b"]
    pools = [(pool.name, pool.backends, pool.healthy, pool.total_requests) for pool in status.pools]
    assert pools == [("web", 2, 1, 11), ("api", 1, 1, 7), ("empty", 0, 0, 0)]
    assert [pool.active_connections for pool in status.pools] == [11, 7, 0]
    assert status.pools[0].total_time is None


def test_latency_is_given_where_the_pools_slot_is_known(segment: Segment) -> None:
    for number in range(100):
        segment.add_latency(number % 2, 2, 1_000_000 * (number + 1))
    segment.add_latency(0, 2, 500_000, first_byte=True)
    (pool,) = build(segment, [C], version="0", pool_slots={"api": 2}).pools
    assert pool.total_time is not None
    assert pool.total_time.count == 100
    assert pool.total_time.mean_seconds == pytest.approx(0.0505)
    assert pool.total_time.p50_seconds == pytest.approx(0.050, rel=0.032)
    assert pool.total_time.p90_seconds == pytest.approx(0.090, rel=0.032)
    assert pool.total_time.p99_seconds == pytest.approx(0.099, rel=0.032)
    assert pool.first_byte_time is not None
    assert pool.first_byte_time.p99_seconds == pytest.approx(0.0005, rel=0.032)
    (quiet,) = build(segment, [C], version="0", pool_slots={"api": 1}).pools
    assert quiet.total_time is not None
    assert (quiet.total_time.count, quiet.total_time.mean_seconds, quiet.total_time.p50_seconds) == (0, None, None)


def test_totals_name_outcomes_by_their_log_words(segment: Segment) -> None:
    names = [
        "accepted",
        "connections",
        "refused_connections",
        "requests",
        "in_flight",
        "answered",
        "retries",
        "retries_refused",
        "hedges",
        "hedges_won",
        "fallbacks",
        "tunnels",
        "bytes_received",
        "bytes_sent",
        "strategy_errors",
        "log_dropped",
    ]
    for number, name in enumerate(names):
        segment.add_worker(number % 2, name, number + 1)
    segment.add_worker(0, "kind", 30, index=Kind.OK)
    segment.add_worker(1, "kind", 2, index=Kind.CONNECT_REFUSED)
    segment.add_worker(1, "status", 4, index=5)
    totals = build(segment, [], version="0").totals
    assert [getattr(totals, name) for name in names] == list(range(1, len(names) + 1))
    assert totals.outcomes == {"ok": 30, "connect_refused": 2}
    assert totals.statuses["5xx"] == 4


def test_the_document_round_trips_and_says_what_it_describes(segment: Segment) -> None:
    segment.bump_generation()
    segment.set_worker(1, "heartbeat_ms", 5000)  # the other one has ended, or not begun
    segment.set_backend(3, flags=GOOD, reason='connect to "::1": no route — \x00 \U0001f600')
    status = build(segment, [A], version="1.2.3", pool_slots={"web": 0})
    assert (status.workers, status.generation, status.version) == (1, 1, "1.2.3")
    text = render(segment, [A], version="1.2.3", pool_slots={"web": 0})
    assert msgspec.json.decode(text, type=Status) == status
    parts = ["backends", "pools", "totals", "workers", "generation", "version", "certificates"]
    assert list(msgspec.json.decode(text)) == parts


def test_asking_for_an_unused_balancer_allocates_little() -> None:
    with Segment.create(2) as big:
        build(big, [A, B, C], version="0")
        assert os.fstat(big.fd).st_blocks * 512 < 64 * 1024
