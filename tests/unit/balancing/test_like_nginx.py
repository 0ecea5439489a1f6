"""Against what a real nginx did (tests/golden/balancing/record.py makes the recording)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from headgate.balancing.ring_hash import RingHash, continuum

from .fakes import REQUEST, FakeBackend, FakeRequest, context, make

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "balancing" / "nginx.json").read_text(encoding="utf-8")
)


def backends_of(entry: dict[str, Any]) -> list[FakeBackend]:
    backends = []
    for server, weight in zip(entry["servers"], entry["weights"], strict=True):
        backend = FakeBackend(server, weight)
        backend.url = server if server.startswith("unix:") else f"http://{server}"
        backends.append(backend)
    return backends


@pytest.mark.parametrize("name", ["weighted_round_robin", "round_robin"])
@pytest.mark.parametrize("entry", RECORDED["smooth"], ids=lambda entry: "-".join(map(str, entry["weights"])))
def test_smooth_weighted_round_robin_gives_the_same_sequence(name: str, entry: dict[str, Any]) -> None:
    backends = backends_of(entry)
    strategy = make(name, backends)
    assert [backends.index(strategy.pick(REQUEST, ())) for _ in entry["picks"]] == entry["picks"]  # type: ignore[arg-type]


@pytest.mark.parametrize("entry", RECORDED["ketama"], ids=lambda entry: f"{entry['weights']}{entry['servers'][0][:4]}")
def test_the_compatible_ring_sends_each_key_where_nginx_sends_it(entry: dict[str, Any]) -> None:
    backends = backends_of(entry)
    strategy = RingHash(context(), key="query:k", compatible="nginx")
    strategy.update(backends)
    found = [strategy.pick(FakeRequest(path=b"/x?k=key-%d" % k), ()) for k in range(len(entry["picks"]))]
    assert [backends.index(backend) for backend in found] == entry["picks"]  # type: ignore[arg-type]


def test_the_continuum_has_160_points_for_each_unit_of_weight_and_goes_on_to_the_next_owner() -> None:
    backends = [FakeBackend("a", 1), FakeBackend("b", 2), FakeBackend("c", 1)]
    table = continuum(backends)
    assert len(table) == 4 * 160
    first = table.find(crc32(b"key"))
    second = table.find_other(crc32(b"key"), [first])
    assert {first, second, table.find_other(crc32(b"key"), [first, second])} == {0, 1, 2}
    assert table.find_other(0, [0, 1, 2]) == -1
