"""What a program passes in where a file has only text: strategies as classes and objects.

A `Config` names strategies, so each one that was passed in gets a name, which leads back to it in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.config import schema
from headgate.config.problems import ConfigError, Problem
from headgate.config.schema import Config


class Given:
    """Configurations from a program's own values, and the strategies in them."""

    def __init__(self) -> None:
        self.strategies: dict[str, object] = {}
        """Name -> class or object."""

    def strategy(self, strategy: object, options: Mapping[str, Any]) -> schema.Strategy:
        """As a configuration has it: a name, a table with `name` and options, a class, or a finished object.

        Raises ValueError for what is none of them.
        """
        if isinstance(strategy, schema.Strategy):
            return strategy
        if isinstance(strategy, Mapping):
            table = dict(strategy)
            name = table.pop("name", None)
            if name is None:
                raise ValueError("a strategy's table needs a name")
            return self.strategy(name, {**table.pop("options", {}), **table, **options})
        if isinstance(strategy, str):
            return schema.Strategy(name=strategy, options=dict(options))
        if not callable(strategy):
            missing = [name for name in ("update", "pick") if not callable(getattr(strategy, name, None))]
            if missing:
                raise ValueError(f"{strategy!r} is no strategy: it has no {' and no '.join(missing)}")
            if options:
                raise ValueError("options are for classes: this strategy is made already")
        return schema.Strategy(name=self._name_of(strategy), options=dict(options))

    def from_keywords(self, short: Mapping[str, Any]) -> Config:
        """From the short form (see `headgate.config.simple`). Raises ConfigError."""
        strategy = short.get("strategy")
        # A library that prints a line for every request would surprise the program that uses it.
        config = Config.from_simple(**{"access_log": False, **short, "strategy": _plain(strategy)})
        return self._with(config, dict.fromkeys(config.pools, strategy))

    def from_mapping(self, tree: Mapping[str, Any]) -> Config:
        """From a mapping with the keys of a configuration file. Raises ConfigError."""
        plain = dict(tree)
        chosen = {}
        if isinstance(pools := tree.get("pools"), Mapping):
            plain["pools"] = dict(pools)
            for name, pool in pools.items():
                if isinstance(pool, Mapping) and "strategy" in pool and _plain(pool["strategy"]) is None:
                    chosen[name] = pool["strategy"]
                    plain["pools"][name] = {key: value for key, value in pool.items() if key != "strategy"}
        return self._with(Config.from_dict(plain), chosen)

    def _with(self, config: Config, chosen: Mapping[str, object]) -> Config:
        """Put those in that no file could hold."""
        pools = dict(config.pools)
        for name, strategy in chosen.items():
            if strategy is None or _plain(strategy) is not None:
                continue
            try:
                pools[name] = msgspec.structs.replace(pools[name], strategy=self.strategy(strategy, {}))
            except ValueError as error:
                raise ConfigError([Problem("", None, f"pools.{name}.strategy", str(error))]) from None
        return msgspec.structs.replace(config, pools=pools)

    def _name_of(self, strategy: object) -> str:
        """Another object gets another name, so that a worker sees the difference."""
        named = strategy if hasattr(strategy, "__qualname__") else type(strategy)
        plain = name = f"{named.__module__}:{getattr(named, '__qualname__', 'strategy')}"
        number = 1
        while self.strategies.get(name, strategy) is not strategy:
            number += 1
            name = f"{plain}#{number}"
        self.strategies[name] = strategy
        return name


def _plain(strategy: object) -> Any:
    """A strategy as a configuration file could name it, else None."""
    if isinstance(strategy, Mapping):
        return strategy if isinstance(strategy.get("name"), str) else None
    return strategy if isinstance(strategy, str) else None
