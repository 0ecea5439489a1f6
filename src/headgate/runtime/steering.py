"""The admin API beside the supervisor: its socket, its state file, and what it sees (`admin.host.Host`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from typing import Protocol

from headgate.admin import place
from headgate.admin.host import ListenerState
from headgate.admin.service import Service
from headgate.admin.state_file import StateFile, load
from headgate.config.addresses import Bind
from headgate.config.schema import Admin, Config
from headgate.engine.decisions import Decisions
from headgate.runtime.controller import Controller
from headgate.runtime.listening import fits
from headgate.runtime.overrides import NONE, Changes
from headgate.runtime.reload import ReloadResult
from headgate.runtime.sockets import BoundSocket, CannotBind

log = logging.getLogger("headgate.admin")


def load_changes(config: Config) -> Changes:
    """What was changed in earlier runs, where a state file keeps it. Raises StateFileError."""
    if config.admin is None or not config.admin.state_file:
        return NONE
    return load(config.admin.state_file, config)


def admin_socket(config: Admin | None, inherited: int | None = None) -> BoundSocket | None:
    """The listening socket for this configuration; None where there is to be none, or where the default cannot be had.

    inherited: the descriptor of the version before, which is used where it fits. Raises CannotBind for a configured
    address.
    """
    if inherited is not None and (adopted := _adopt(config, inherited)) is not None:
        return adopted
    if config is None:
        return None
    if config.bind is not None:
        return place.bind_configured(config.bind)
    try:
        return place.bind_default()
    except CannotBind as error:
        log.warning("%s", error)
        return None


def _adopt(config: Admin | None, inherited: int) -> BoundSocket | None:
    sock = socket.socket(fileno=inherited)
    sock.set_inheritable(False)
    name = sock.getsockname()
    bind = config.bind if config is not None else None
    if config is not None and bind is None and sock.family == socket.AF_UNIX:
        # The default place, if the socket is there.
        bind = Bind(f"unix:{name}", "unix", path=name) if os.path.dirname(name) == str(place.directory()) else None
    elif bind is not None and bind.family != "unix" and bind.port == 0 and sock.family != socket.AF_UNIX:
        bind = Bind.parse(f"{bind.text.removesuffix('0')}{name[1]}")
    if bind is not None and fits(bind, sock):
        if bind.family != "unix":
            return BoundSocket(sock, bind)
        with contextlib.suppress(OSError):  # where somebody removed the file, nobody could find us
            found = os.lstat(bind.path)
            return BoundSocket(sock, bind, (found.st_dev, found.st_ino))
    sock.close()
    return None


def check_admin(old: Admin | None, new: Admin | None) -> None:
    """Raises ValueError for what a reload cannot change."""
    if (old is None) != (new is None):
        raise ValueError("admin: to turn it on or off needs a restart or an upgrade (SIGUSR2)")
    for key in ("bind", "state_file"):
        if getattr(old, key, None) != getattr(new, key, None):
            raise ValueError(f"admin.{key}: a change needs a restart or an upgrade (SIGUSR2)")


class Steered(Protocol):
    """The supervisor, as far as this file knows it."""

    @property
    def ready(self) -> bool: ...
    @property
    def listener_states(self) -> Sequence[ListenerState]: ...
    @property
    def decisions(self) -> Decisions: ...
    async def reload(self) -> ReloadResult: ...
    async def plan(self) -> ReloadResult: ...
    async def drain_listener(self, bind: str) -> None: ...
    async def open_listener(self, bind: str) -> None: ...


class Steering:
    """The admin API of one supervisor, from `start` to `close`. config: None where there is to be none."""

    def __init__(
        self,
        steered: Steered,
        controller: Controller,
        config: Admin | None,
        *,
        config_path: str | os.PathLike[str] | None,
        loop: AbstractEventLoop,
    ) -> None:
        self._steered = steered
        self._controller = controller
        self._config = config
        self._config_path = "" if config_path is None else os.fspath(config_path)
        self._loop = loop
        self._started_s = time.time()
        self._service: Service | None = None
        self._file: StateFile | None = None
        self._writing: set[asyncio.Task[str]] = set()
        if config is not None and config.state_file:
            self._file = StateFile(config.state_file)
            controller.on_changes = self._changed
            # What the rule of `overrides` dropped at the start is not to come back.
            self._file.note(controller.changes)

    async def start(self, bound: BoundSocket | None) -> None:
        """Serve on this socket, if there is one."""
        if self._config is not None and bound is not None:
            self._service = Service(self, self._config, bound, self._loop)
            await self._service.start()
            log.info("admin API on %s", self._service.address)

    async def rest(self) -> None:
        """Before an upgrade: finish what was asked, and let who comes now wait for the new version."""
        if self._service is not None:
            await self._service.rest()
        await self.saved()

    async def resume(self) -> None:
        """There is no new version: go on."""
        if self._service is not None:
            await self._service.start()

    def _changed(self, changes: Changes) -> None:
        """By the API, which waits for `saved`, or by a signal, for which nobody waits."""
        assert self._file is not None
        self._file.note(changes)
        task = self._loop.create_task(self._file.saved())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

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

    @property
    def decisions(self) -> Decisions:
        return self._steered.decisions

    async def reload(self) -> ReloadResult:
        return await self._steered.reload()

    async def plan(self) -> ReloadResult:
        return await self._steered.plan()

    async def drain_listener(self, bind: str) -> None:
        await self._steered.drain_listener(bind)

    async def open_listener(self, bind: str) -> None:
        await self._steered.open_listener(bind)

    async def saved(self) -> str | None:
        return None if self._file is None else await self._file.saved()
