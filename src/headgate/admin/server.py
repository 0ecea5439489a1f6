"""Serves connections, each for one request, within limits of time, size and number.

It runs in the supervisor's event loop, beside health checks: whoever is slow here waits here. Nothing a stranger can do
costs more than `CONNECTIONS` descriptors for `REQUEST_S` seconds each. Answers without an end (`wire.Streaming`) are
counted by themselves, so that open dashboards do not keep anybody from asking; who does not read one is dropped.
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
from headgate.admin.wire import Answer, Refusal, Request, Streaming, read_body, read_head

log = logging.getLogger("headgate.admin")

# Operators, a dashboard, a scraper or two. What comes beyond is told to come again.
CONNECTIONS = 64
# Dashboards that are open at a time. One costs a descriptor and at most some hundred kilobytes of what it has not read.
STREAMS = 32
# From the connection to the last byte of the request. A head is one packet, a large configuration some hundred.
REQUEST_S = 10.0
# For the peer to take the answer; of one without an end, the next piece.
WRITE_S = 10.0
# A change waits for the workers for 2 s at most (`changes.APPLY_S`).
REST_S = 3.0
# From the turn of the loop in which it accepts a connection to the one in which there is a task that can be waited for
# asyncio takes three. Turns, not a time: on a busy machine a turn takes longer than any time that could be named.
_SETTLE_TURNS = 8
# Pieces are written in parts of so many bytes: a slow reader that does read is none that stands still.
_PART = 64 * 1024
# Behind a request that was refused half-read: as much of the rest is thrown away, so that the peer sees the answer
# instead of a reset (RFC 9112 section 9.6).
_LINGER_BYTES = 256 * 1024
_LINGER_S = 1.0
_BACKLOG = 128

Handler = Callable[[Request], Awaitable[Answer | Streaming]]


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
        self._streams: set[asyncio.Task[None]] = set()
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
            # First it stops to accept. A server that is closed drops a connection that was accepted the turn before.
            for sock in self._server.sockets:
                self._loop.remove_reader(sock.fileno())
            for _ in range(_SETTLE_TURNS):
                await asyncio.sleep(0)
            self._server.close()
            self.end_streams()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=REST_S)
        await self.close()

    def end_streams(self) -> None:
        """End answers without an end: whoever may still ask will ask again."""
        for task in self._streams:
            task.cancel()

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
                    streaming = await self._serve(reader, writer)
                finally:
                    self._serving -= 1
                if streaming is not None:
                    await self._stream(streaming, task, reader, writer)
            elif len(self._tasks) - len(self._streams) <= 2 * CONNECTIONS:
                await _write(writer, _busy(f"{CONNECTIONS} requests are being served already"))
                await _linger(reader)
            else:
                writer.transport.abort()
        except (ConnectionError, TimeoutError, EOFError):
            pass
        except asyncio.CancelledError:
            if self._server is not None and task not in self._streams:
                raise
        finally:
            self._tasks.discard(task)
            self._streams.discard(task)
            # All that was to be sent has been, or the peer did not take it in time.
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> Streaming | None:
        """One request. An answer without an end is left to the caller."""
        peer = _peer(writer)
        head_only = whole = False
        try:
            async with asyncio.timeout(REQUEST_S):
                read = await read_head(reader)
                if read is None:
                    return None
                request, rest = read
                head_only = request.method == "HEAD"
                open_to_all, limit = self._plan(request)
                # Before the body: a stranger's is not even read.
                self.access.check(peer, request.head, open_to_all=open_to_all)
                body = await read_body(request, rest, limit, reader, writer)
            whole = True
            known = self.access.known(peer)
            request = Request(request.method, request.path, request.query, request.head, body, known)
            answer: Answer | Streaming = await self._handle(request)
        except Refusal as refusal:
            answer = Answer.of(refusal)
        except TimeoutError:
            if whole:
                raise
            answer = Answer.of(Refusal(408, "too_slow", f"the request did not come within {REQUEST_S:g} s"))
        except (ConnectionError, EOFError):
            return None
        except Exception:
            log.exception("the admin API failed at a request")
            answer = Answer.of(Refusal(500, "internal", "see the balancer's log"))
        if isinstance(answer, Streaming):
            if not head_only:
                return answer
            await _write(writer, answer.encode())
            return None
        await _write(writer, answer.encode(head_only=head_only))
        if not whole:
            await _linger(reader)
        return None

    async def _stream(
        self, answer: Streaming, task: asyncio.Task[None], reader: StreamReader, writer: StreamWriter
    ) -> None:
        if len(self._streams) >= STREAMS:
            await _write(writer, _busy(f"{STREAMS} streams are being read already"))
            return
        self._streams.add(task)
        gone = self._loop.create_task(_end_of(reader))
        gone.add_done_callback(lambda _: task.cancel())
        try:
            await _pass_on(writer, answer.encode())
            async with contextlib.aclosing(answer.pieces) as pieces:
                async for piece in pieces:
                    for start in range(0, len(piece), _PART):
                        await _pass_on(writer, piece[start : start + _PART])
        except TimeoutError:
            log.info("a reader of the admin API's stream was dropped: it took nothing for %g s", WRITE_S)
            writer.transport.abort()
        finally:
            gone.cancel()


async def _pass_on(writer: StreamWriter, data: bytes) -> None:
    writer.write(data)
    async with asyncio.timeout(WRITE_S):
        await writer.drain()


async def _end_of(reader: StreamReader) -> None:
    """Until the peer has gone. What it says meanwhile is thrown away."""
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass


def _busy(reason: str) -> bytes:
    return Answer.of(Refusal(503, "busy", reason, headers=(("Retry-After", "1"),))).encode()


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
