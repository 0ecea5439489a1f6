"""Every case of http1_cases.jsonl as far as bytes alone decide it; the rest is tested against a running balancer.

A case names the outcomes that are acceptable. "normalise" is "forward" here, and what a timer would do to a message
that stays incomplete ("408", "close") is "wait".
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .dialogue import Played, play_requests, play_response

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "http1_cases.jsonl").read_text().splitlines()
]
DEFAULT_REQUEST = b"GET / HTTP/1.1\r\nHost: h.example\r\n\r\n"
SMALL = 2048


def wire(text: str, subst: dict[str, list[Any]]) -> bytes:
    raw = text.encode("ascii").decode("unicode_escape")
    for token, (part, count) in subst.items():
        raw = raw.replace(token, part * count)
    return raw.encode("latin-1")


def request_of(case: dict[str, Any]) -> bytes:
    text: str = case.get("request", "")
    for token, (part, count) in case.get("subst_request", {}).items():
        text = text.replace(token, part * count)
    return text.encode("latin-1") or DEFAULT_REQUEST


def play(case: dict[str, Any], cuts: range | list[int] = range(0)) -> Played:
    raw = wire(case["raw"], case.get("subst", {}))
    if case["side"] == "request":
        return play_requests(raw, cuts, fin=case.get("fin", False))
    return play_response(raw, request_of(case), cuts, ended=case.get("up_close", False))


def acceptable(case: dict[str, Any]) -> set[str]:
    words = {word.replace("normalise", "forward") for word in case["expect"]}
    if words & {"408", "504"}:
        words.add("wait")
    return words


def forwards(case: dict[str, Any]) -> bool:
    return any(word.split(",")[0] in ("forward", "many") for word in acceptable(case))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_verdict(case: dict[str, Any]) -> None:
    played = play(case)
    words = acceptable(case)
    if "many" in words:
        assert set(played.outcomes) == {"forward"}
    else:
        assert played.outcome in words
    if case["side"] == "response":
        for pattern in case.get("client_must", ()):
            assert re.search(pattern.encode("latin-1"), played.sent), pattern
        for pattern in case.get("client_must_not", ()):
            assert not re.search(pattern.encode("latin-1"), played.sent), pattern
        return
    if "many" not in words:
        assert played.complete <= case.get("max_upstream", 2 if forwards(case) else 0)
    if played.complete:
        for pattern in case.get("upstream_must", ()):
            assert re.search(pattern.encode("latin-1"), played.sent), pattern
    for pattern in case.get("upstream_must_not", ()):
        assert not re.search(pattern.encode("latin-1"), played.sent), pattern
    for pattern in case.get("upstream_reqline_must_not", ()):
        assert not any(re.search(pattern.encode("latin-1"), line) for line in played.request_lines), pattern
    if case.get("must_close"):
        assert played.closed


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if len(wire(case["raw"], case.get("subst", {}))) <= SMALL],
    ids=lambda case: case["id"],
)
def test_cut_anywhere_means_the_same(case: dict[str, Any]) -> None:
    whole = play(case)
    size = len(wire(case["raw"], case.get("subst", {})))
    assert play(case, range(1, size)) == whole, "byte by byte"
    for cut in range(1, size):
        assert play(case, [cut]) == whole, f"cut at {cut}"


def test_nothing_is_left_out() -> None:
    assert len(CASES) == 269
    assert len({case["id"] for case in CASES}) == len(CASES)
