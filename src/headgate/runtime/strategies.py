"""Makes the strategies of one worker: what they may use of the world, and where their classes come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from random import Random
from typing import cast

from headgate.balancing import registry
from headgate.balancing.base import Context, Strategy
from headgate.config import schema
from headgate.engine.hashing import hash64


class StrategyMaker:
    """Builds a strategy from its configuration.

    clock: monotonic seconds. app_dir: where modules of "package.module:Class" are looked for, in addition to the path.
    local: name -> class, factory or finished strategy, for names that only this process knows (embedded use).
    seed: makes the draws of strategies repeatable (a test, or the search for a mistake); "" = they are not.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        app_dir: str | None = None,
        local: Mapping[str, object] | None = None,
        worker: int = 0,
        seed: str = "",
    ) -> None:
        # Seeded by the system: workers that draw the same numbers would run to the same backend together.
        self.random = Random(f"{seed} {worker}" if seed else os.urandom(32))
        self._context = Context(random=self.random, clock=clock, hash64=hash64, worker=worker)
        self._app_dir = app_dir
        self._local = local if local is not None else {}

    def __call__(self, config: schema.Strategy) -> Strategy:
        """A new strategy, or the object itself where one was given. Raises ValueError when it cannot be built."""
        local = self._local.get(config.name)
        if local is not None:
            if isinstance(local, type) or not hasattr(local, "pick"):
                return registry.make(cast(registry.Factory, local), config.name, self._context, config.options)
            return cast(Strategy, local)
        return registry.build(config.name, self._context, config.options, self._app_dir)
