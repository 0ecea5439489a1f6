"""Ports for tests: chosen by the kernel, and held.

A port that was free a moment ago may be taken by the next outgoing connection of anybody on the machine, and then a
restarted backend cannot have its port back; worse, a connection *to* that port may meet itself. So each port is held by
a socket that is bound and never listens: with SO_REUSEADDR on both sides a server may bind and listen beside it, while
the kernel gives the port to nobody else.
"""

from __future__ import annotations

import socket
from types import TracebackType


class HeldPort:
    """A TCP port on 127.0.0.1 (or `host`) reserved until `close`. number: which, where the kernel is not to choose."""

    def __init__(self, host: str = "127.0.0.1", number: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._holder = socket.socket(family, socket.SOCK_STREAM)
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind((host, number))
        self.host = host
        self.number: int = self._holder.getsockname()[1]

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.number

    @property
    def bind(self) -> str:
        """As a listener's `bind` in the configuration."""
        return f"[{self.host}]:{self.number}" if ":" in self.host else f"{self.host}:{self.number}"

    @property
    def url(self) -> str:
        """As a backend's `url` in the configuration."""
        return f"http://{self.bind}"

    def listen(self, backlog: int = 1024) -> socket.socket:
        """A new socket that listens on this port."""
        listener = socket.socket(self._holder.family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        listener.listen(backlog)
        return listener

    def accepts(self) -> bool:
        """True when somebody listens there now."""
        with socket.socket(self._holder.family, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(self.address) == 0

    def close(self) -> None:
        self._holder.close()

    def __enter__(self) -> HeldPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
