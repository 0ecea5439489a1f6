"""What h2load and hey say, read."""

from __future__ import annotations

import pytest
from bench.cases import CASES
from bench.generators import needs_new_connections, read_h2load, read_hey

HEY = """
Summary:
  Total:	2.0011 secs
  Slowest:	0.0310 secs
  Requests/sec:	1234.5

Latency distribution:
  50% in 0.0021 secs
  99% in 0.0190 secs

Status code distribution:
  [200]	2400 responses
  [503]	7 responses

Error distribution:
  [3]	Get "http://127.0.0.1:1/": dial tcp: connection refused
  [2]	Get "http://127.0.0.1:1/": EOF
"""


def test_h2load() -> None:
    log = "".join(f"{1000 + n}\t200\t{n}\n" for n in range(1, 101)) + "2000\t502\t5\n2001\t-1\t9\n"
    seen = read_h2load(log, 2.0)
    assert (seen.requests, seen.errors, seen.per_second) == (100, 2, 50)
    assert seen.p50_ms == pytest.approx(0.051)
    assert seen.p99_ms == pytest.approx(0.1)


def test_hey() -> None:
    seen = read_hey(HEY)
    assert (seen.requests, seen.errors) == (2400, 12)
    assert seen.duration_s == 2.0011
    assert (seen.p50_ms, seen.p99_ms) == (2.1, 19.0)


def test_nothing_was_answered() -> None:
    with pytest.raises(ValueError, match="no answer"):
        read_h2load("1\t-1\t5\n", 1.0)
    with pytest.raises(ValueError, match="no answer"):
        read_hey("Summary:\n  Total: 1.0 secs\n\nError distribution:\n  [5] refused\n")


def test_cases_that_lose_connections() -> None:
    assert {case.name for case in CASES.values() if needs_new_connections(case)} == {"close", "tlsclose", "upload"}
