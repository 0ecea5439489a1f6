"""Serves connections, each for one request, within limits of time, size and number.

It runs in the supervisor's event loop, beside health checks: whoever is slow here waits here. Nothing a stranger can do
costs more than `CONNECTIONS` descriptors for `REQUEST_S` seconds each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from asyncio import AbstractEventLoop, StreamReader, StreamWriter
from collections.abc import Awaitable, Callable

from headgate.admin.access import Access, Peer
from headgate.admin.wire import Answer, Refusal, Request, read_body, read_head

log = logging.getLogger("headgate.admin")

# Operators, a dashboard, a scraper or two. What comes beyond is told to come again.
CONNECTIONS = 64
# From the connection to the last byte of the request. A head is one packet, a large configuration some hundred.
REQUEST_S = 10.0
# For the peer to take the answer.
WRITE_S = 10.0
# A change waits for the workers for 2 s at most (`changes.APPLY_S`).
REST_S = 3.0
_SETTLE_S = 0.01
# Behind a request that was refused half-read: as much of the rest is thrown away, so that the peer sees the answer
# instead of a reset (RFC 9112 section 9.6).
_LINGER_BYTES = 256 * 1024
_LINGER_S = 1.0
_BACKLOG = 128

Handler = Callable[[Request], Awaitable[Answer]]


class Server:
    """Answers on one bound socket.

    plan: what is known once the head is there: (open to all, largest body). handle: answers a request that may be
    answered; a `Refusal` it raises is sent, anything else becomes a 500.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        access: Access,
        plan: Callable[[Request], tuple[bool, int]],
        handle: Handler,
    ) -> None:
        self._loop = loop
        self.access = access
        self._plan = plan
        self._handle = handle
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving = 0
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Listen on a bound socket, which this takes over."""
        self._server = await asyncio.start_server(self._connected, sock=sock, backlog=_BACKLOG, limit=64 * 1024)

    async def rest(self) -> None:
        """Accept nobody more and finish what is under way; what takes longer than `REST_S` is ended.

        Where somebody else holds the socket, too, who comes meanwhile waits in its queue until `start` is called again,
        here or in the process after this one.
        """
        if self._server is not None:
            self._server.close()
            # The loop accepts first, and some turns later there is a task that can be waited for.
            await asyncio.sleep(_SETTLE_S)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=REST_S)
        await self.close()

    async def close(self) -> None:
        """Stop listening, and end what is under way."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        crowded = self._serving >= CONNECTIONS
        self._tasks.add(task)
        writer.transport.set_write_buffer_limits(0)  # drained means: the kernel has all of it
        try:
            if not crowded:
                self._serving += 1
                try:
                    await self._serve(reader, writer)
                finally:
                    self._serving -= 1
            elif len(self._tasks) <= 2 * CONNECTIONS:
                reason = f"{CONNECTIONS} requests are being served already"
                await _write(writer, Answer.of(Refusal(503, "busy", reason, headers=(("Retry-After", "1"),))).encode())
                await _linger(reader)
            else:
                writer.transport.abort()
        except (ConnectionError, TimeoutError, EOFError):
            pass
        except asyncio.CancelledError:
            if self._server is not None:
                raise
        finally:
            self._tasks.discard(task)
            # All that was to be sent has been, or the peer did not take it in time.
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        peer = _peer(writer)
        head_only = whole = False
        try:
            async with asyncio.timeout(REQUEST_S):
                read = await read_head(reader)
                if read is None:
                    return
                request, rest = read
                head_only = request.method == "HEAD"
                open_to_all, limit = self._plan(request)
                # Before the body: a stranger's is not even read.
                self.access.check(peer, request.head, open_to_all=open_to_all)
                body = await read_body(request, rest, limit, reader, writer)
            whole = True
            request = Request(request.method, request.path, request.query, request.head, body)
            answer = await self._handle(request)
        except Refusal as refusal:
            answer = Answer.of(refusal)
        except TimeoutError:
            if whole:
                raise
            answer = Answer.of(Refusal(408, "too_slow", f"the request did not come within {REQUEST_S:g} s"))
        except (ConnectionError, EOFError):
            return
        except Exception:
            log.exception("the admin API failed at a request")
            answer = Answer.of(Refusal(500, "internal", "see the balancer's log"))
        await _write(writer, answer.encode(head_only=head_only))
        if not whole:
            await _linger(reader)


def _peer(writer: StreamWriter) -> Peer:
    sock = writer.get_extra_info("socket")
    if sock.family != socket.AF_UNIX:
        return Peer()
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Peer(uid)


async def _write(writer: StreamWriter, data: bytes) -> None:
    writer.write(data)
    async with asyncio.timeout(WRITE_S):
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _linger(reader: StreamReader) -> None:
    """Throw away what still comes, within bounds."""
    left = _LINGER_BYTES
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while left > 0 and (data := await reader.read(65536)):
                left -= len(data)
