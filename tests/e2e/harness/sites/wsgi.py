"""The site as a WSGI application, for gunicorn."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any

from tests.e2e.harness.sites.asgi import pieces


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    kind, _, number = environ["PATH_INFO"].lstrip("/").partition("/")
    headers: list[tuple[str, str]] = []
    parts: Iterable[bytes]
    if environ["REQUEST_METHOD"] in ("POST", "PUT"):
        digest, count = hashlib.sha256(), 0
        while data := environ["wsgi.input"].read(65536):
            digest.update(data)
            count += len(data)
        parts = [f"{count} {digest.hexdigest()}\n".encode()]
    elif kind in ("bytes", "chunked"):
        parts = pieces(int(number))
        if kind == "bytes":
            headers.append(("Content-Length", number))
    else:
        parts = [os.environ["SITE_NAME"].encode() + b"\n"]
        headers.append(("Content-Length", str(len(os.environ["SITE_NAME"]) + 1)))
    start_response("200 OK", headers)
    return parts
