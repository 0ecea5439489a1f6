"""Chunked bodies (RFC 9112 section 7.1)."""

from __future__ import annotations

import time

import pytest

from headgate.engine.codec_testing import chunk_size_line, decode_chunks


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"00000000000000000000005\r\nhello\r\n0000\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"5;a\r\nhello\r\n0;b\r\n\r\n", b"hello"),
        (b"5;a=b;c=d\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5 ; a = b\t;c\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b'5;a="b";c="\\"\\\\;\t\xe4"\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b'5;a="" ;b\r\nhello\r\n0\r\n\r\n', b"hello"),
    ],
)
def test_bodies_in_one_piece_and_cut_anywhere(body: bytes, payload: bytes) -> None:
    rest = b"GET / HTTP/1.1\r\n"
    assert decode_chunks([body + rest]) == (payload, b"", None, True, len(body))
    assert decode_chunks([body[i : i + 1] for i in range(len(body))]) == (payload, b"", None, True, len(body))
    for cut in range(len(body)):
        assert decode_chunks([body[:cut], body[cut:] + rest]) == (payload, b"", None, True, len(body))
        assert decode_chunks([body[:cut]])[2:4] == (None, False)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"g",
        b"0x5",
        b"-5",
        b"+5",
        b" 5",
        b"\t5",
        b"5 ",
        b"5\t",
        b"5\x0b",
        b"5\x00",
        b"5,",
        b"5.0",
        b"5_0",
        b"\xb5",
        b"5;",
        b"5;;a",
        b"5; ",
        b"5;=a",
        b"5;a=",
        b"5;a=;b",
        b"5;a b",
        b"5;a=b c",
        b"5;a=b=c",
        b"5;a ",
        b"5;a=b ",
        b'5;a="',
        b'5;a="b',
        b'5;a="b\\',
        b'5;a="b"c',
        b'5;"a"',
        b'5;a="\x01"',
        b'5;a="\x7f"',
        b'5;a="\\\x00"',
        b"5;\x01",
        b"5;a\x00",
        b"5;a\rb",
        b"5;a\nb",
        b"5;a=\xe4",
        b"5 5",
        b"5\r",
        b"5;a=\x0bb",
        b'5;a="\r"',
        b"5 a",
    ],
)
def test_size_lines_that_are_refused(line: bytes) -> None:
    payload, _, error, done, _ = decode_chunks([line + b"\r\nhello\r\n0\r\n\r\n"])
    assert (payload, error, done) == (b"", "malformed chunk", False)
    pieces = [bytes([byte]) for byte in line + b"\r\nhello\r\n0\r\n\r\n"]
    assert decode_chunks(pieces)[:4] == (b"", b"", "malformed chunk", False)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"X\r\n", b"\rX", b"", b"\n\r", b"XX"])
def test_what_ends_a_chunk_is_exactly_crlf(end: bytes) -> None:
    payload, _, error, done, _ = decode_chunks([b"5\r\nhello" + end + b"0\r\n\r\n"])
    assert (payload, error, done) == (b"hello", "malformed chunk", False)


def test_largest_size_and_the_one_above() -> None:
    assert decode_chunks([b"7fffffffffffffff\r\nabc"])[:4] == (b"abc", b"", None, False)
    assert decode_chunks([b"07FFFFFFFFFFFFFFF\r\nabc"])[:4] == (b"abc", b"", None, False)
    for size in (b"8000000000000000", b"ffffffffffffffff", b"10000000000000000", b"10000000000000005"):
        assert decode_chunks([size + b"\r\nabc"])[2] == "malformed chunk"


def test_zeros_before_a_size_are_bounded() -> None:
    assert decode_chunks([b"0" * 31 + b"1\r\na\r\n0\r\n\r\n"])[:4] == (b"a", b"", None, True)
    assert decode_chunks([b"0" * 32 + b"1\r\na\r\n0\r\n\r\n"])[2] == "malformed chunk"


def test_extensions_are_bounded_in_a_line_and_in_all() -> None:
    too_long = "chunk extensions too long"
    assert decode_chunks([b"1;a=" + b"x" * 1000 + b"\r\na\r\n0\r\n\r\n"])[2] is None
    assert decode_chunks([b"1;a=" + b"x" * 1100])[2] == too_long
    assert decode_chunks([b'1;a="' + b"x" * 1100])[2] == too_long
    assert decode_chunks([b"1;" + b" " * 1100])[2] == too_long
    small = b"1;a=" + b"x" * 200 + b"\r\nz\r\n"
    assert decode_chunks([small * 50 + b"0\r\n\r\n"])[:4] == (b"z" * 50, b"", None, True)
    assert decode_chunks([small * 5000 + b"0\r\n\r\n"])[2] == too_long
    # measured against the payload: what a sender may well do to chunks of ordinary size goes on for ever
    large = b"100;sum=0123456789abcdef0123456789abcdef\r\n" + b"z" * 256 + b"\r\n"
    assert decode_chunks([large * 5000 + b"0\r\n\r\n"])[2:4] == (None, True)


def test_tiny_chunks_cost_linear_time() -> None:
    body = b"1\r\nz\r\n" * 100_000 + b"0\r\n\r\n"
    begin = time.perf_counter()
    assert decode_chunks([body]) == (b"z" * 100_000, b"", None, True, len(body))
    # some 2 ms where it is linear; moving the rest of the buffer for each chunk would take seconds
    assert time.perf_counter() - begin < 0.5


class TestTrailers:
    def test_kept_as_they_came(self) -> None:
        body = b"5\r\nhello\r\n0\r\nX-One:1\r\nServer-Timing:  a;dur=1 \t\r\nX-Empty:\r\n\r\n"
        trailers = b"X-One:1\r\nServer-Timing:  a;dur=1 \t\r\nX-Empty:\r\n"
        assert decode_chunks([body + b"GET"]) == (b"hello", trailers, None, True, len(body))
        for cut in range(len(body)):
            assert decode_chunks([body[:cut], body[cut:]]) == (b"hello", trailers, None, True, len(body))
        assert decode_chunks([bytes([byte]) for byte in body]) == (b"hello", trailers, None, True, len(body))

    @pytest.mark.parametrize(
        "name",
        [
            b"Content-Length",
            b"Transfer-Encoding",
            b"Host",
            b"Connection",
            b"TE",
            b"Trailer",
            b"Upgrade",
            b"Keep-Alive",
            b"Authorization",
            b"Proxy-Authorization",
            b"Proxy-Connection",
            b"Set-Cookie",
            b"Cookie",
            b"Cache-Control",
            b"Content-Type",
            b"Content-Encoding",
            b"Content-Range",
            b"Content-Anything",
            b"Expect",
            b"Max-Forwards",
            b"Range",
            b"If-Match",
            b"If-None-Match",
            b"Date",
            b"Location",
            b"Retry-After",
            b"Vary",
            b"Age",
            b"Expires",
            b"WWW-Authenticate",
            b"Pragma",
            b"Warning",
            b"X-Forwarded-For",
            b"X-Forwarded-Anything",
            b"X-Real-IP",
            b"X-Request-ID",
            b"Forwarded",
            b"Via",
            b"Proxy",
            b"content_length",
            b"Cache_Control",
            b"WWW_Authenticate",
            b"X_Forwarded_For",
            b"HOST",
            b"Access-Control-Allow-Origin",
            b"Sec-WebSocket-Key",
            b"Strict-Transport-Security",
            b"Server",
            b"Link",
        ],
    )
    def test_what_may_not_be_a_trailer_is_dropped(self, name: bytes) -> None:
        body = b"0\r\nX-A: 1\r\n" + name + b": 5\r\nX-B: 2\r\n\r\n"
        assert decode_chunks([body]) == (b"", b"X-A: 1\r\nX-B: 2\r\n", None, True, len(body))

    def test_names_that_only_resemble_those_are_kept(self) -> None:
        lines = (
            b"X-Content-Length: 1\r\nHosts: 1\r\nETag: x\r\nContents: 1\r\nIfx: 1\r\ngrpc-status: 0\r\nRanges: 1\r\n"
        )
        assert decode_chunks([b"0\r\n" + lines + b"\r\n"])[1] == lines

    @pytest.mark.parametrize(
        "lines",
        [
            b"garbage\r\n",
            b": x\r\n",
            b"X : y\r\n",
            b" X: y\r\n",
            b"X: y\r\n z\r\n",
            b"X: y\n",
            b"X: y\rz\r\n",
            b"\n",
            b"X: \x00\r\n",
            b"X: \x7f\r\n",
            b"X\x00: y\r\n",
            b"X\r\n",
            b"X: y\r\r\n",
            b"\rX",
        ],
    )
    def test_malformed(self, lines: bytes) -> None:
        payload, _, error, done, _ = decode_chunks([b"1\r\nz\r\n0\r\n" + lines + b"\r\n"])
        assert payload == b"z"
        assert error is not None
        assert not done

    def test_bounded_in_size_and_number(self) -> None:
        too_large = "trailer section too large"
        assert decode_chunks([b"0\r\n" + b"X: y\r\n" * 64 + b"\r\n"])[2:4] == (None, True)
        assert decode_chunks([b"0\r\n" + b"X: y\r\n" * 65 + b"\r\n"])[2] == too_large
        exact = b"X: " + b"y" * (8192 - 7) + b"\r\n"
        assert decode_chunks([b"0\r\n" + exact + b"\r\n"])[1:4] == (exact, None, True)
        assert decode_chunks([b"0\r\nX: " + b"y" * 8192])[2] == too_large

    def test_lines_that_do_not_fit_the_room_given_are_left_out(self) -> None:
        body = b"0\r\nX-Short: 1\r\nX-Long: " + b"y" * 50 + b"\r\nX-Next: 2\r\n\r\n"
        for capacity, kept in (
            (0, b""),
            (10, b""),
            (11, b"X-Next: 2\r\n"),
            (12, b"X-Short: 1\r\n"),
            (30, b"X-Short: 1\r\nX-Next: 2\r\n"),
        ):
            for pieces in ([body], [bytes([byte]) for byte in body]):
                found = decode_chunks(pieces, trailer_capacity=capacity)
                assert found == (b"", kept, None, True, len(body))


@pytest.mark.parametrize("size", [0, 1, 9, 10, 15, 16, 255, 256, 65535, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_size_line_written(size: int) -> None:
    assert chunk_size_line(size) == b"%x\r\n" % size
