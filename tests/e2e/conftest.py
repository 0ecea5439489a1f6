"""Fixtures that end what a test started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from headgate.cli.admin_client import Connection

from .harness.backends import Backend, Script, name_itself
from .harness.headgate import Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.processes import Processes


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts programs; ends those still running when the test is over."""
    with Processes() as running:
        yield running


@pytest.fixture
def port() -> Iterator[HeldPort]:
    """A port for the balancer to listen on."""
    with HeldPort() as held:
        yield held


@pytest.fixture
def stack(processes: Processes) -> Iterator[ExitStack]:
    """For what a test wants closed at its end, after the programs have ended (they are asked for first)."""
    with ExitStack() as exits:
        # The balancer ends before the backends: their scripts then see the end of their connections.
        exits.callback(processes.close)
        yield exits


class MakeBackend(Protocol):
    def __call__(self, script: Script = ..., name: str = ...) -> Backend: ...


@pytest.fixture
def make_backend(stack: ExitStack, processes: Processes) -> MakeBackend:
    """Makes scripted backends that end with the test, after the balancer has."""

    def make(script: Script = name_itself, name: str = "backend") -> Backend:
        backend = Backend(script, name)
        stack.callback(backend.close)
        stack.callback(processes.close)
        return backend

    return make


@pytest.fixture
def three(make_backend: MakeBackend) -> list[Backend]:
    """Three backends that answer with their names: a, b, c."""
    return [make_backend(name=name) for name in "abc"]


@pytest.fixture
def place(tmp_path: Path) -> dict[str, object]:
    """The `[admin]` table of a balancer of this test."""
    return {"bind": f"unix:{tmp_path}/admin.sock"}


@pytest.fixture
def admin(place: dict[str, object]) -> Connection:
    """Asks that admin API."""
    return Connection(str(place["bind"]))


class Run(Protocol):
    def __call__(
        self, config: Mapping[str, object] | str, *, arguments: Sequence[str | Path] = ..., ready: bool = ...
    ) -> Headgate: ...


@pytest.fixture
def run(processes: Processes, tmp_path: Path, port: HeldPort) -> Run:
    """Starts `headgate run` with a configuration whose (first) listener is on `port`."""

    def start(
        config: Mapping[str, object] | str, *, arguments: Sequence[str | Path] = (), ready: bool = True
    ) -> Headgate:
        return Headgate.run(processes, tmp_path, config, port, arguments=arguments, ready=ready)

    return start


Balance = Callable[..., Headgate]


@pytest.fixture
def balance(run: Run, port: HeldPort) -> Balance:
    """Starts a balancer with one pool, `web`, over the given backends; `keys` are the keys of the pool."""

    def start(
        *backends: Backend | str | dict[str, object],
        listener: dict[str, object] | None = None,
        top: dict[str, object] | None = None,
        arguments: Sequence[str | Path] = (),
        **keys: object,
    ) -> Headgate:
        urls = [backend.url if isinstance(backend, Backend) else backend for backend in backends]
        return run(
            configuration(port, {"web": pool(*urls, **keys)}, listener=listener, **(top or {})), arguments=arguments
        )

    return start
