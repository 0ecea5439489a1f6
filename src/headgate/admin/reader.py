"""What waits for one reader of the stream, within bounds."""

from __future__ import annotations

from asyncio import Event
from collections import deque

# What may wait for a reader beyond what the kernel took: twenty seconds of a thousand busy backends.
WAITING_BYTES = 512 * 1024


class Reader:
    """One open stream: what waits to be sent there."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._wake = Event()
        self.behind = False
        """Something could not be kept for it: it needs everything anew."""

    def offer(self, data: bytes) -> None:
        """Keep this until it is read, if there is room."""
        if not self.behind and self._bytes + len(data) <= WAITING_BYTES:
            self._waiting.append(data)
            self._bytes += len(data)
        else:
            self.behind = True
            self._waiting.clear()
            self._bytes = 0
        self._wake.set()

    async def take(self) -> bytes | None:
        """What comes next; None when it is to be told everything anew."""
        await self._wake.wait()
        if self._waiting:
            data = self._waiting.popleft()
            self._bytes -= len(data)
        else:
            data = None
            self.behind = False
        if not self._waiting and not self.behind:
            self._wake.clear()
        return data
