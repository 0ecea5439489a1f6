"""The experiment with real processes puts its table where the documentation has a place for it."""

from __future__ import annotations

import pytest
from bench import order
from bench.order import Turn, conditions, publish, table


def test_the_page_has_a_place_and_keeps_the_rest() -> None:
    page = order.PAGE.read_text()
    published = publish(page, "new figures")
    before, after = page.split("<!-- bench.order -->\n")[0], page.split("<!-- /bench.order -->\n")[1]
    assert published == f"{before}<!-- bench.order -->\nnew figures\n<!-- /bench.order -->\n{after}"
    assert publish(published, "new figures") == published


def test_a_page_without_a_place_is_told_before_the_work() -> None:
    with pytest.raises(ValueError, match="has no"):
        publish("# Simulation\n", "figures")


def test_the_table_has_medians_and_every_round() -> None:
    turns = [Turn(100, failed, 0.05, p99, 0.7, 0.01) for failed, p99 in ((0, 0.3), (2, 0.2), (0, 0.4))]
    assert "| headgate p2c | 50 ms | 300 ms | 300, 200, 400 | 700 ms | 2 | 10 ms |" in table({"headgate p2c": turns})
    said = conditions({"floor": "-", "nginx": "1.22.1"}, 3, 2)
    assert "3 rounds" in said
    assert "2 turns were late" in said
    assert said.endswith("nginx 1.22.1.")
