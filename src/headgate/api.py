"""The Python API: a load balancer as an object of your program. docs/python-api.md has the story and examples."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from headgate import __version__
from headgate.config import schema
from headgate.config.load import load
from headgate.config.schema import Config
from headgate.observe import logging as own_logging
from headgate.observe import status as document
from headgate.runtime.embedded import CannotStart, Embedded
from headgate.runtime.given import Given
from headgate.runtime.supervisor import raise_open_files, serve

# Checks take milliseconds at least; looking costs microseconds.
_LOOK_AGAIN_S = 0.01

__all__ = ["BackendView", "CannotStart", "LoadBalancer", "NotRunning", "PoolView"]


class NotRunning(RuntimeError):
    """What was asked for exists only while the load balancer runs."""


@dataclass(frozen=True, slots=True)
class BackendView:
    """A backend as it was when it was asked for."""

    pool: str
    name: str
    url: str
    weight: int
    state: document.State
    """ "up", "down", "unchecked", "disabled", "draining", "drained", "ejected" or "half_open"."""
    reason: str
    """Why it is in this state, for people."""
    healthy: bool
    """Does it get requests?"""
    active: int
    """Attempts in flight."""
    total: int
    """Attempts started."""
    failed: int
    """Attempts that count against it."""


class PoolView:
    """One pool of a running load balancer: always as it is now.

    A backend is named by its `name`, or by its URL where only one has it. Changes are in force when the method returns;
    made from inside a strategy, they are as soon as the engine has dealt with the events at hand. Methods raise
    ValueError, with a text for people, when there is no such backend or the value cannot be; then nothing has changed.
    After the load balancer stopped they raise NotRunning.
    """

    def __init__(self, balancer: LoadBalancer, name: str) -> None:
        self._balancer = balancer
        self.name = name

    @property
    def config(self) -> schema.Pool:
        """Its configuration as it is now, changes included."""
        return self._balancer._pool_config(self.name)

    @property
    def strategy(self) -> str:
        """The name of its strategy."""
        return self.config.strategy.name

    @property
    def backends(self) -> list[BackendView]:
        """In the order of the configuration; added ones come last."""
        return [_view(row) for row in self._balancer._status([self.name]).backends]

    def __getitem__(self, backend: str) -> BackendView:
        """One backend, by name or URL. Raises KeyError."""
        try:
            name = self._run.controller.backend(self.name, backend).config.name
        except ValueError as error:
            raise KeyError(str(error)) from None
        return next(view for view in self.backends if view.name == name)

    def add(self, url: str, *, weight: int = 1, name: str | None = None, priority: int = 0) -> BackendView:
        """One backend more. It gets requests as soon as its first check has passed."""
        record = self._run.controller.add_backend(self.name, url, weight, name, priority=priority)
        self._run.settle()
        return self[record.config.name]

    def remove(self, backend: str) -> None:
        """No new request from now on; those in flight finish."""
        self._run.controller.remove_backend(self.name, backend)
        self._run.settle()

    def drain(self, backend: str, deadline_s: float | None = None) -> None:
        """No new sessions; clients bound to it by a cookie stay. `enable` ends it.

        deadline_s: after so many seconds they go elsewhere, too, and all connections to it are closed. None: never.
        """
        self._run.controller.drain_backend(self.name, backend, deadline_s)
        self._run.settle()

    def disable(self, backend: str) -> None:
        """No new request at all; those in flight finish. `enable` ends it."""
        self._run.controller.disable_backend(self.name, backend)
        self._run.settle()

    def enable(self, backend: str) -> None:
        """Back from `drain` or `disable`."""
        self._run.controller.enable_backend(self.name, backend)
        self._run.settle()

    def set_weight(self, backend: str, weight: int) -> None:
        """0 to 256. 0: clients bound to it by a cookie only."""
        self._run.controller.set_weight(self.name, backend, weight)
        self._run.settle()

    async def wait_until(
        self, backend: str, condition: Callable[[BackendView], bool], *, timeout_s: float | None = None
    ) -> BackendView:
        """Wait until something is so of a backend, and return it as it is then.

        Raises KeyError when there is no such backend (any more), TimeoutError after `timeout_s` seconds.
        """
        async with asyncio.timeout(timeout_s):
            while not condition(view := self[backend]):  # noqa: ASYNC110
                # States and counters change in shared memory, which wakes nobody.
                await asyncio.sleep(_LOOK_AGAIN_S)
        return view

    def set_strategy(self, strategy: object, **options: Any) -> None:
        """Pick backends another way: "p2c", "package.module:Class", a class, or an object with `update` and `pick`.

        options: passed on to the class, which is made twice: once here, to see that it can be. Raises ValueError when
        it cannot.
        """
        run = self._run
        chosen = self._balancer._given.strategy(strategy, options)
        run.make_strategy(chosen)  # raises what is wrong with it, here where it can be told
        run.controller.set_strategy(self.name, chosen)
        run.settle()

    @property
    def _run(self) -> Embedded:
        return self._balancer._run

    def __repr__(self) -> str:
        return f"<pool {self.name}>"


class _Pools(Mapping[str, PoolView]):
    """The pools there are now."""

    def __init__(self, balancer: LoadBalancer) -> None:
        self._balancer = balancer

    def __getitem__(self, name: str) -> PoolView:
        if name not in self._balancer.config.pools:
            raise KeyError(name)
        return PoolView(self._balancer, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._balancer.config.pools)

    def __len__(self) -> int:
        return len(self._balancer.config.pools)


class LoadBalancer:
    """A load balancer inside an asyncio program (any event loop with `add_reader`, so uvloop as well).

        async with LoadBalancer(to=["http://127.0.0.1:9001"], listen="127.0.0.1:0") as balancer:
            print(balancer.addresses)

    config: a `Config`, the path of a configuration file, or a mapping with the keys of one. Without it the keywords of
    the short form are taken: `to` (backends), `listen`, `strategy`, `sticky`, `health_path`, `timeout`... (see
    `headgate.config.simple.simple_tree`); the access log is off then. In a mapping and in the short form a strategy may
    also be a class or an object of your own.

    app_dir: where the module of a strategy named "module:Class" is looked for, besides the path.

    Raises ConfigError with all mistakes at once. Not thread-safe: use it from the event loop's thread.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        app_dir: str | None = None,
        **short: Any,
    ) -> None:
        if config is not None and short:
            raise TypeError(f"either a configuration or keywords, not both: {', '.join(short)}")
        self._app_dir = app_dir
        self._given = Given()
        self._embedded: Embedded | None = None
        self._starting = False
        self._path: str | None = None
        if config is None:
            self._config = self._given.from_keywords(short)
        elif isinstance(config, Config):
            self._config = config
        elif isinstance(config, Mapping):
            self._config = self._given.from_mapping(config)
        else:
            self._path = os.fspath(config)
            self._config = load(config)

    # Running

    async def start(self) -> None:
        """Bind, resolve names, wait for the first checks (2 s at most), let clients in.

        Raises CannotBind (an address is taken, and by whom) or CannotStart; then nothing is left behind. RuntimeError
        when it runs already. It may be started again after it was stopped.
        """
        if self._embedded is not None or self._starting:
            raise RuntimeError("this load balancer runs already")
        self._starting = True
        try:
            self._embedded = await Embedded.start(self._config, self._given.strategies, self._app_dir)
        finally:
            self._starting = False

    async def stop(self, drain_s: float | None = None) -> None:
        """Let nobody in any more, finish what is in flight, close everything.

        drain_s: how many seconds requests in flight may take; `supervisor.drain` of the configuration (30 s) when
        None. What is left then is cut off. Called again while it waits, it sets another deadline. Does nothing when
        it does not run.
        """
        run = self._embedded
        if run is None:
            return
        try:
            await run.stop(self._config.supervisor.drain if drain_s is None else drain_s)
        finally:
            if self._embedded is run:
                self._config = run.controller.config
                self._embedded = None

    async def __aenter__(self) -> LoadBalancer:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, drain, return. For programs that do nothing else, in the main thread.

        With `workers = 1` all happens in this process. With more it is what `headgate run` does: this process
        supervises and worker processes carry the traffic; a strategy of your own must then be named "module:Class",
        since workers import it by themselves. A second signal ends at once. SIGUSR1 opens the access log anew.

        Raises CannotBind and CannotStart.
        """
        if self._config.workers == 1:
            asyncio.run(self._run_here())
            return
        here = {pool.strategy.name for pool in self._config.pools.values()} & self._given.strategies.keys()
        if here:
            raise CannotStart(f'worker processes cannot share {", ".join(here)}: name the strategy "module:Class"')
        code = serve(self._config, app_dir=self._app_dir, config_path=self._path)
        if code:
            raise CannotStart(f"the supervisor ended with exit code {code}; its log says why")

    async def _run_here(self) -> None:
        loop = asyncio.get_running_loop()
        if not logging.getLogger("headgate").hasHandlers():
            own_logging.configure()
        raise_open_files()
        signals: asyncio.Queue[int] = asyncio.Queue()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            loop.add_signal_handler(number, signals.put_nowait, number)
        await self.start()
        try:
            while await signals.get() == signal.SIGUSR1:
                self._run.reopen_logs()
            stopping = asyncio.create_task(self.stop())
            again = asyncio.create_task(signals.get())
            await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
            again.cancel()
            if not stopping.done():
                await self.stop(0)
            await stopping
        finally:
            await self.stop(0)

    # Looking at it

    @property
    def running(self) -> bool:
        """Between the end of `start` and the end of `stop`."""
        return self._embedded is not None

    @property
    def config(self) -> Config:
        """The configuration as it is now: changes made while it runs are in it."""
        return self._config if self._embedded is None else self._embedded.controller.config

    @property
    def addresses(self) -> list[str]:
        """Where clients are let in, one for each listener: "127.0.0.1:8080", "unix:/run/hg.sock". Ports are the real
        ones where the configuration says 0. Raises NotRunning."""
        return self._run.addresses

    @property
    def pools(self) -> Mapping[str, PoolView]:
        """The pools by name."""
        return _Pools(self)

    def status(self) -> dict[str, Any]:
        """The document of the status page: `backends`, `pools` and `totals`. Raises NotRunning."""
        return cast(dict[str, Any], msgspec.to_builtins(self._status(self.config.pools)))

    def apply(self, config: Config | Mapping[str, Any]) -> None:
        """Become another configuration. What stays keeps its connections, health and counters; a pool whose strategy
        stays keeps that, too.

        Raises ConfigError for a mapping with mistakes, ValueError when it cannot be done while running: listeners,
        workers, the access log and the admin API stay as they are until a restart.
        """
        if not isinstance(config, Config):
            config = self._given.from_mapping(config)
        run = self._run
        for key in ("listeners", "workers", "access_log", "admin"):
            if getattr(config, key) != getattr(self.config, key):
                raise ValueError(f"a change of `{key}` needs a restart")
        for pool in config.pools.values():
            run.make_strategy(pool.strategy)
        run.controller.apply(config)
        run.settle()

    # Inside

    @property
    def _run(self) -> Embedded:
        if self._embedded is None:
            raise NotRunning("this load balancer does not run")
        return self._embedded

    def _pool_config(self, name: str) -> schema.Pool:
        try:
            return self.config.pools[name]
        except KeyError:
            raise ValueError(f"the pool {name!r} has been removed") from None

    def _status(self, pools: Iterable[str]) -> document.Status:
        run = self._run
        rows = [
            (record.pool, record.config.name, record.config.url.text, record.slot)
            for pool in pools
            for record in run.controller.backends(pool)
        ]
        slots = run.controller.snapshot().pool_slots
        return document.build(
            run.segment,
            rows,
            version=__version__,
            pool_slots={name: slots[name] for name in self.config.pools},
            in_panic=run.controller.in_panic,
            stand_ins=run.controller.stand_ins,
            certificates=run.controller.certificates,
        )

    def __repr__(self) -> str:
        state = f"on {', '.join(self.addresses)}" if self.running else "not running"
        return f"<LoadBalancer {state}>"


def _view(row: document.BackendStatus) -> BackendView:
    return BackendView(
        pool=row.pool,
        name=row.name,
        url=row.url,
        weight=row.weight,
        state=row.state,
        reason=row.reason,
        healthy=row.healthy,
        active=row.active_connections,
        total=row.total_requests,
        failed=row.failed,
    )
