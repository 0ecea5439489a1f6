"""What the admin API sees of the supervisor (`admin.host.Host`), and its life beside it."""

from __future__ import annotations

import logging
import time
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from typing import Protocol

from headgate.admin import service
from headgate.admin.host import ListenerState
from headgate.admin.state_file import StateFile
from headgate.config.schema import Admin
from headgate.runtime.controller import Controller
from headgate.runtime.reload import ReloadResult
from headgate.runtime.sockets import BoundSocket

log = logging.getLogger("headgate.admin")


class Steered(Protocol):
    """The supervisor, as far as this file knows it."""

    @property
    def ready(self) -> bool: ...
    @property
    def listener_states(self) -> Sequence[ListenerState]: ...
    async def reload(self) -> ReloadResult: ...
    async def plan(self) -> ReloadResult: ...
    def drain_listener(self, bind: str) -> None: ...
    def open_listener(self, bind: str) -> None: ...


class Steering:
    """The admin API of one supervisor. state_file: "" for none.

    It serves from `start` to `close`; the socket is bound before, so that a second balancer at the same address is
    told at once.
    """

    def __init__(
        self, steered: Steered, controller: Controller, *, config_path: str, state_file: str, loop: AbstractEventLoop
    ) -> None:
        self._steered = steered
        self._controller = controller
        self._config_path = config_path
        self._loop = loop
        self._started_s = time.time()
        self._service: service.Service | None = None
        self._file = StateFile(state_file) if state_file else None
        if self._file is not None:
            controller.on_changes = self._file.note
            # What the rule of `overrides` dropped at the start is not to come back.
            self._file.note(controller.changes)

    async def start(self, config: Admin, bound: BoundSocket) -> None:
        """Serve on this socket."""
        self._service = service.Service(self, config, bound, self._loop)
        await self._service.start()
        log.info("admin API on %s", self._service.address)

    def configure(self, config: Admin) -> None:
        """Other rules for who may ask."""
        if self._service is not None:
            self._service.configure(config)

    async def close(self) -> None:
        """Stop serving; what is to be in the state file is in it afterwards, if that can be."""
        if self._service is not None:
            await self._service.close()
            self._service = None
        await self.saved()

    # What the API asks

    @property
    def config_path(self) -> str:
        return self._config_path

    @property
    def started_s(self) -> float:
        return self._started_s

    @property
    def controller(self) -> Controller:
        return self._controller

    @property
    def ready(self) -> bool:
        return self._steered.ready

    @property
    def listeners(self) -> Sequence[ListenerState]:
        return self._steered.listener_states

    async def reload(self) -> ReloadResult:
        return await self._steered.reload()

    async def plan(self) -> ReloadResult:
        return await self._steered.plan()

    def drain_listener(self, bind: str) -> None:
        self._steered.drain_listener(bind)

    def open_listener(self, bind: str) -> None:
        self._steered.open_listener(bind)

    async def saved(self) -> str | None:
        return None if self._file is None else await self._file.saved()
