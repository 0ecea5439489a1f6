"""Eight servers in one process, as slow and as stalled as those of the simulation: they sleep, they do not work.

    python -m bench.order_backends

Prints their ports on one line. `GET /?work=S` is answered after S seconds of service at the server it came to: in one
of its slots, after those that came before, and not while it stalls. Time starts with the first request.
"""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import parse_qs, urlsplit

from headgate.simulate.server import Station

from .order_scenario import SERVERS

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


class _Time:
    """Seconds since the first request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._zero: float | None = None

    def now(self) -> float:
        if self._zero is None:
            self._zero = self._loop.time()
        return self._loop.time() - self._zero

    def at(self, when: float) -> float:
        assert self._zero is not None
        return self._zero + when


class _Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, station: Station, time: _Time) -> None:
        self._station = station
        self._time = time
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        target = self._head.split(b" ", 2)[1].decode()
        self._head = b""
        work = float(parse_qs(urlsplit(target).query)["work"][0])
        end = self._station.accept(self._time.now(), work)
        asyncio.get_running_loop().call_at(self._time.at(end), self._answer)

    def _answer(self) -> None:
        self._station.active -= 1
        if self._transport is not None:
            self._transport.write(_ANSWER)


async def main() -> None:
    loop = asyncio.get_running_loop()
    time = _Time(loop)
    ports = []
    for slot, spec in enumerate(SERVERS):
        station = spec.open(slot)
        server = await loop.create_server(lambda station=station: _Connection(station, time), "127.0.0.1", 0)  # type: ignore[misc]
        ports.append(server.sockets[0].getsockname()[1])
    print("ports", *ports, flush=True)
    await loop.create_future()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
