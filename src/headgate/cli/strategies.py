"""Tries a user's own strategies before anything is started, so that a mistake in one is a mistake in the configuration.

They are imported and made once, here in the process that was called. Workers would find the same mistakes, but only
after sockets were bound and processes started, and each of them would.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from headgate.balancing.registry import BUILT_IN
from headgate.config.problems import ConfigError, Key, Problem, key_text
from headgate.config.schema import Config


def try_strategies(
    config: Config,
    app_dir: str,
    *,
    file: str = "",
    line_of: Callable[[Key], int | None] | None = None,
    label: Callable[[Key], str] = key_text,
) -> None:
    """Raises `ConfigError` when a strategy that is not built in cannot be imported or made."""
    own = {name: pool.strategy for name, pool in config.pools.items() if pool.strategy.name not in BUILT_IN}
    if not own:
        return
    # Imported here: it needs the compiled engine, which configurations without own strategies can be judged without.
    from headgate.runtime.strategies import StrategyMaker

    make = StrategyMaker(time.monotonic, app_dir=app_dir)
    problems = []
    for name, strategy in own.items():
        try:
            make(strategy)
            continue
        except KeyboardInterrupt:
            raise
        except ValueError as error:
            text = str(error)
        except BaseException as error:  # a user's module may do anything while it is imported, sys.exit() included
            text = f'"{strategy.name}" cannot be made: {type(error).__name__}: {error}'
        key: Key = ("pools", name, "strategy")
        problems.append(Problem(file, line_of(key) if line_of is not None else None, label(key), text))
    if problems:
        raise ConfigError(problems)
