from __future__ import annotations

import pytest

from headgate.balancing import options
from headgate.balancing.registry import BUILT_IN, StrategyInvalid, build
from headgate.config.problems import ConfigError
from headgate.config.validate import validate

from .fakes import context

WRONG = [
    ("peak_ewma", {"decay": "soon"}, "decay", 'like "10s"'),
    ("least_time", {"decay": 0}, "decay", "from 0.1 s to 600 s"),
    ("prequal", {"bound": 2}, "bound", "no such option (it has decay)"),
    ("round_robin", {"bound": 2}, "bound", "no such option (it has none)"),
    ("ring_hash", {"key": "header"}, "key", "client, path, header:NAME"),
    ("ring_hash", {"key": "query:a&b"}, "key", "query:NAME"),
    ("ring_hash", {"header": "X Tenant"}, "header", "the name of a header"),
    ("ring_hash", {"heder": "X"}, "heder", "did you mean 'header'?"),
    ("ring_hash", {"key": "path", "cookie": "sid"}, "cookie", "leave one of them"),
    ("ring_hash", {"compatible": "haproxy"}, "compatible", '"nginx"'),
    ("ring_hash", {"compatible": "nginx", "places": 100}, "places", "leave it out"),
    ("maglev", {"table_size": 65_536}, "table_size", "the next one is 65537"),
    ("bounded_hash", {"bound": 1}, "bound", "from 1.01 to 100"),
    ("bounded_hash", {"places": True}, "places", "a whole number from 1"),
    ("random_subset", {}, "", "needs balancer"),
    ("random_subset", {"balancer": 4, "balancers": 4}, "balancer", "the last one is 3"),
]
RIGHT = [
    ("peak_ewma", {"decay": "500ms"}),
    ("least_time", {"decay": 20}),
    ("ring_hash", {"key": "cookie:sid", "places": 64}),
    ("ring_hash", {"compatible": "nginx", "key": "path"}),
    ("maglev", {"key": "query:user", "table_size": 1009}),
    ("bounded_hash", {"header": "X-Tenant", "bound": 1.5}),
    ("random_subset", {"balancer": 0, "balancers": 9, "size": 20}),
]


def config(strategy: str, given: dict[str, object]) -> dict[str, object]:
    pool = {"backends": ["http://127.0.0.1:1"], "strategy": {"name": strategy, **given}}
    return {"listeners": [{"bind": "127.0.0.1:8080"}], "pools": {"web": pool}}


@pytest.mark.parametrize(("strategy", "given", "option", "text"), WRONG)
def test_a_mistake_names_its_key_and_a_way_out(strategy: str, given: dict[str, object], option: str, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(config(strategy, given), file="x.toml")
    where = "pools.web.strategy" + (f".{option}" if option else "")
    assert f"{where}: " in str(error.value)
    assert text in str(error.value)
    with pytest.raises(StrategyInvalid):  # nor can it be made past the configuration
        build(strategy, context(), given)


@pytest.mark.parametrize(("strategy", "given"), RIGHT)
def test_what_is_right_is_taken(strategy: str, given: dict[str, object]) -> None:
    assert validate(config(strategy, given), file="x.toml").pools["web"].strategy.options == given
    build(strategy, context(), given)


def test_every_option_belongs_to_a_strategy_there_is() -> None:
    assert set(options.OPTIONS) <= set(BUILT_IN)
