"""What `headgate top` draws and how it obeys keys; without a terminal."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from headgate.cli.status import render
from headgate.cli.top import Sample, View, frame, pressed


def backend(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "pool": "web",
        "name": name,
        "state": "up",
        "weight": 1,
        "activeConnections": 0,
        "totalRequests": 0,
        "failed": 0,
        "reasons": [],
        "changed": [],
        "penalty": None,
        "wholeAt": None,
        "part": 1.0,
        "healthy": True,
        **changes,
    }


def document(*backends: dict[str, Any], requests: int = 0) -> dict[str, Any]:
    times = {"p50Seconds": 0.0012, "p99Seconds": None}
    pool = {
        "name": "web",
        "strategy": "p2c",
        "healthy": len(backends),
        "backends": len(backends),
        "activeConnections": 3,
        "totalRequests": requests,
        "totalTime": times,
        "changed": [],
        "panic": False,
        "standIn": None,
    }
    return {
        "version": "1.0",
        "pid": 7,
        "started": "then",
        "ready": True,
        "configFile": "headgate.toml",
        "listeners": [{"bind": ":80", "state": "open"}],
        "workers": [{"worker": 0, "pid": 8, "connections": 1, "inFlight": 2, "problem": ""}],
        "pools": [pool],
        "backends": list(backends),
        "totals": {
            "requests": requests,
            "retries": 0,
            "inFlight": 3,
            "connections": 4,
            "statuses": {"5xx": 0},
        },
    }


def drawn(
    now: dict[str, Any], before: dict[str, Any] | None = None, *, width: int = 100, height: int = 20, **view: Any
) -> str:
    old = Sample(10.0, before) if before is not None else None
    return "\n".join(frame(Sample(12.0, now), old, width, height, View(**view)))


def test_rates_are_differences_over_the_time_between() -> None:
    before = document(backend("a", totalRequests=100), requests=1000)
    now = document(backend("a", totalRequests=150), requests=1400)
    text = drawn(now, before)
    assert "200/s requests" in text
    row = next(line for line in text.splitlines() if line.startswith("web/a"))
    assert row.split()[:4] == ["web/a", "up", "1", "25"]
    assert "1.2" in text


def test_without_a_comparison_there_is_no_rate() -> None:
    assert "-/s requests" in drawn(document(backend("a")))
    restarted = document(backend("a", totalRequests=1), requests=5)
    before = copy.deepcopy(restarted)
    before["started"] = "earlier"
    before["totals"]["requests"] = 9000
    assert "-/s requests" in drawn(restarted, before)


@pytest.mark.parametrize(("width", "height"), [(100, 30), (40, 10), (10, 5), (1, 1), (80, 3), (200, 100)])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_it_fits_whatever_the_window(width: int, height: int, count: int) -> None:
    now = document(*(backend(f"b{n}" * 10, reasons=["down: " + "x" * 300]) for n in range(count)))
    for scroll in (0, 3, 10_000):
        lines = frame(Sample(1.0, now), None, width, height, View(scroll=scroll))
        assert len(lines) == height
        assert all(len(line) <= width for line in lines)


def test_the_end_of_a_long_list_can_be_reached() -> None:
    now = document(*(backend(f"b{n}") for n in range(100)))
    assert "web/b99" not in drawn(now)
    assert "web/b99" in drawn(now, scroll=10_000)


def test_sorting_and_showing_only_what_is_not_up() -> None:
    now = document(backend("a", failed=1), backend("b", failed=9, reasons=["down: x"]), backend("c"))
    rows = [line.split()[0] for line in drawn(now, sort="failed").splitlines() if line.startswith("web/")]
    assert rows == ["web/b", "web/a", "web/c"]
    assert "web/a" not in drawn(now, only_bad=True)


def test_what_a_backend_sent_cannot_write_to_the_terminal() -> None:
    text = drawn(document(backend("a", reasons=["down: \x1b]0;evil\x07\r\n"])))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\r" not in text


@pytest.mark.parametrize(
    ("keys", "view"),
    [
        ("q", None),
        ("\x03", None),
        ("jj", View(scroll=2)),
        ("\x1b[B\x1b[B\x1b[A", View(scroll=1)),
        ("\x1bOB", View(scroll=1)),
        ("\x1b[6~", View(scroll=10)),
        ("\x1b[6~\x1b[5~j", View(scroll=1)),
        ("k", View()),
        (" ", View(scroll=10)),
        ("s", View(sort="rate")),
        ("ssss", View()),
        ("a", View(only_bad=True)),
        ("x\x1b", View()),
        ("\x1b[", View()),
    ],
)
def test_keys(keys: str, view: View | None) -> None:
    assert pressed(View(), keys, 10) == view


def test_status_shows_of_a_large_pool_what_is_not_up() -> None:
    rows = [backend(f"b{n}") for n in range(200)]
    rows[7]["reasons"], rows[7]["state"] = ["down: refused"], "down"
    text = "\n".join(render(document(*rows)))
    assert "b7 " in text
    assert "down: refused" in text
    assert "b8 " not in text


def test_status_of_a_balancer_that_was_not_upgraded_yet() -> None:
    old = document(backend("b0"))
    for row, keys in ((old["pools"][0], ("panic", "standIn")), (old["backends"][0], ("penalty", "wholeAt", "part"))):
        for key in keys:
            del row[key]
    assert "b0 " in "\n".join(render(old))
