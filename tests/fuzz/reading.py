"""What a strict third party (h11) makes of a stream of requests, or of the answer to one: the oracle of the fuzzers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h11


@dataclass
class Asked:
    """One complete request."""

    method: str
    target: str
    body: bytes
    local: bool = False
    """Answered by the balancer itself: TRACE and OPTIONS that may go no further."""


@dataclass
class Answered:
    """What came of the answer to one request: `word` is "taken", "more" or "refused"."""

    word: str
    status: int = 0
    body: bytes = b""
    error: str = field(default="", compare=False)


_ABSOLUTE = re.compile(r"(?i)https?://[^/?]*")


def origin_form(target: str) -> str:
    """An absolute target as a server is asked for it (RFC 9112 section 3.2.1)."""
    found = _ABSOLUTE.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith("/") else "/" + rest


def requests(data: bytes) -> list[Asked]:
    """The complete requests at the start of one connection's bytes, up to the first that h11 refuses."""
    found: list[Asked] = []
    while True:
        # h11 knows no empty lines before a request; a server should skip them (RFC 9112 section 2.2).
        while data.startswith(b"\r\n"):
            data = data[2:]
        asked, rest = _request(data)
        if asked is not None:
            found.append(asked)
        if rest is None:
            return found
        data = rest


def _request(data: bytes) -> tuple[Asked | None, bytes | None]:
    """The first request, and what is behind it; None where there is none that counts."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    asked: Asked | None = None
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                hops = [value for name, value in event.headers if name == b"max-forwards"]
                method = event.method.decode()
                target = origin_form(event.target.decode("latin-1"))
                asked = Asked(
                    method,
                    target,
                    b"",
                    method in ("OPTIONS", "TRACE") and any(hop and not hop.strip(b"0") for hop in hops),
                )
            elif isinstance(event, h11.Data):
                assert asked is not None
                asked.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                # Otherwise that was its last.
                goes_on = connection.our_state is h11.DONE
                return asked, connection.trailing_data[0] if goes_on else None
            else:
                return None, None
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return None, None


def answer(data: bytes, method: str, *, ended: bool) -> Answered:
    """The final answer in a server's bytes. ended: they end with the end of the connection."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    found = Answered("more")
    try:
        connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                found.status = event.status_code
            elif isinstance(event, h11.Data):
                found.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.word = "taken"
                return found
            elif not isinstance(event, h11.InformationalResponse):
                return found
    except h11.RemoteProtocolError as error:
        if "without sending complete message body" not in str(error) and "unexpectedly closed" not in str(error):
            found.word = "refused"
            found.error = str(error)
        return found
