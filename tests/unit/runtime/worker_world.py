"""A worker agent with a stand-in engine, a real segment, and a test in the place of the controller."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar, cast

import msgspec

from headgate.balancing import registry
from headgate.balancing.base import Context, Strategy
from headgate.config import schema
from headgate.config.schema import Config
from headgate.engine.hashing import hash64
from headgate.engine.stats import Segment
from headgate.runtime.agent import WorkerAgent
from headgate.runtime.messages import Apply, Message, ToWorker
from headgate.runtime.pool import WorkerPool
from headgate.runtime.snapshot import Snapshot
from headgate.runtime.transport import DirectChannel
from tests.unit.runtime.fake_engine import GOOD, Backend, Engine, Listener, Parts, Pool

M = TypeVar("M", bound=Message)

WORKER = 1
SECRET = b"a secret of 32 bytes, or so it is"


def pool_tree(count: int = 3, first: int = 1, **keys: Any) -> dict[str, Any]:
    """A pool of so many backends called b1, b2..., as a configuration file has it."""
    backends = [{"url": f"http://10.0.0.{n}:80", "name": f"b{n}"} for n in range(first, first + count)]
    return {"backends": backends, **keys}


def config(tree: dict[str, Any] | None = None, **pools: dict[str, Any]) -> Config:
    """A configuration with these pools behind one listener (and whatever else `tree` has)."""
    return Config.from_dict(
        {
            "listeners": [{"bind": "127.0.0.1:8080", "status_path": "/lb/status"}],
            "access_log": {"format": "off"},
            "pools": pools or {"web": pool_tree()},
            **(tree or {}),
        }
    )


class World:
    """What a test sees and does. `said` has every message of the worker, in order."""

    def __init__(self) -> None:
        self.segment = Segment.create(2, backends=32, pools=8)
        self.engine = Engine()
        self.parts = Parts(self.segment)
        self.said: list[Message] = []
        self.made: list[schema.Strategy] = []
        self.exited = 0
        self.generation = 0
        self._waiting: list[Callable[[], None]] = []
        self._slots: dict[tuple[str, str], int] = {}
        self._pool_slots: dict[str, int] = {}
        self._ours, theirs = DirectChannel.pair(self._waiting.append)
        self._ours.watch(self._listen, lambda fd, callback: None)
        self.agent = WorkerAgent(
            cast(Any, self.engine),
            self.segment,
            WORKER,
            theirs,
            make_strategy=self._make,
            parts=self.parts,
            on_exit=self._exit,
        )
        self.agent.start()
        self.settle()

    def _make(self, spec: schema.Strategy) -> Strategy:
        self.made.append(spec)
        context = Context(random=Random(1), clock=lambda: self.engine.now, hash64=hash64)
        return registry.build(spec.name, context, spec.options)

    def _exit(self) -> None:
        self.exited += 1

    def _listen(self) -> None:
        self.said += [message for message, _ in self._ours.receive()]

    def settle(self) -> None:
        """Deliver messages until there are none."""
        while self._waiting:
            self._waiting.pop(0)()

    def tell(self, message: ToWorker, fds: Sequence[int] = ()) -> None:
        self._ours.send(message, fds)
        for fd in fds:
            os.close(fd)
        self.settle()

    def hang_up(self) -> None:
        self._ours.close()
        self.settle()

    def heard(self, kind: type[M]) -> list[M]:
        """The messages of one kind so far."""
        self.settle()
        return [message for message in self.said if isinstance(message, kind)]

    # The supervisor's part

    def slot(self, pool: str, backend: str) -> int:
        return self._slots[pool, backend]

    def snapshot(self, wanted: Config) -> Snapshot:
        self.generation += 1
        members = {(name, backend.name) for name, pool in wanted.pools.items() for backend in pool.backends}
        for name in wanted.pools:
            self._pool_slots.setdefault(name, len(self._pool_slots))
        for key in sorted(members):
            if key not in self._slots:
                self._slots[key] = len(self._slots)
                self.segment.set_backend(self._slots[key], flags=GOOD, weight=1)
        slots = {key: slot for key, slot in self._slots.items() if key in members}
        return Snapshot(
            config=wanted,
            generation=self.generation,
            pool_slots={name: self._pool_slots[name] for name in wanted.pools},
            backend_slots=slots,
            addresses={slot: [f"address {slot}".encode()] for slot in slots.values()},
            sticky_secrets={name: SECRET for name, pool in wanted.pools.items() if pool.sticky is not None},
        )

    def apply(self, wanted: Config) -> None:
        self.tell(Apply(self.snapshot(wanted)))

    def set_state(self, backend: str, *, flags: int = GOOD, weight: int = 1, pool: str = "web") -> None:
        """Write a state and let the engine see it."""
        self.segment.set_backend(self.slot(pool, backend), flags=flags, weight=weight)
        self.segment.bump_generation()
        self.engine.state_changed()

    # What the engine has

    def glue(self, pool: str = "web") -> WorkerPool:
        return self.agent.pools[pool]

    def pool(self, name: str = "web") -> Pool:
        return cast(Pool, self.agent.pools[name].pool)

    def backend(self, name: str, pool: str = "web") -> Backend:
        found = [backend for backend in self.agent.pools[pool].backends if backend.name == name]
        assert len(found) == 1
        return cast(Backend, found[0])

    def eligible(self, pool: str = "web") -> list[str]:
        return [backend.name for backend in self.agent.pools[pool].backends if backend.eligible]

    def picks(self, count: int, pool: str = "web") -> list[str]:
        """Whom so many requests go to, one after the other."""
        chosen = [self.pool(pool).choose() for _ in range(count)]
        return [backend.name if backend is not None else "nobody" for backend in chosen]

    def listener(self) -> Listener:
        (listener,) = self.engine.listeners
        return listener


@contextmanager
def world(wanted: Config | None = None) -> Iterator[World]:
    """A worker that runs a configuration: one pool "web" of b1, b2, b3 where none is given."""
    there = World()
    there.apply(wanted or config())
    yield there
    there.hang_up()


def with_pool(wanted: Config, name: str, **changes: Any) -> Config:
    """The same with one pool changed."""
    pool = msgspec.structs.replace(wanted.pools[name], **changes)
    return msgspec.structs.replace(wanted, pools={**wanted.pools, name: pool})
