"""The fault matrix: each row with its stated outcome. What a row does stands in `rows/`."""

from __future__ import annotations

import pytest

from .conftest import Outcomes
from .matrix import all_rows

ROWS = all_rows()


@pytest.mark.parametrize("key", ROWS)
def test_row(key: str, outcomes: Outcomes) -> None:
    outcome = outcomes.of(key)
    print(outcome["figures"], outcome["seconds"], "s")
    assert outcome["error"] is None, f"{ROWS[key].claim}\n{outcome['error']}"
