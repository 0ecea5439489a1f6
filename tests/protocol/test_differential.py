"""The codec against h11: where both take a message, they agree on every boundary in it.

Where only one takes it, the reason must be one that is written down below, and the bytes must show it. Messages are
built from the pieces that parsers have disagreed on, so that most are almost right.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.engine import codec_testing


@dataclass
class Read:
    """What a parser made of the bytes."""

    word: str  # "taken", "more" or "refused"
    error: str = ""
    start: tuple[bytes, ...] = ()
    fields: tuple[tuple[bytes, bytes], ...] = ()  # without those that frame the message: they are compared by effect
    body: bytes = b""
    rest: bytes = b""  # behind the message

    @property
    def boundaries(self) -> tuple[object, ...]:
        return self.start, self.fields, self.body, self.rest


FRAMING = (b"content-length", b"transfer-encoding")


def _fields(pairs: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower(), value) for name, value in pairs if name.lower() not in FRAMING)


def read_here(data: bytes, *, response_to: str | None = None, ended: bool = False) -> Read:
    if response_to is None:
        message = codec_testing.parse_request(data)
        start: tuple[bytes, ...] = (message.method, message.target, b"%d" % message.minor_version)
    else:
        message = codec_testing.parse_response(data, method=response_to)
        start = (b"%d" % message.status, message.reason)
    if message.result == 0:
        return Read("more")
    if message.result < 0:
        return Read("refused", message.error)
    found = Read("taken", start=start, fields=_fields([(name, value) for name, value, _ in message.fields]))
    data = data[message.result :]
    if message.framing == "length":
        found.body, found.rest = data[: message.content_length], data[message.content_length :]
        return found if len(found.body) == message.content_length else Read("more")
    if message.framing == "close":
        found.body = data
        return found if ended else Read("more")
    if message.framing == "chunked":
        found.body, _, error, done, consumed = codec_testing.decode_chunks([data])
        if error is not None:
            return Read("refused", error)
        found.rest = data[consumed:]
        return found if done else Read("more")
    found.rest = data
    return found


def read_h11(data: bytes, *, response_to: str | None = None, ended: bool = False) -> Read:
    connection = h11.Connection(h11.SERVER if response_to is None else h11.CLIENT, max_incomplete_event_size=1 << 20)
    if response_to is not None:
        connection.send(h11.Request(method=response_to, target="/", headers=[("Host", "h")]))
        connection.send(h11.EndOfMessage())
    found = Read("taken")
    try:
        connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return Read("more")
            if isinstance(event, h11.Request):
                minor = b"0" if event.http_version == b"1.0" else b"1"
                found.start, found.fields = (event.method, event.target, minor), _fields(list(event.headers))
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                found.start, found.fields = (b"%d" % event.status_code, event.reason), _fields(list(event.headers))
                if isinstance(event, h11.InformationalResponse):
                    found.rest = connection.trailing_data[0]
                    return found
            elif isinstance(event, h11.Data):
                found.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.rest = connection.trailing_data[0]
                return found
            else:
                return Read("more")
    except h11.RemoteProtocolError as error:
        if "without sending complete message body" in str(error) or "unexpectedly closed" in str(error):
            return Read("more")
        return Read("refused", str(error))


# What only h11 takes: our error -> (why that is right, what the bytes then must show).
ONLY_H11 = {
    "bare CR or LF": ("h11 takes LF alone for a line end (RFC 9112 section 2.2: MAY)", rb"(?<!\r)\n|\r(?!\n)"),
    "folded header line": ("h11 unfolds (RFC 9112 section 5.2 lets a server choose)", rb"\r?\n[ \t]"),
    "Host is missing, repeated or malformed": (
        "h11 counts Host, for exactly HTTP/1.1 only, and never looks into it",
        rb"(?i)host:|HTTP/1\.[2-9]",
    ),
    "malformed request target": ("h11 takes any visible characters for a target", rb"^\S+ [^ /]|#"),
    "malformed header field": (
        "h11 takes control characters in values, and does not read Max-Forwards",
        rb"[\x00-\x08\x0e-\x1f\x7f]|(?i:max-forwards)",
    ),
    "Content-Length together with Transfer-Encoding": ("h11 lets Transfer-Encoding win", rb"(?is)content-length.*"),
    "malformed or contradictory Content-Length": (
        "h11 takes numbers up to 20 digits, and unfolds",
        rb"[0-9]{19}|\n[ \t]",
    ),
    "malformed Transfer-Encoding": ("h11 reads chunks in HTTP/1.0, and unfolds", rb"HTTP/1\.0|\n[ \t]"),
    "malformed chunk": (
        "h11 skips whatever follows the size, white space too, and has no largest size",
        rb"\n[0-9A-Fa-f]+[ \t;]|\n[0-9A-Fa-f]{16}|\n[0-9A-Fa-f]+\n",
    ),
    "method not allowed": ("CONNECT is none of a gateway's methods", rb"CONNECT "),
    "HTTP version not supported": ("h11 leaves the version to its user", rb"HTTP/[02-9]\."),
    "malformed status line": ("h11 leaves the class of a status to its user, and control characters in", rb"HTTP/"),
    "upgrade that was not asked for": ("h11 leaves that to its user", rb" 101 "),
}
# What is only taken here: (why that is right, what the bytes show).
ONLY_HERE = [
    ("the same number in other digits is the same number", rb"(?i)content-length: *0[0-9]|content-length:.*,"),
    ("h11 stops at 20 digits even when they are zeros", rb"[0-9A-Fa-f]{21}"),
    ("empty lines before the request: h11 knows none (RFC 9112 section 2.2: SHOULD)", rb"\A\r\n"),
    ("white space before an extension is allowed, and ignored", rb"\n[0-9A-Fa-f]+[ \t]+;"),
    ("no body may follow, so what Content-Length says does not matter", rb" (1[0-9][0-9]|204|304) "),
]
# Told here already while h11 waits for the end of the section: given that end, it refuses too.
EARLIER = "an error is told at the end of its line"
# Such a target is rewritten where it stands, so as to have the path that it means.
PATHLESS = re.compile(rb"\A(\r\n)*\S+ https?://[^/ ]*(\?\S*)? ")


def compare(data: bytes, *, response_to: str | None = None, ended: bool = False) -> str:
    here = read_here(data, response_to=response_to, ended=ended)
    there = read_h11(data, response_to=response_to, ended=ended)
    if here.word == there.word:
        if here.word == "taken":
            if PATHLESS.match(data):
                here.start, there.start = here.start[::2], there.start[::2]
            assert here.boundaries == there.boundaries
        return here.word
    if here.word == "refused":
        if there.word == "more" and read_h11(data + b"\r\n\r\n", response_to=response_to).word == "refused":
            return EARLIER
        why, shows = ONLY_H11[here.error]
        assert re.search(shows, data), (here, there)
        return why
    if there.word == "refused":
        for why, shows in ONLY_HERE:
            if re.search(shows, data):
                return why
    raise AssertionError((here, there))


def mostly(good: bytes, *odd: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(*[st.just(good)] * 4, st.sampled_from([good, *odd]))


EOL = mostly(b"\r\n", b"\n", b"\r", b"\r\r\n", b"", b" \r\n")
NUMBER = st.sampled_from(
    [b"5", b"5", b"5", b"0", b"05", b"+5", b"5,5", b"5, 6", b"-1", b"", b"5 5", b"9" * 19, b"0" * 25]
)
CODING = st.sampled_from(
    [b"chunked"] * 4 + [b"Chunked", b"gzip", b"chunked, chunked", b"gzip, chunked", b"", b"\x0bchunked"]
)
FIELD = st.one_of(
    st.builds(
        b"%b%b%b".__mod__, st.tuples(mostly(b"Host", b"host ", b"HOST"), mostly(b": ", b":"), mostly(b"h", b"a b", b""))
    ),
    st.builds(b"Content-Length: %b".__mod__, NUMBER),
    st.builds(b"Transfer-Encoding: %b".__mod__, CODING),
    st.builds(b"Connection: %b".__mod__, st.sampled_from([b"close", b"keep-alive", b"X-A, close", b"upgrade"])),
    st.sampled_from([b"Expect: 100-continue", b"Upgrade: websocket", b"X_A: 1", b"Max-Forwards: x", b"TE: trailers"]),
    st.builds(
        b"%b%b%b".__mod__,
        st.tuples(
            mostly(b"X-A", b"", b"X A", b"X(", b" X", b"\tX", b"\x00X", b"X\xff"),
            mostly(b": ", b":", b" : ", b"", b":\t"),
            mostly(b"value", b"", b"a\tb", b"a\x00", b"a\x01b", b"\xe4", b"a\x7f", b"  a  ", b"a\x0b", b"\x85a"),
        ),
    ),
)
CHUNK = st.builds(
    b"%b%b%b%b%b".__mod__,
    st.tuples(
        mostly(b"5", b"05", b"g", b"", b"-5", b"0x5", b"4", b"6", b"ffffffffffffffff", b"0" * 25 + b"5"),
        mostly(b"", b";a", b";a=b", b';a="b;c"', b";", b" ", b' ;a="', b";\x01"),
        EOL,
        mostly(b"hello", b"\r\nabc", b"hell"),
        mostly(b"\r\n", b"\n", b"", b"XX", b"\r"),
    ),
)
BODY = st.one_of(
    st.just(b""),
    st.just(b"hello"),
    st.builds(
        lambda chunks, last, trailers, end, rest: b"".join(chunks) + last + trailers + end + rest,
        st.lists(CHUNK, max_size=3),
        mostly(b"0\r\n", b"00;x\r\n", b"0\n", b"0"),
        mostly(b"", b"X-T: 1\r\n", b"Content-Length: 5\r\n", b"bad\r\n", b" X: 1\r\n", b"X: 1\n"),
        EOL,
        mostly(b"", b"GET /next HTTP/1.1\r\n"),
    ),
)


def assemble(start: bytes, first: bytes, fields: list[tuple[bytes, bytes]], end: bytes, body: bytes) -> bytes:
    return start + first + b"".join(field + eol for field, eol in fields) + end + body


HEADS = (EOL, st.lists(st.tuples(FIELD, EOL), max_size=5), EOL, BODY)
REQUEST_LINE = st.builds(
    b"%b%b%b%b%b".__mod__,
    st.tuples(
        mostly(b"GET", b"POST", b"HEAD", b"CONNECT", b"G(T", b"", b"\r\nGET", b"\r\n\r\n\r\nGET", b"OPTIONS"),
        mostly(b" ", b"  ", b"\t", b""),
        mostly(
            b"/", b"/a?b", b"*", b"http://h/", b"http://u@h/", b"h:80", b"/#", b"/\xe4", b"/\x01", b"", b"http://h?x"
        ),
        mostly(b" ", b"  ", b"\t"),
        mostly(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11"),
    ),
)
STATUS_LINE = st.builds(
    b"%b%b%b%b".__mod__,
    st.tuples(
        mostly(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1"),
        mostly(b" ", b"  ", b""),
        mostly(b"200", b"204", b"304", b"100", b"103", b"404", b"099", b"600", b"20", b"2000", b"2\xb90"),
        mostly(b" OK", b"", b" ", b"OK", b" a\x00", b" a\tb", b" \xe4", b" a\x01"),
    ),
)
# HEADGATE_FUZZ=50 makes a run fifty times as long.
LONGER = int(os.environ.get("HEADGATE_FUZZ", "1"))
BOUNDED = settings(max_examples=1000 * LONGER, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(st.builds(lambda *parts: parts, REQUEST_LINE, *HEADS))
@BOUNDED
def test_requests(parts: tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]) -> None:
    start, first, fields, end, body = parts
    compare(assemble(start, first, [(b"Host: h.example", b"\r\n"), *fields], end, body))
    compare(assemble(start, first, fields, end, body))


@given(st.builds(lambda *parts: parts, STATUS_LINE, *HEADS), st.sampled_from(["GET", "HEAD"]), st.booleans())
@BOUNDED
def test_responses(
    parts: tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes], method: str, ended: bool
) -> None:
    compare(assemble(*parts), response_to=method, ended=ended)


SEEDS = [
    b"GET /a?b HTTP/1.1\r\nHost: h.example\r\nX-A: 1\r\nConnection: close\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET / HTTP/1.1\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nMax-Forwards: 3\r\nUpgrade: websocket\r\n\r\n",
    b"GET http://h:80/x HTTP/1.0\r\nX-Forwarded-For: 1.2.3.4, ::1\r\nTE: trailers\r\n\r\n",
]
REPLIES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: timeout=5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nDate: x\r\n\r\nbody",
    b"HTTP/1.1 204 No Content\r\nConnection: X-A\r\nX-A: 1\r\n\r\n",
]
SPLICES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"\xff",
    b"\r\n ",
    b"\r\n\r\n",
    b"chunked",
]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to four small accidents."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + chance.randint(1, 4) :]
        elif kind == 2:
            data = data[:at] + chance.choice(SPLICES) + data[at:]
        elif kind == 3:
            data = data[:at] + data[max(0, at - chance.randint(1, 30)) :]
        else:
            data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :] if at < len(data) else data
    return data


ROUNDS = 2000 * LONGER


@pytest.mark.parametrize("seed", SEEDS + REPLIES, ids=range(len(SEEDS + REPLIES)))
def test_mutated_bytes(seed: bytes) -> None:
    """No verdict differs without a known reason, none depends on cuts, and what is taken can be written."""
    chance = random.Random(20260101 + len(seed))
    words = set()
    for _ in range(ROUNDS):
        data = mutate(seed, chance)
        cuts = sorted(chance.sample(range(len(data) + 1), k=min(3, len(data))))
        if seed in SEEDS:
            words.add(compare(data))
            whole, parts = codec_testing.parse_request(data), codec_testing.parse_request(data, cuts)
            if whole.result > 0:
                assert codec_testing.write_request(whole, keep_upgrade=True) is not None
        else:
            words.add(compare(data, response_to="GET", ended=True))
            whole, parts = codec_testing.parse_response(data), codec_testing.parse_response(data, cuts)
            if whole.result > 0:
                assert codec_testing.write_response(whole) is not None
        assert (whole.result, whole.error, whole.fields) == (parts.result, parts.error, parts.fields)
    assert {"taken", "refused"} <= words
