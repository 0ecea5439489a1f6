"""The site as an ASGI application, for uvicorn."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

PIECE = b"x" * 65536


def pieces(total: int) -> Iterator[bytes]:
    while total > 0:
        yield PIECE[: min(total, len(PIECE))]
        total -= len(PIECE)


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    assert scope["type"] == "http"
    kind, _, number = scope["path"].lstrip("/").partition("/")
    length: int | None
    if scope["method"] in ("POST", "PUT"):
        digest, count, more = hashlib.sha256(), 0, True
        while more:
            message = await receive()
            body = message.get("body", b"")
            digest.update(body)
            count += len(body)
            more = message.get("more_body", False)
        parts: Iterator[bytes] = iter([f"{count} {digest.hexdigest()}\n".encode()])
        length = None
    elif kind in ("bytes", "chunked"):
        parts = pieces(int(number))
        length = int(number) if kind == "bytes" else None
    else:
        name = os.environ["SITE_NAME"].encode() + b"\n"
        parts, length = iter([name]), len(name)
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
