"""A TCP relay between the balancer and a backend: late, cut after so many bytes, or reset there.

It knows nothing of HTTP. What it does to an answer is decided when the request's first bytes come by, and counts the
bytes that the backend sends from then on; so a kept connection can be good for some requests and break in the next.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from ..e2e.harness.ports import HeldPort
from .load import Address
from .sockets import reset


@dataclass(frozen=True, slots=True)
class Fate:
    """Of one answer. after: bytes of it that are let through before the end; None = all. how: "reset" (RST to both
    sides), "cut" (FIN to both), "stall" (nothing more, for ever). delay_s: of each piece, both ways."""

    after: int | None = None
    how: str = "reset"
    delay_s: float = 0.0


Plan = Callable[[int, int], Fate]
"""(mode, number of the request since the relay began) -> what happens to its answer."""


class Relay:
    """A relay process on a port of its own, in front of `target`."""

    def __init__(self, target: Address, plan: Plan) -> None:
        self._target = target
        self._plan = plan
        self._port = HeldPort()
        self._shared = mmap.mmap(-1, 8)
        listener = self._port.listen(4096)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._run(listener)
            finally:
                os._exit(1)
        listener.close()

    @property
    def url(self) -> str:
        return self._port.url

    def tell(self, mode: int) -> None:
        """Change what the plan sees as the mode; 0 at first."""
        self._shared[0] = mode

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._port.close()

    # -- in the relay's own process

    def _run(self, listener: socket.socket) -> None:
        threading.stack_size(256 * 1024)
        numbers = count()
        while True:
            near, _ = listener.accept()
            threading.Thread(target=self._relay, args=(near, numbers), daemon=True).start()

    def _relay(self, near: socket.socket, numbers: count[int]) -> None:
        far = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
        with contextlib.suppress(OSError):
            far.connect(self._target)
            for sock in (near, far):
                if sock.family == socket.AF_INET:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            how = self._pass_on(near, far, numbers)
            if how == "stall":
                with contextlib.suppress(OSError):
                    while near.recv(65536):
                        pass
            elif how == "reset":
                reset(near)
                reset(far)
        near.close()
        far.close()

    def _pass_on(self, near: socket.socket, far: socket.socket, numbers: count[int]) -> str:
        """Until an end that was planned ("reset", "cut", "stall"), or that a side made ("")."""
        fate, passed, answering = Fate(), 0, True
        open_ = {near, far}
        while open_:
            for sock in select.select(list(open_), [], [])[0]:
                data = sock.recv(65536)
                if sock is near and data and answering:
                    fate, passed, answering = self._plan(self._shared[0], next(numbers)), 0, False
                if fate.delay_s:
                    time.sleep(fate.delay_s)
                if not data:
                    open_.remove(sock)
                    (far if sock is near else near).shutdown(socket.SHUT_WR)
                    continue
                if sock is near:
                    far.sendall(data)
                    # A reset before the first byte comes once the request is there, not instead of it.
                else:
                    answering = True
                    if fate.after is not None and passed + len(data) >= fate.after:
                        near.sendall(data[: fate.after - passed])
                        return fate.how
                    near.sendall(data)
                    passed += len(data)
        return ""
