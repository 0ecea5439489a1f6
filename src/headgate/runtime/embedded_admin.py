"""The admin API of a balancer that is part of somebody's program: served where `admin.bind` says so.

Without it there is none: a library that opens a socket in a well-known place, unasked, would surprise. (A balancer of
its own, `headgate run`, has one by default.)
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence

from headgate.admin.host import ListenerState
from headgate.config.schema import Admin, Config
from headgate.engine.decisions import Decisions
from headgate.runtime.controller import Controller
from headgate.runtime.reload import ReloadResult
from headgate.runtime.sockets import BoundSocket
from headgate.runtime.steering import Steering, admin_socket

_ITS_PROGRAM = "this balancer is part of a program, which alone can do that (LoadBalancer.apply)"


def bind_admin(config: Config) -> BoundSocket | None:
    """The socket of the configured admin API, if one is. Raises CannotBind, and ValueError for settings of one that is
    nowhere."""
    admin = config.admin
    if admin is None or admin == Admin():
        return None
    if admin.bind is None:
        raise ValueError(
            "admin: inside a program the admin API has no default place: set admin.bind, or remove [admin]"
        )
    return admin_socket(admin)


class EmbeddedAdmin:
    """The API of one run, as `Steering` sees what it steers. ready: are clients let in?"""

    def __init__(
        self,
        controller: Controller,
        decisions: Decisions,
        listeners: Sequence[BoundSocket],
        ready: Callable[[], bool],
        loop: AbstractEventLoop,
    ) -> None:
        self._controller = controller
        self._listeners = listeners
        self._ready = ready
        self._decisions = decisions
        self._steering = Steering(self, controller, controller.config.admin, config_path=None, loop=loop)

    async def start(self, bound: BoundSocket) -> None:
        """Serve."""
        await self._steering.start(bound)

    async def close(self) -> None:
        """Serve no more; what is to be in the state file is in it afterwards."""
        await self._steering.close()

    # What the API asks

    @property
    def ready(self) -> bool:
        return self._ready()

    @property
    def listener_states(self) -> Sequence[ListenerState]:
        texts = [listener.bind.text for listener in self._controller.config.listeners]
        return [
            ListenerState(bound.bind.text, "open" if self._ready() else "closed", text)
            for bound, text in zip(self._listeners, texts, strict=True)
        ]

    @property
    def decisions(self) -> Decisions:
        return self._decisions

    async def reload(self) -> ReloadResult:
        return ReloadResult(False, (_ITS_PROGRAM,))

    async def plan(self) -> ReloadResult:
        return ReloadResult(False, (_ITS_PROGRAM,))

    async def drain_listener(self, bind: str) -> None:
        raise ValueError(_ITS_PROGRAM)

    async def open_listener(self, bind: str) -> None:
        raise ValueError(_ITS_PROGRAM)
