"""Plays one connection against the codec alone, the way the engine uses it, without sockets or timers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from headgate.engine import codec_testing

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


@dataclass
class Played:
    """What became of the bytes: one word per message, and what went on to the other side."""

    outcomes: list[str] = field(default_factory=list)
    sent: bytes = b""  # all that the other side got, incomplete messages too
    request_lines: list[bytes] = field(default_factory=list)
    complete: int = 0  # messages that it got completely
    closed: bool = False  # the connection is not used any further

    @property
    def outcome(self) -> str:
        return ",".join(self.outcomes)


def _relative(cuts: Iterable[int], offset: int, size: int) -> list[int]:
    return [cut - offset for cut in cuts if offset < cut < size]


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def _body(framing: str, length: int, data: bytes, cuts: list[int], ended: bool) -> tuple[bytes, int, str]:
    """(bytes that go on, bytes consumed, "done" | "wait" | "error")."""
    if framing == "none":
        return b"", 0, "done"
    if framing == "length":
        taken = data[:length]
        return taken, len(taken), "done" if len(taken) == length else "wait"
    if framing == "close":
        return data, len(data), "done" if ended else "wait"
    payload, trailers, error, done, consumed = codec_testing.decode_chunks(_pieces(data, cuts))
    sent = codec_testing.chunk_size_line(len(payload)) + payload + b"\r\n" if payload else b""
    if error:
        return sent, 0, "error"
    if done:
        return sent + b"0\r\n" + trailers + b"\r\n", consumed, "done"
    return sent, consumed, "wait"


def play_requests(raw: bytes, cuts: Iterable[int] = (), *, fin: bool = False) -> Played:
    """A client's bytes. "forward" = went on, a number = refused so, "local" = ours to answer, "wait" = incomplete."""
    played = Played()
    at = 0
    while at < len(raw) or not played.outcomes:
        message = codec_testing.parse_request(raw[at:], _relative(cuts, at, len(raw)))
        if message.result == 0:
            if raw[at:].strip(b"\r\n") or not played.outcomes:
                played.outcomes.append("close" if fin else "wait")
            break
        if message.result < 0:
            played.outcomes.append("local" if message.result == -405 else str(-message.result))
            played.closed = True
            break
        at += message.result
        if message.max_forwards == 0:
            played.outcomes.append("local")
            continue
        head = codec_testing.write_request(
            message, via=b"headgate", request_id=b"abc", keep_upgrade=True, keep_expect=True
        )
        assert head is not None
        assert_strict(head, request=True)
        rest, consumed, state = _body(
            message.framing, message.content_length, raw[at:], _relative(cuts, at, len(raw)), ended=False
        )
        played.sent += head + rest
        played.request_lines.append(head.partition(b"\r\n")[0])
        if state == "error":
            played.outcomes.append("400")
            played.closed = True
            break
        if state == "wait":
            played.outcomes.append("close" if fin else "wait")
            break
        at += consumed
        played.outcomes.append("forward")
        played.complete += 1
        if "keep_alive" not in message.flags:
            played.closed = True
            break
    return played


def play_response(raw: bytes, request: bytes, cuts: Iterable[int] = (), *, ended: bool) -> Played:
    """A backend's bytes in answer to `request`. "forward", "502", "abort" (broken off after the head) or "wait"."""
    asked = codec_testing.parse_request(request)
    assert asked.result > 0
    played = Played()
    at = 0
    while True:
        message = codec_testing.parse_response(
            raw[at:], _relative(cuts, at, len(raw)), method=asked.method.decode(), request_flags=asked.flags
        )
        if message.result == 0:
            played.outcomes.append("502" if ended else "wait")
            return played
        if message.result < 0:
            played.outcomes.append("502")
            played.closed = True
            return played
        at += message.result
        framing = message.framing
        if message.status < 200 and framing != "tunnel":
            if asked.minor_version == 1:
                interim = codec_testing.write_response(message, via=b"headgate")
                assert interim is not None
                assert_strict(interim, request=False)
                played.sent += interim
            continue
        to_client = framing
        if framing in ("chunked", "close"):
            to_client = "chunked" if asked.minor_version == 1 else "close"
        head = codec_testing.write_response(
            message,
            via=b"headgate",
            date=DATE,
            minor_version=asked.minor_version,
            framing=to_client,
            keep_upgrade=True,
        )
        assert head is not None
        assert_strict(head, request=False)
        if framing == "tunnel":
            played.outcomes.append("forward")
            played.sent += head + raw[at:]
            return played
        rest, consumed, state = _body(
            framing, message.content_length, raw[at:], _relative(cuts, at, len(raw)), ended=ended
        )
        played.sent += head + rest
        played.closed = "keep_alive" not in message.flags or at + consumed < len(raw)
        if state == "done":
            played.outcomes.append("forward")
            played.complete = 1
        else:
            played.outcomes.append("abort" if state == "error" or ended else "wait")
        return played


_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


def assert_strict(head: bytes, *, request: bool) -> None:
    """What we send is unambiguous (written apart from the codec, so that one can err without the other)."""
    assert head.endswith(b"\r\n\r\n")
    start, *lines = head[:-4].split(b"\r\n")
    names = [line.partition(b":")[0].lower() for line in lines]
    for line in lines:
        assert _LINE.fullmatch(line), line
    if request:
        assert re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/1\.1", start), start
        assert names.count(b"host") == 1
    else:
        assert re.fullmatch(rb"HTTP/1\.1 [1-5][0-9][0-9] [\t\x20-\x7e\x80-\xff]*", start), start
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"transfer-encoding":
            assert value.strip() == b"chunked"
        if name.lower() == b"content-length":
            assert re.fullmatch(rb"[0-9]+", value.strip())
