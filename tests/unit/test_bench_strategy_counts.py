"""The traffic under which the instructions of strategies are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.strategy_counts import BACKENDS, CLIENTS, Crowd


@pytest.mark.parametrize("name", ["bounded_hash", "peak_ewma"])
def test_there_is_load_to_look_at_and_all_backends_have_some_of_it(name: str, tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, name)
    try:
        crowd.play(100)
        totals = [crowd.totals(number) for number in range(BACKENDS)]
    finally:
        crowd.close()
    assert sum(total.active for total in totals) == CLIENTS
    assert all(total.attempts > 10 for total in totals)
