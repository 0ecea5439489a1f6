"""An explanation from a configuration alone: every backend is thought to be up and idle, and nothing was asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random, random
from typing import Any

import msgspec

from headgate.balancing import registry, sticky
from headgate.balancing.base import Context
from headgate.balancing.round_robin import RoundRobin
from headgate.config.schema import Config, Pool
from headgate.engine.hashing import hash64
from headgate.explain.answer import Explanation
from headgate.explain.decide import explain
from headgate.explain.listeners import choose
from headgate.explain.question import Question
from headgate.explain.standing import PoolLook, Standing
from headgate.resilience.eligibility import Flag, Level, eligible
from headgate.runtime.levels import Levels
from headgate.runtime.secrets import pool_secret

_GOOD = Flag.PRESENT | Flag.ENABLED | Flag.CHECKED | Flag.UP


@dataclass(eq=False, slots=True)
class FileBackend:
    """A backend as its configuration has it. `eq=False`: compared by identity."""

    name: str
    url: str
    slot: int
    weight: int
    priority: int
    active: int = 0
    factor: float = 1.0
    flags: int = int(_GOOD)

    @property
    def share(self) -> float:
        return float(self.weight)


class _Noticed(Random):
    """Says whether it was drawn from; the numbers are those of `Random`."""

    drew = False

    def random(self) -> float:
        self.drew = True
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        self.drew = True
        return super().getrandbits(k)


def explain_file(
    config: Config, question: Question, *, app_dir: str | None = None, seed: str = "", worker: int = 0
) -> Explanation:
    """What a balancer would do that has just been started with this configuration. Raises BadQuestion, and ValueError
    for a strategy that cannot be built.

    seed: as `HEADGATE_SEED` in the balancer's environment, for the same draws; "" = where a strategy draws, nobody can
    say what.
    """
    choice = choose(question, [(listener.bind.text, listener.bind.text) for listener in config.listeners])
    listener = next(one for one in config.listeners if one.bind.text == choice.bind)
    source = _Noticed(f"{seed} {worker}" if seed else None)
    context = Context(random=source, clock=time.monotonic, hash64=hash64, worker=worker)
    pools: dict[str, PoolLook] = {}
    drew: dict[str, bool] = {}
    notes = [choice.note] if choice.note else []
    for name, pool in config.pools.items():
        source.drew = False
        try:
            pools[name] = _look(name, pool, context, app_dir)
        except Exception as error:
            raise ValueError(f"pools.{name}.strategy: {error}") from error
        drew[name] = source.drew  # a strategy may draw in advance
    source.drew = False
    found = explain(question, config, listener, pools.__getitem__, sources=[source])
    if found.pool:
        notes.append(
            "from the configuration alone: every backend is thought to be up and idle, and this the first request"
        )
        chosen = config.pools[found.pool].sticky
        if chosen is not None and not chosen.secret:
            notes.append("the cookie is signed with this machine's own secret: only a running balancer can read it")
    chance = not seed and found.picked_by == "strategy" and (source.drew or drew[found.pool])
    if chance:
        notes.append("the strategy draws: another time it would be another one")
    return msgspec.structs.replace(found, notes=[*notes, *found.notes], exact=found.exact and not chance)


def _look(name: str, pool: Pool, context: Context, app_dir: str | None) -> PoolLook:
    backends = [
        FileBackend(one.name, one.url.text, slot, one.weight, one.priority) for slot, one in enumerate(pool.backends)
    ]
    found = eligible(backends, pool.panic)
    levels: list[Level[Any]] = [Level(level.priority, list(level.backends), level.load) for level in found.levels]
    priorities = sorted({backend.priority for backend in backends} | {0})
    placer, fallback = Levels(random), Levels(random)
    placer.use({one: registry.build(pool.strategy.name, context, pool.strategy.options, app_dir) for one in priorities})
    fallback.use({one: RoundRobin() for one in priorities})
    placer.update(levels)
    fallback.update(levels)
    new_sessions = set(found.new_sessions)
    return PoolLook(
        name=name,
        config=pool,
        backends=[
            Standing(
                backend=backend,
                state="up",
                flags=backend.flags,
                reason="",
                weight=backend.weight,
                factor=1.0,
                priority=backend.priority,
                active=0,
                eligible=backend in new_sessions,
                bound_ok=True,
            )
            for backend in backends
        ],
        levels=levels,
        panic=found.panic,
        sticky=_sticky(name, pool, backends),
        placer=placer,
        fallback=fallback,
        works=True,
    )


def _sticky(name: str, pool: Pool, backends: list[FileBackend]) -> Mapping[bytes, FileBackend] | None:
    if pool.sticky is None:
        return None
    if not pool.sticky.secret:
        return {}
    return sticky.lookup(pool_secret(pool.sticky.secret, b"", name), name, backends)
