"""Request heads, rule by rule (RFC 9110, RFC 9112)."""

from __future__ import annotations

import pytest

from headgate.engine.codec_testing import Message, parse_request

HOST = b"Host: h.example\r\n"


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> Message:
    return parse_request(start + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


def dropped(message: Message) -> set[bytes]:
    return {name for name, _, drop in message.fields if drop}


def test_everything_a_plain_request_says() -> None:
    message = parse_request(b"GET /a?b=c HTTP/1.1\r\nHost: h.example:8080\r\nX-A:  one two \t\r\nX-Empty:\r\n\r\nrest")
    assert message.result == len(b"GET /a?b=c HTTP/1.1\r\nHost: h.example:8080\r\nX-A:  one two \t\r\nX-Empty:\r\n\r\n")
    assert (message.method, message.target, message.path) == (b"GET", b"/a?b=c", b"/a?b=c")
    assert (message.authority, message.host) == (b"h.example:8080", b"h.example")
    assert message.fields == [
        (b"Host", b"h.example:8080", False),
        (b"X-A", b"one two", False),
        (b"X-Empty", b"", False),
    ]
    assert message.flags == {"keep_alive", "idempotent"}
    assert (message.framing, message.content_length, message.max_forwards) == ("none", -1, -1)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/1.1", 0),
        (b"get / HTTP/1.1", 0),  # another method: they are case-sensitive, and any token is one
        (b"!#$%&'*+-.^_`|~aZ09 / HTTP/1.1", 0),
        (b"GET / HTTP/1.0", 0),
        (b"GET / HTTP/1.9", 0),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/1,1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET /", 400),
        (b"GET", 400),
        (b"GET ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET /\t HTTP/1.1", 400),
        (b"GET / \tHTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET /\x80 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b'GET /|{}^`"<>\\ HTTP/1.1', 0),
        (b"GET * HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 0),
        (b"OPTIONS ** HTTP/1.1", 400),
        (b"GET h.example HTTP/1.1", 400),
        (b"CONNECT h.example:443 HTTP/1.1", 405),
        (b"CONNECT h.example:443 HTTP/3.0", 505),
        (b"\x16\x03\x01\x02\x00", 400),
    ],
)
def test_request_line(line: bytes, status: int) -> None:
    message = get(start=line)
    assert message.result < 0 if status else message.result > 0
    assert not status or message.result == -status
    assert bool(message.error) == bool(status)


def test_what_cannot_be_http_is_refused_without_a_line_end() -> None:
    for first in b'\x16\x00 :\n\x80"(':
        assert parse_request(bytes([first])).result == -400
    assert parse_request(b"G").result == parse_request(b"\r").result == parse_request(b"").result == 0


def test_empty_lines_before_the_request_are_few() -> None:
    request = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    for count in range(5):
        assert parse_request(b"\r\n" * count + request).result == 2 * count + len(request)
    assert parse_request(b"\r\n" * 5 + request).result == -400
    assert parse_request(b"\r\r\n" + request).result == -400
    assert parse_request(b"\n" + request).result == -400


@pytest.mark.parametrize(
    ("target", "path", "authority", "host"),
    [
        (b"http://a.example/x?y", b"/x?y", b"a.example", b"a.example"),
        (b"HTTP://a.example:81/x", b"/x", b"a.example:81", b"a.example"),
        (b"https://[::1]:81/x", b"/x", b"[::1]:81", b"[::1]"),
        (b"http://a.example", b"/", b"a.example", b"a.example"),
        (b"https://a.example", b"/", b"a.example", b"a.example"),
        (b"http://a.example?q=http://b/", b"/?q=http://b/", b"a.example", b"a.example"),
        (b"https://a.example:81?q", b"/?q", b"a.example:81", b"a.example"),
        (b"http://a?", b"/?", b"a", b"a"),
    ],
)
def test_absolute_form_gives_path_and_authority(target: bytes, path: bytes, authority: bytes, host: bytes) -> None:
    data = b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    for cuts in (range(0), range(1, len(data))):
        message = parse_request(data, cuts)
        assert (message.result, message.path, message.authority, message.host) == (len(data), path, authority, host)
        assert "absolute" in message.flags


def test_options_of_a_server_in_absolute_form_becomes_an_asterisk() -> None:
    message = get(start=b"OPTIONS http://a.example:81 HTTP/1.1")
    assert (message.path, message.authority) == (b"*", b"a.example:81")
    assert {"asterisk", "absolute"} <= message.flags
    assert get(start=b"OPTIONS http://a.example/ HTTP/1.1").path == b"/"
    assert get(start=b"OPTIONS http://a.example?q HTTP/1.1").path == b"/?q"


@pytest.mark.parametrize(
    "target",
    [
        b"http://",
        b"http:///x",
        b"http://?q",
        b"http://:80/",
        b"http://u@a/",
        b"http://u:p@a/",
        b"http://a:80x/",
        b"http://a:65536/",
        b"http://a:-1/",
        b"http://a b/",
        b"http://[::1/",
        b"http://[::1]x/",
        b"http://[1.2.3.4]/",
        b"http://[fe80::1%25eth0]/",
        b"http://a%zz/",
        b"http://a/#f",
        b"http:/a/",
        b"http:a",
        b"ftp://a/",
        b"ws://a/",
        b"httpx://a/",
        b"://a/",
        b"http",
        b"https://",
    ],
)
def test_absolute_form_that_is_refused(target: bytes) -> None:
    assert get(start=b"GET " + target + b" HTTP/1.1").result == -400


def test_the_request_still_needs_a_valid_host_beside_an_absolute_target() -> None:
    assert get(start=b"GET http://a/ HTTP/1.1", host=b"").result == -400
    assert get(start=b"GET http://a/ HTTP/1.1", host=b"Host: a b\r\n").result == -400


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"", b""),
        (b"a", b"a"),
        (b"A.Example", b"A.Example"),
        (b"a:", b"a"),
        (b"a:0", b"a"),
        (b"a:65535", b"a"),
        (b"a:00080", b"a"),
        (b"a%20b", b"a%20b"),
        (b"a_b!$&'()*+,;=~-.", b"a_b!$&'()*+,;=~-."),
        (b"127.0.0.1:80", b"127.0.0.1"),
        (b"[::1]", b"[::1]"),
        (b"[2001:db8::1]:443", b"[2001:db8::1]"),
    ],
)
def test_host_that_is_taken(value: bytes, host: bytes) -> None:
    message = get(host=b"Host: " + value + b"\r\n")
    assert message.result > 0
    assert (message.authority, message.host) == (value, host)


@pytest.mark.parametrize(
    "value",
    [
        b":80",
        b"a:65536",
        b"a:99999999999999999999",
        b"a:8 0",
        b"a:b",
        b"a:80:80",
        b"[]",
        b"[::1",
        b"::1",
        b"[::1]80",
        b"[g::1]",
        b"[::1]:x",
        b"[v1.a]",
        b"a%2",
        b"a%",
        b"a%g0",
        b"a/b",
        b"a\\b",
        b"a@b",
        b"a\xe4",
        b'"a"',
        b"a b",
    ],
)
def test_host_that_is_refused(value: bytes) -> None:
    assert get(host=b"Host: " + value + b"\r\n").result == -400


def test_one_host_and_on_1_1_not_none() -> None:
    assert get(host=b"").result == -400
    assert get(host=b"", start=b"GET / HTTP/1.0").result > 0
    for version in (b"1.0", b"1.1"):
        assert get(HOST[:-2], start=b"GET / HTTP/" + version).result == -400


@pytest.mark.parametrize(
    "line",
    [
        b"X-A : b",
        b"X-A\t: b",
        b" X-A: b",
        b"\tX-A: b",
        b"X-A",
        b": b",
        b"X A: b",
        b"X\xe4: b",
        b"X-A: b\x00c",
        b"X-A: b\x01",
        b"X-A: \x7f",
        b"X-A: b\x1fc",
        b"X-A: b\rc",
        b"X-A: b\nX-B: c",
        b"X-A: b\r",
        b"X-A: longer than eight bytes \x00 and more of it",
        b"X-A: longer than eight bytes\nX-B: more of it",
        b"X-A: tab\there and\ttwo\tmore and a bell\x07",
        b"X-A: b\r\n folded",
        b"X-A:\r\n\tfolded",
        b"\r",
    ],
)
def test_field_line_that_is_refused(line: bytes) -> None:
    assert get(line).result == -400


@pytest.mark.parametrize("byte", [b"\t", b" ", b"\x21", b"\x7e", b"\x80", b"\x85", b"\xa0", b"\xff"])
@pytest.mark.parametrize("length", range(20))
def test_bytes_that_a_value_may_hold(byte: bytes, length: int) -> None:
    for value in (b"a" * length + byte + b"b", b"a" + byte * length + b"b", b"a" * length + byte + b"b" * 9):
        value = value.lstrip(b" \t")
        assert get(b"X-A: " + value).fields[1] == (b"X-A", value, False)


@pytest.mark.parametrize("length", range(20))
def test_every_byte_that_a_value_may_not_hold_at_every_distance(length: int) -> None:
    for byte in [*range(9), *range(10, 32), 127]:
        for after in (b"", b"c", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\t" * 9):
            assert get(b"X-A: " + b"b" * length + bytes([byte]) + after).result == -400


@pytest.mark.parametrize(
    ("values", "length"),
    [
        ([b"0"], 0),
        ([b"5"], 5),
        ([b"007"], 7),
        ([b"5,5"], 5),
        ([b"5 ,\t5"], 5),
        ([b"5", b"5"], 5),
        ([b"05", b"5"], 5),
        ([b"9223372036853727232"], 9223372036853727232),
        ([b"9223372036853727233"], None),
        ([b"9223372036854775807"], None),
        ([b"9223372036854775808"], None),
        ([b"18446744073709551616"], None),
        ([b""], None),
        ([b","], None),
        ([b"5,"], None),
        ([b",5"], None),
        ([b"5,,5"], None),
        ([b"5", b"6"], None),
        ([b"5,6"], None),
        ([b"+5"], None),
        ([b"-0"], None),
        ([b"5.0"], None),
        ([b"\xb2"], None),
        ([b"5", b""], None),
    ],
)
def test_content_length(values: list[bytes], length: int | None) -> None:
    message = get(*(b"Content-Length: " + value for value in values), start=b"POST / HTTP/1.1")
    if length is None:
        assert message.result == -400
        assert "Content-Length" in message.error
    else:
        assert (message.framing, message.content_length) == ("length", length)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([b"chunked"], 0),
        ([b"Chunked"], 0),
        ([b"\tchunked "], 0),
        ([b""], 400),
        ([b"chunked,"], 400),
        ([b",chunked"], 400),
        ([b"chunked, chunked"], 400),
        ([b"chunked", b"chunked"], 400),
        ([b"chunked;q=1"], 400),
        ([b"chunked", b""], 400),
        ([b"chun ked"], 400),
        ([b"gzip"], 501),
        ([b"gzip, chunked"], 501),
        ([b"gzip", b"chunked"], 501),
        ([b"identity"], 501),
        ([b"chunked, gzip"], 501),
        ([b"xchunked"], 501),
    ],
)
def test_transfer_encoding(values: list[bytes], status: int) -> None:
    message = get(*(b"Transfer-Encoding: " + value for value in values), start=b"POST / HTTP/1.1")
    if status:
        assert message.result == -status
    else:
        assert (message.framing, message.content_length) == ("chunked", -1)
        assert dropped(message) == {b"Transfer-Encoding"}


def test_transfer_encoding_goes_with_neither_content_length_nor_http_1_0() -> None:
    lines = [b"Content-Length: 5", b"Transfer-Encoding: chunked"]
    assert get(*lines).result == get(*lines[::-1]).result == -400
    assert get(lines[1], start=b"POST / HTTP/1.0").result == -400


@pytest.mark.parametrize(
    "name",
    [
        b"Content_Length",
        b"TRANSFER_ENCODING",
        b"X_Forwarded_For",
        b"x-forwarded_for",
        b"X_REAL_IP",
        b"X_Request_Id",
        b"X_Forwarded_Anything",
        b"Max_Forwards",
        b"Keep_Alive",
        b"Proxy_Authorization",
        b"X_Forwarded_Proto",
    ],
)
def test_underscore_twins_are_dropped(name: bytes) -> None:
    message = get(name + b": 1")
    assert message.result > 0
    assert dropped(message) == {name}


def test_other_underscores_pass() -> None:
    names = [b"X_Custom", b"_", b"my_content_length", b"Content_Length_", b"api_key"]
    assert dropped(get(*(name + b": 1" for name in names))) == set()


def test_hop_by_hop_fields_are_dropped() -> None:
    names = [b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Upgrade", b"HTTP2-Settings", b"Proxy"]
    names += [b"Proxy-Authorization", b"Proxy-Authenticate"]
    assert dropped(get(*(name + b": x" for name in names))) == set(names)


def test_fields_named_in_connection_are_dropped_whatever_the_case_and_order() -> None:
    message = get(b"X-One: 1", b"Connection: x-ONE ,,\tx-two,close", b"X-Two: 2", b"Connection: X-Three", b"X-three: 3")
    assert dropped(message) == {b"X-One", b"X-Two", b"X-three", b"Connection"}
    assert "keep_alive" not in message.flags


def test_connection_cannot_take_away_routing_framing_or_what_we_set() -> None:
    names = [b"Host", b"Content-Length", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Real-IP"]
    names += [b"X-Request-ID", b"Forwarded", b"Via", b"Max-Forwards", b"X-Forwarded-Port", b"X-Forwarded-Prefix"]
    lines = [name + b": 5" for name in names[1:]]
    message = get(b"Connection: " + b", ".join(names).lower(), *lines)
    assert dropped(message) == {b"Connection"}
    assert message.content_length == 5


def test_connection_options_beyond_the_number_of_fields_cost_no_time() -> None:
    assert get(b"Connection: " + b",".join([b"x"] * 100)).result > 0
    assert get(b"Connection: " + b",".join([b"x"] * 101)).result == -431
    assert get(b"Connection: " + b"," * 10000).result > 0


@pytest.mark.parametrize(
    ("version", "value", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close", False),
        (b"1.1", b"keep-alive, close", False),
        (b"1.1", b"closed", True),
        (b"1.0", b"", False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
        (b"1.5", b"", True),
    ],
)
def test_keep_alive(version: bytes, value: bytes, kept: bool) -> None:
    message = get(b"Connection: " + value, start=b"GET / HTTP/" + version)
    assert ("keep_alive" in message.flags) is kept


def test_expect_continue_needs_a_body_and_1_1() -> None:
    expect, body = b"Expect: 100-Continue", b"Content-Length: 5"
    assert "expect_continue" in get(expect, body).flags
    assert "expect_continue" in get(expect, b"Transfer-Encoding: chunked").flags
    assert "expect_continue" not in get(expect).flags
    assert "expect_continue" not in get(expect, b"Content-Length: 0").flags
    assert "expect_continue" not in get(expect, body, start=b"POST / HTTP/1.0").flags
    assert dropped(get(expect)) == {b"Expect"}
    other = get(b"Expect: something", body)
    assert "expect_continue" not in other.flags
    assert dropped(other) == set()


UPGRADE = b"Connection: keep-alive, Upgrade"


@pytest.mark.parametrize(
    ("lines", "start", "flags"),
    [
        ([UPGRADE, b"Upgrade: websocket"], b"GET / HTTP/1.1", {"upgrade", "websocket"}),
        ([UPGRADE, b"Upgrade: WebSocket"], b"GET / HTTP/1.1", {"upgrade", "websocket"}),
        ([UPGRADE, b"Upgrade: websocket"], b"POST / HTTP/1.1", {"upgrade"}),
        ([UPGRADE, b"Upgrade: websocket"], b"GET / HTTP/1.0", set()),
        ([UPGRADE, b"Upgrade: websocket, other/2"], b"GET / HTTP/1.1", {"upgrade"}),
        ([UPGRADE, b"Upgrade: websocket", b"Upgrade: other"], b"GET / HTTP/1.1", {"upgrade"}),
        ([UPGRADE, b"Upgrade: other", b"Upgrade: websocket"], b"GET / HTTP/1.1", {"upgrade"}),
        ([UPGRADE, b"Upgrade: other"], b"GET / HTTP/1.1", {"upgrade"}),
        ([UPGRADE, b"Upgrade: "], b"GET / HTTP/1.1", set()),
        ([UPGRADE], b"GET / HTTP/1.1", set()),
        ([b"Upgrade: websocket"], b"GET / HTTP/1.1", set()),
        ([UPGRADE, b"Upgrade: websocket", b"Content-Length: 5"], b"GET / HTTP/1.1", set()),
        ([UPGRADE, b"Upgrade: websocket", b"Transfer-Encoding: chunked"], b"GET / HTTP/1.1", set()),
        ([UPGRADE, b"Upgrade: websocket", b"Content-Length: 0"], b"GET / HTTP/1.1", {"upgrade", "websocket"}),
        ([UPGRADE, b"Upgrade: h2c"], b"GET / HTTP/1.1", {"h2c"}),
        ([UPGRADE, b"Upgrade: H2C"], b"GET / HTTP/1.1", {"h2c"}),
        ([UPGRADE, b"Upgrade: websocket, h2c"], b"GET / HTTP/1.1", {"h2c"}),
        ([UPGRADE, b"Upgrade: h2c", b"Upgrade: websocket"], b"GET / HTTP/1.1", {"h2c"}),
        ([UPGRADE, b"Upgrade: HTTP/2.0"], b"GET / HTTP/1.1", {"h2c"}),
    ],
)
def test_upgrade(lines: list[bytes], start: bytes, flags: set[str]) -> None:
    assert get(*lines, start=start).flags & {"upgrade", "websocket", "h2c"} == flags


def test_te_trailers() -> None:
    assert "te_trailers" in get(b"TE: gzip;q=1, Trailers").flags
    assert "te_trailers" not in get(b"TE: trailer").flags


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
def test_idempotent_methods(method: bytes) -> None:
    assert "idempotent" in get(start=method + b" / HTTP/1.1").flags
    assert "idempotent" not in get(start=method + b"X / HTTP/1.1").flags


def test_methods_that_are_not_idempotent() -> None:
    for method in (b"POST", b"PATCH", b"get", b"BREW"):
        assert "idempotent" not in get(start=method + b" / HTTP/1.1").flags


@pytest.mark.parametrize(
    ("values", "number"),
    [([b"0"], 0), ([b"10"], 10), ([b"99999999999"], 32767), ([], -1)],
)
def test_max_forwards(values: list[bytes], number: int) -> None:
    lines = [b"Max-Forwards: " + value for value in values]
    for method in (b"TRACE", b"OPTIONS"):
        assert get(*lines, start=method + b" / HTTP/1.1").max_forwards == number
    assert get(*lines).max_forwards == -1


@pytest.mark.parametrize("values", [[b""], [b"-1"], [b"1", b"1"], [b"1, 2"], [b"x"]])
def test_max_forwards_that_is_refused_where_it_matters(values: list[bytes]) -> None:
    lines = [b"Max-Forwards: " + value for value in values]
    assert get(*lines, start=b"TRACE / HTTP/1.1").result == -400
    assert get(*lines).result > 0


class TestLimits:
    """What is too long is known as soon as the limit is reached, and no later."""

    def test_head(self) -> None:
        head = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
        fill = b"a" * (256 - len(head) - 4)
        fits = head + fill + b"\r\n\r\n"
        assert len(fits) == 256
        for cuts in (range(0), range(1, 256)):
            assert parse_request(fits, cuts, head_limit=256).result == 256
            assert parse_request(fits + b"body", cuts, head_limit=256).result == 256
            assert parse_request(head + b"a" + fill + b"\r\n\r\n", cuts, head_limit=256).result == -431
        assert parse_request(head + fill + b"aaa", head_limit=256).result == 0
        assert parse_request(head + fill + b"aaaa", head_limit=256).result == -431

    def test_request_line(self) -> None:
        line = b"GET /" + b"a" * (64 - 14) + b" HTTP/1.1"
        assert len(line) == 64
        rest = b"\r\n" + HOST + b"\r\n"
        longer = line.replace(b"/", b"/a", 1)
        for cuts in (range(0), range(1, 60)):
            assert parse_request(line + rest, cuts, line_limit=64).result > 0
            assert parse_request(longer + rest, cuts, line_limit=64).result == -414
        assert parse_request(b"GET /" + b"a" * 61, line_limit=64).result == -414
        assert parse_request(b"GET /" + b"a" * 60, line_limit=64).result == 0
        # malformed, but too long comes first: the same verdict however it is cut
        assert parse_request(b"GET \x01" + b"a" * 100 + rest, line_limit=64).result == -414

    def test_request_line_that_fills_the_whole_head(self) -> None:
        assert parse_request(b"GET /" + b"a" * 200, head_limit=128, line_limit=8192).result == -414

    def test_number_of_fields(self) -> None:
        def lines(count: int) -> bytes:
            return b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * (count - 1) + b"\r\n"

        assert parse_request(lines(10), field_limit=10).result > 0
        assert parse_request(lines(11), field_limit=10).result == -431
        assert parse_request(lines(11)[:-2], field_limit=10).result == -431

    def test_an_error_within_the_limit_is_told_before_the_limit_is_reached(self) -> None:
        data = b"GET / HTTP/1.1\r\nbad line\r\n" + b"X: y\r\n" * 100
        assert parse_request(data, head_limit=100).result == -400


def test_a_head_that_comes_byte_by_byte_is_told_at_its_last_byte() -> None:
    data = b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + b"a" * 500 + b"\r\n\r\n"
    message = parse_request(data, range(1, len(data)))
    assert (message.result, message.calls) == (len(data), len(data))


@pytest.mark.parametrize("line", [b"X\x01: y", b"X: \x00", b" X: y", b"X: y\rz", b"\rX", b"X : y"])
def test_an_error_waits_for_the_end_of_its_line(line: bytes) -> None:
    head = b"GET / HTTP/1.1\r\n" + line
    assert parse_request(head).result == 0
    assert parse_request(head + b"\n").result == parse_request(head + b"\r\n").result == -400
    # without a line end within the limit it is the limit that speaks
    assert parse_request(head + b"y" * 100 + b"\r\n", head_limit=64).result == -431


def test_an_error_is_told_at_the_end_of_its_line() -> None:
    data = b"GET / HTTP/1.1\r\nX\x01: y\r\nHost: h.example\r\n\r\n"
    message = parse_request(data, range(1, len(data)))
    assert (message.result, message.calls) == (-400, data.index(b"y\r\n") + 3)
