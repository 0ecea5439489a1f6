"""Changes to a configuration: the same rules as in a file, and texts that help."""

from __future__ import annotations

import pytest

from headgate.config.addresses import BackendUrl
from headgate.config.schema import Backend, Config, Pool, Strategy
from headgate.runtime import edits

A, B = "http://127.0.0.1:9001", "http://127.0.0.1:9002"
CONFIG = Config(
    pools={
        "web": Pool(
            backends=(
                Backend(url=BackendUrl.parse(A)),
                Backend(url=BackendUrl.parse(B), name="b", weight=3),
                Backend(url=BackendUrl.parse(B), name="b2"),
            )
        )
    }
)


def test_a_backend_is_found_by_name_and_by_url_where_that_is_clear() -> None:
    assert edits.backend_of(CONFIG, "web", "b").weight == 3
    assert edits.backend_of(CONFIG, "web", A + "/").url.text == A
    with pytest.raises(ValueError, match=r"several backends .* use a name \(b, b2\)"):
        edits.backend_of(CONFIG, "web", B)
    with pytest.raises(ValueError, match=f"has no backend 'c' .*it has: {A}, b, b2"):
        edits.backend_of(CONFIG, "web", "c")


def test_adding() -> None:
    config, added = edits.with_backend(CONFIG, "web", "unix:/run/app.sock", 0, None)
    assert config.pools["web"].backends == (*CONFIG.pools["web"].backends, added)
    assert (added.name, added.weight) == ("unix:/run/app.sock", 0)
    assert len(CONFIG.pools["web"].backends) == 3, "the old one is as it was"


@pytest.mark.parametrize(
    ("url", "weight", "name", "text"),
    [
        (A, 1, None, "already"),
        ("http://127.0.0.1:9003", 1, "b", "already"),
        ("ftp://127.0.0.1", 1, None, "unknown scheme"),
        ("http://127.0.0.1:9003/app", 1, None, "no path"),
        ("http://127.0.0.1:9003", 257, None, "256"),
        ("http://127.0.0.1:9003", float("nan"), None, "."),
        ("http://127.0.0.1:9003", "3", None, "."),
        ("http://127.0.0.1:9003", 1, "a\nb", "."),
        ("http://127.0.0.1:9003", 1, "", "."),
    ],
)
def test_adding_what_cannot_be(url: str, weight: int, name: str | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        edits.with_backend(CONFIG, "web", url, weight, name)


def test_removing_down_to_nothing() -> None:
    config = CONFIG
    for name in (A, "b", "b2"):
        config, _ = edits.without_backend(config, "web", name)
    assert config.pools["web"].backends == ()


def test_weights_keep_the_place() -> None:
    config, changed = edits.with_weight(CONFIG, "web", "b", 256)
    assert config.pools["web"].backends[1] == changed
    assert changed.weight == 256


@pytest.mark.parametrize(
    "strategy", ["p2c", {"name": "p2c"}, Strategy(name="p2c")], ids=["name", "table", "the schema's object"]
)
def test_strategies(strategy: str) -> None:
    assert edits.with_strategy(CONFIG, "web", strategy).pools["web"].strategy == Strategy(name="p2c")


def test_a_strategys_options() -> None:
    config = edits.with_strategy(CONFIG, "web", {"name": "mine:Best", "depth": 3})
    assert config.pools["web"].strategy == Strategy(name="mine:Best", options={"depth": 3})


@pytest.mark.parametrize("strategy", [{}, {"depth": 3}, {"name": 3}, None])
def test_what_is_no_strategy(strategy: str) -> None:
    with pytest.raises(ValueError, match="strategy: "):
        edits.with_strategy(CONFIG, "web", strategy)
