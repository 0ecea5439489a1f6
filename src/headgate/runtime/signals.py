"""What each signal means to the supervisor. Workers ignore them all: Ctrl-C reaches the whole process group."""

from __future__ import annotations

import signal
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

# A person at the terminal does not wait for a balancer in front to notice.
STOP_NOW = signal.SIGINT
STOP = (signal.SIGTERM, signal.SIGQUIT)
REOPEN_LOGS = signal.SIGUSR1
RELOAD = signal.SIGHUP
UPGRADE = signal.SIGUSR2
MORE = signal.SIGTTIN
FEWER = signal.SIGTTOU
CHILD = signal.SIGCHLD


class Signals:
    """Handlers in an event loop, taken away again by `close`. Only in the main thread."""

    def __init__(self, loop: AbstractEventLoop, handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
        self._loop = loop
        self._numbers = tuple(handlers)
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)

    def close(self) -> None:
        """Back to the defaults."""
        for number in self._numbers:
            self._loop.remove_signal_handler(number)
