"""Access logs: read, and served again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from headgate.engine.logplan import log_line
from headgate.simulate import Candidate, run
from headgate.simulate.log import LogError, parse
from headgate.simulate.replay import ReplayCase
from headgate.simulate.workload import SERVICES, service_times

START = datetime(2026, 11, 21, 10, tzinfo=UTC)


def line(
    at: float,
    took_s: float,
    backend: str = "a",
    *,
    pool: str = "web",
    attempts: int = 1,
    word: bytes = b"ok",
    client: str = "192.0.2.1",
) -> bytes:
    """As the engine writes it."""
    return log_line(
        "json",
        time_ns=int((START + timedelta(seconds=at)).timestamp() * 1000) * 1_000_000,
        client=client.encode(),
        method=b"GET",
        target=b"/x",
        host=b"example.org",
        status=200,
        pool=pool.encode(),
        backend=backend.encode(),
        attempts=attempts,
        first_byte_ns=int(took_s * 1e9),
        total_ns=int(took_s * 1e9),
        request_id=b"1",
        word=word,
    )


def test_a_log_in_the_order_of_arrival() -> None:
    log = parse([line(1.5, 0.2, "b"), line(0.5, 2.0, client="2001:db8::1"), b"nonsense\n", b"{}\n"])
    assert (log.pool, log.unreadable, log.left_out) == ("web", 2, 0)
    first, second = log.requests
    assert (first.arrived_s, first.backend, first.took_s, first.client) == (0.0, "a", 2.0, "2001:db8::1")
    assert (second.arrived_s, second.backend, second.took_s, second.path) == (1.0, "b", 0.2, "/x")


def test_failures_and_retries_are_left_out() -> None:
    log = parse([line(0, 0.1), line(1, 0.1, attempts=2), line(2, 3.0, word=b"first_byte_timeout"), line(3, 0.1)])
    assert (len(log.requests), log.left_out) == (2, 2)


@pytest.mark.parametrize(
    ("lines", "pool", "text"),
    [
        ([], None, "no line"),
        ([b"2026-11-21T01:02:03.456Z 127.0.0.1 GET\n"], None, "no line"),
        ([line(0, 1), line(0, 1, pool="api")], None, "api, web: name one"),
        ([line(0, 1)], "api", "no request of the pool api; the log has web"),
        ([line(0, 1, attempts=3)], None, "answered at the first attempt"),
    ],
)
def test_logs_that_cannot_be_used(lines: Sequence[bytes], pool: str | None, text: str) -> None:
    with pytest.raises(LogError, match=text):
        parse(lines, pool)


def traffic(slowness: float = 4.0, seconds: float = 60.0) -> list[bytes]:
    """Round robin over three, of which c is slow."""
    random = Random(7)
    draw = service_times("exponential", 0.02, random)
    lines: list[bytes] = []
    at = 0.0
    while at < seconds:
        at += random.expovariate(60.0)
        name = "abc"[len(lines) % 3]
        lines.append(line(at, draw() * (slowness if name == "c" else 1.0), name, client=f"192.0.2.{len(lines) % 200}"))
    return lines


def test_a_replay_by_what_placed_it_gives_the_log_again() -> None:
    """Round robin sends each request where it was, so that its rank stands for the very time it took."""
    case = ReplayCase(parse(traffic()))
    again = run(Candidate("round_robin"), case.servers, case.workload(1))
    assert again.shares == pytest.approx(case.logged.shares, abs=0.001)
    assert again.p50_s == pytest.approx(case.logged.p50_s, rel=0.02)
    assert again.p99_s == pytest.approx(case.logged.p99_s, rel=0.02)
    assert again.max_in_flight <= case.logged.max_in_flight + 1


def test_a_better_strategy_is_seen_to_be_better() -> None:
    case = ReplayCase(parse(traffic()))
    better = run(Candidate("least_time"), case.servers, case.workload(1))
    assert better.shares["c"] < 0.2
    assert better.p99_s < 0.8 * case.logged.p99_s


def test_hashes_have_keys() -> None:
    case = ReplayCase(parse(traffic()))
    hashed = run(Candidate("ip_hash"), case.servers, case.workload(1))
    assert sum(hashed.shares.values()) == pytest.approx(1)
    assert len({caller.client_bytes for caller in case.workload(1).who}) == 200


def test_weights_come_from_the_configuration() -> None:
    lines = traffic()
    case = ReplayCase(parse(lines), {"a": 3, "c": 0})
    assert [(server.name, server.weight) for server in case.servers] == [("a", 3), ("b", 1)]
    assert run(Candidate("weighted_random"), case.servers, case.workload(1)).shares["a"] == pytest.approx(
        0.75, abs=0.03
    )
    with pytest.raises(ValueError, match="weight 0"):
        ReplayCase(parse(lines), {"a": 0, "b": 0, "c": 0})


@pytest.mark.parametrize("name", SERVICES)
def test_service_times_have_their_mean(name: str) -> None:
    draw = service_times(name, 0.010, Random(5))  # type: ignore[arg-type]
    assert sum(draw() for _ in range(50_000)) / 50_000 == pytest.approx(0.010, rel=0.03)
    with pytest.raises(ValueError, match="there are constant, exponential, lognormal"):
        service_times("uniform", 0.010, Random(5))  # type: ignore[arg-type]
