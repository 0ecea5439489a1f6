"""The HTTP check: one request on a fresh connection; the status of the answer decides.

The answer goes through the engine's own parser, so that a backend whose answers traffic could not use is not called
healthy. The body is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from headgate.engine.http1 import parse_response_head
from headgate.errors import Kind
from headgate.health.check import Result

# A health answer has no business with a head beyond what traffic may have (the engine's own limit is 32 KiB).
MOST_HEAD_BYTES = 64 * 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_TARGET = re.compile(r"[\x21-\x7e]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5


class HttpProbe:
    """Sends one request, made once, and accepts the statuses given.

    method, path: the request line, in origin form. host: the Host field. accepts: whether a final status passes.
    headers: extra fields; they replace ours of the same name. Raises ValueError for what cannot stand in a request.
    """

    def __init__(
        self,
        *,
        method: str,
        path: str,
        host: str,
        accepts: Callable[[int], bool],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not _TOKEN.fullmatch(method):
            raise ValueError(f"not a request method: {method!r}")
        if not _TARGET.fullmatch(path) or not path.startswith("/"):
            raise ValueError(f"not a request path (it starts with / and has no spaces): {path!r}")
        fields = {"Host": host, "User-Agent": "headgate-health", "Accept": "*/*", "Connection": "close"}
        lower = {name.lower(): name for name in fields}
        for name, value in (headers or {}).items():
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"not a header name: {name!r}")
            fields.pop(lower.get(name.lower(), ""), None)
            fields[name] = value
        for name, value in fields.items():
            if not _VALUE.fullmatch(value):
                raise ValueError(f"not a header value for {name}: {value!r}")
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self.request = "\r\n".join(lines).encode("latin-1")
        self._head_request = method == "HEAD"
        self._accepts = accepts

    def judge(self, data: bytes, *, eof: bool) -> Result | None:
        """See `Probe.judge`. Interim answers (1xx) are passed over."""
        while True:
            try:
                head = parse_response_head(data, self._head_request)
            except ValueError as error:
                return Result(Kind.BAD_HEAD, f"not an HTTP answer: {error}")
            if head is None:
                if len(data) > MOST_HEAD_BYTES:
                    return Result(Kind.BAD_HEAD, f"more than {MOST_HEAD_BYTES} bytes without a complete head")
                if eof:
                    return Result(Kind.RESET, "closed before a complete answer" if data else "closed without an answer")
                return None
            if head.status >= 200:
                break
            data = data[head.length :]
        if self._accepts(head.status):
            return Result(Kind.OK, f"status {head.status}")
        return Result(Kind.BAD_STATUS, f"status {head.status}")
