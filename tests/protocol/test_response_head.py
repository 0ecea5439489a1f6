"""Response heads, rule by rule, and what health checks see of them."""

from __future__ import annotations

import pytest

from headgate.engine.codec_testing import Message, parse_response
from headgate.engine.http1 import parse_response_head


def answer(
    *lines: bytes, start: bytes = b"HTTP/1.1 200 OK", method: str = "GET", flags: tuple[str, ...] = ()
) -> Message:
    data = start + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse_response(data, method=method, request_flags=flags)


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK"),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.0 404 Not Found", 404, b"Not Found"),
        (b"HTTP/1.3 599 a\tb \xe4", 599, b"a\tb \xe4"),
        (b"HTTP/1.1 299 200 200", 299, b"200 200"),
    ],
)
def test_status_line(line: bytes, status: int, reason: bytes) -> None:
    message = answer(start=line)
    assert (message.status, message.reason) == (status, reason)
    assert message.result > 0


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 600 x",
        b"HTTP/1.1 20 x",
        b"HTTP/1.1 2000 x",
        b"HTTP/1.1 200x",
        b"HTTP/1.1\t200 x",
        b"HTTP/1.1  200 x",
        b" HTTP/1.1 200 x",
        b"HTTP/2.0 200 x",
        b"HTTP/1 200 x",
        b"http/1.1 200 x",
        b"200 x",
        b"",
        b"HTTP/1.1 200 a\x00",
        b"HTTP/1.1 200 a\rb",
        b"HTTP/1.1 200 \x7f",
        b"HTTP/1.1 2 0 x",
        b"HTTP/1.1",
        b"HTP/1.1 200",
        b"HTTP/1.1 200\tOK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 OK\nX: y",
        b"HTTP/1.1 200 OK\r",
    ],
)
def test_status_line_that_is_refused(line: bytes) -> None:
    assert answer(start=line).result == -502


def test_what_is_not_http_is_refused_at_its_first_byte() -> None:
    assert parse_response(b"\x15").result == parse_response(b"\r").result == -502
    assert parse_response(b"").result == parse_response(b"HTTP").result == 0


@pytest.mark.parametrize(
    ("status", "method", "lines", "framing", "length", "kept"),
    [
        (200, "GET", [b"Content-Length: 5"], "length", 5, True),
        (200, "GET", [b"Content-Length: 5", b"Content-Length: 5"], "length", 5, True),
        (200, "GET", [b"Transfer-Encoding: chunked"], "chunked", -1, True),
        (200, "GET", [], "close", -1, False),
        (200, "HEAD", [b"Content-Length: 5"], "none", 5, True),
        (200, "HEAD", [b"Transfer-Encoding: chunked"], "none", -1, True),
        (200, "HEAD", [], "none", -1, True),
        (304, "GET", [b"Content-Length: 5"], "none", 5, True),
        (304, "GET", [], "none", -1, True),
        (204, "GET", [], "none", -1, True),
        (204, "GET", [b"Content-Length: 0"], "none", -1, True),
        (204, "GET", [b"Content-Length: 5"], "none", -1, False),
        (204, "GET", [b"Transfer-Encoding: chunked"], "none", -1, False),
        (103, "GET", [], "none", -1, True),
        (200, "GET", [b"Content-Length: 5", b"Transfer-Encoding: chunked"], "chunked", -1, False),
        (200, "GET", [b"Transfer-Encoding: chunked", b"Content-Length: 5"], "chunked", -1, False),
        (200, "GET", [b"Content-Length: 5", b"Connection: close"], "length", 5, False),
    ],
)
def test_framing(status: int, method: str, lines: list[bytes], framing: str, length: int, kept: bool) -> None:
    message = answer(*lines, start=b"HTTP/1.1 %d x" % status, method=method)
    assert (message.framing, message.content_length, "keep_alive" in message.flags) == (framing, length, kept)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: x"],
        [b"Content-Length: 5,"],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding:"],
        [b"X : y"],
        [b"X: a\x00"],
        [b"X: a", b" b"],
        [b"garbage"],
    ],
)
def test_field_lines_that_are_refused(lines: list[bytes]) -> None:
    message = answer(*lines)
    assert message.result == -502
    assert message.error


def test_http_1_0_backends() -> None:
    old = b"HTTP/1.0 200 OK"
    assert "keep_alive" not in answer(b"Content-Length: 1", start=old).flags
    assert "keep_alive" in answer(b"Content-Length: 1", b"Connection: keep-alive", start=old).flags
    assert "keep_alive" not in answer(b"Connection: keep-alive", start=old).flags
    assert answer(b"Transfer-Encoding: chunked", start=old).result == -502


SWITCH = b"HTTP/1.1 101 Switching Protocols"
AGREED = [b"Connection: Upgrade", b"Upgrade: websocket"]


def test_switching_to_what_was_offered() -> None:
    message = answer(*AGREED, start=SWITCH, flags=("upgrade", "websocket"))
    assert message.result > 0
    assert message.framing == "tunnel"
    assert "keep_alive" not in message.flags
    assert answer(b"Connection: upgrade", b"Upgrade: foo", start=SWITCH, flags=("upgrade",)).framing == "tunnel"


@pytest.mark.parametrize(
    ("lines", "start", "flags"),
    [
        (AGREED, SWITCH, ()),
        (AGREED, SWITCH, ("websocket",)),
        (AGREED[:1], SWITCH, ("upgrade", "websocket")),
        (AGREED[1:], SWITCH, ("upgrade", "websocket")),
        ([AGREED[0], b"Upgrade: other"], SWITCH, ("upgrade", "websocket")),
        ([AGREED[0], b"Upgrade: websocket, other"], SWITCH, ("upgrade", "websocket")),
        ([AGREED[0], b"Upgrade: h2c"], SWITCH, ("upgrade",)),
        (AGREED, b"HTTP/1.0 101 x", ("upgrade", "websocket")),
    ],
)
def test_switching_that_nobody_asked_for(lines: list[bytes], start: bytes, flags: tuple[str, ...]) -> None:
    assert answer(*lines, start=start, flags=flags).result == -502


def test_hop_by_hop_and_nominated_fields_are_dropped() -> None:
    message = answer(
        b"Connection: X-Hop, Via, close",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: x",
        b"Proxy-Authenticate: Basic",
        b"Upgrade: h2c",
        b"TE: x",
        b"Via: 1.1 a",
        b"Set_Cookie: kept",
        b"Content-Length: 1",
    )
    kept = {name for name, _, drop in message.fields if not drop}
    assert kept == {b"Via", b"Set_Cookie", b"Content-Length"}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 5),
        (b"max=100, Timeout=7", 7),
        (b"timeout=99999999999", 65535),
        (b"timeout=", 0),
        (b"timeout=5x", 0),
        (b"timeout=-1", 0),
        (b"timeout", 0),
        (b"xtimeout=5", 0),
        (b"", 0),
    ],
)
def test_keep_alive_timeout(value: bytes, seconds: int) -> None:
    assert answer(b"Keep-Alive: " + value).keep_alive_timeout == seconds


def test_limits() -> None:
    assert parse_response(b"HTTP/1.1 200 " + b"a" * 300, head_limit=256).result == -502
    assert parse_response(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 11, field_limit=10).result == -502


class TestHealthCheckView:
    """`parse_response_head`, the only piece of the codec that Python calls."""

    def test_a_whole_head(self) -> None:
        data = b"HTTP/1.1 200 Fine\r\nA: 1\r\nA:  2 \r\nContent-Length: 5\r\n\r\nhello"
        head = parse_response_head(data)
        assert head is not None
        assert (head.status, head.reason, head.framing, head.content_length) == (200, b"Fine", "length", 5)
        assert head.headers == [(b"A", b"1"), (b"A", b"2"), (b"Content-Length", b"5")]
        assert data[head.length :] == b"hello"
        assert head.keep_alive
        assert head.minor_version == 1
        assert repr(head) == "ResponseHead(status=200, framing='length', length=54)"

    def test_answer_to_head(self) -> None:
        head = parse_response_head(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", head_request=True)
        assert head is not None
        assert (head.framing, head.content_length, head.keep_alive) == ("none", 5, False)

    @pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nA: 1\r\n\r"])
    def test_more_is_needed(self, data: bytes) -> None:
        assert parse_response_head(data) is None

    def test_malformed(self) -> None:
        with pytest.raises(ValueError, match="malformed status line"):
            parse_response_head(b"SSH-2.0-OpenSSH\r\n")
        with pytest.raises(ValueError, match="not asked for"):
            parse_response_head(b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        with pytest.raises(ValueError, match="too large"):
            parse_response_head(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 65536)
