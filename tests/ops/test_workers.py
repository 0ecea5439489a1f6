"""Several workers balance as one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..faults.load import Ask
from ..faults.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("strategy", ["round_robin", "least_connections"])
def test_four_workers_spread_within_two_percent(world: World, strategy: str) -> None:
    world.backends(3)
    world.headgate(top={"workers": 4, "access_log": {"format": "off"}}, pool={"strategy": strategy})
    # Backends of equal speed, whatever else this machine does: most of the time goes by in a pause. So many requests
    # that one that stood still for a moment is no slower backend: 2 % of 400 were 8, and such a pause costs as many.
    result = world.load(Ask(target="/?wait=20"), clients=24, rate=0, each=200).join()
    world.none_failed(result)
    counts = result.backends
    mean = sum(counts.values()) / 3
    assert len(counts) == 3
    assert max(counts.values()) - min(counts.values()) <= 0.02 * mean, counts
    world.finish()
