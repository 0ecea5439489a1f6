"""Backends that behave badly in one way each, for checks to meet: real sockets on ports the kernel chose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from headgate.runtime.address import pack_address

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Backend:
    """A server; `requests` holds what it was asked, `connections` counts, `resets` those the client reset."""

    def __init__(self) -> None:
        self.address = b""
        self.requests: list[bytes] = []
        self.connections = 0
        self.resets = 0


@contextlib.asynccontextmanager
async def backend(handler: Handler, *, path: str | None = None) -> AsyncIterator[Backend]:
    """Serve every connection with `handler`, which gets the streams after the request's head has been read."""
    server_info = Backend()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server_info.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError):
                server_info.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await handler(reader, writer)
        except ConnectionError:
            server_info.resets += 1
        finally:
            tasks.discard(task)
            writer.close()

    if path is None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        server_info.address = pack_address(socket.AF_INET, server.sockets[0].getsockname())
    else:
        server = await asyncio.start_unix_server(serve, path)
        server_info.address = pack_address(socket.AF_UNIX, path)
    try:
        yield server_info
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answers(data: bytes, *, pause_s: float = 0.0) -> Handler:
    """Answers with these bytes, one at a time if there is a pause, and closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in [data] if not pause_s else [data[at : at + 1] for at in range(len(data))]:
            writer.write(piece)
            await writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)

    return handler


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads and never answers."""
    await reader.read()
    await asyncio.Event().wait()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with a RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def dead_port() -> Iterator[bytes]:
    """An address that refuses: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield pack_address(socket.AF_INET, sock.getsockname())


@contextlib.contextmanager
def black_hole() -> Iterator[bytes]:
    """An address where connecting hangs: a listener whose queue is full drops further SYNs."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield pack_address(socket.AF_INET, listener.getsockname())
