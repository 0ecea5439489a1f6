"""The TCP check: a backend that accepts a connection is alive. For `unix:` backends the same on a unix socket."""

from __future__ import annotations

from headgate.errors import Kind
from headgate.health.check import Result


class TcpProbe:
    """Nothing is sent and nothing is read; the connection is closed as soon as it stands."""

    request = b""

    def judge(self, data: bytes, *, eof: bool) -> Result | None:
        """Never waits: being connected was the whole question."""
        return Result(Kind.OK, "connected")
