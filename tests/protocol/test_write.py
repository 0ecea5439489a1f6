"""What goes on the wire: requests to backends, responses to clients."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.engine.codec_testing import Message, parse_request, parse_response, write_request, write_response

from .dialogue import DATE, assert_strict


def request(head: bytes, **forward: Any) -> list[bytes]:
    """The lines that a backend gets for this request."""
    message = parse_request(head)
    assert message.result > 0, message
    out = write_request(message, **forward)
    assert out is not None
    assert_strict(out, request=True)
    return out[:-4].split(b"\r\n")


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1", **forward: Any) -> list[bytes]:
    head = start + b"\r\nHost: h\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return request(head, **forward)


ADDED = [
    b"X-Forwarded-For: 192.0.2.1",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Host: h",
    b"X-Real-IP: 192.0.2.1",
]


def test_a_plain_request() -> None:
    assert get(b"X-A: 1", b"Accept:*/*", start=b"GET /a?b HTTP/1.1") == [
        b"GET /a?b HTTP/1.1",
        b"Host: h",
        b"X-A: 1",
        b"Accept:*/*",
        *ADDED,
    ]


def test_dropped_lines_leave_the_others_in_their_order() -> None:
    lines = [
        b"A: 1",
        b"Connection: x",
        b"B: 2",
        b"X: 3",
        b"C: 4",
        b"TE: gzip",
        b"Keep-Alive: x",
        b"D: 5",
        b"Upgrade: y",
    ]
    assert get(*lines)[2:6] == [b"A: 1", b"B: 2", b"C: 4", b"D: 5"]
    assert get(*lines[1:])[2:5] == [b"B: 2", b"C: 4", b"D: 5"]
    assert get(b"Connection: x")[2:] == ADDED


def test_version_and_host_are_ours_to_write() -> None:
    assert request(b"GET / HTTP/1.0\r\n\r\n")[:2] == [b"GET / HTTP/1.1", b"Host: "]
    assert request(b"GET / HTTP/1.7\r\nX: 1\r\nhOST:a:81\r\n\r\n")[:3] == [b"GET / HTTP/1.1", b"Host: a:81", b"X: 1"]
    lines = get(start=b"GET http://other:81/p HTTP/1.1")
    assert lines[:2] == [b"GET /p HTTP/1.1", b"Host: other:81"]
    assert b"X-Forwarded-Host: other:81" in lines
    lines = get(host=b"backend:9001")
    assert lines[1] == b"Host: backend:9001"
    assert b"X-Forwarded-Host: h" in lines


def test_the_empty_host_is_not_told_on() -> None:
    assert not any(line.startswith(b"X-Forwarded-Host") for line in request(b"GET / HTTP/1.1\r\nHost:\r\n\r\n"))


CLAIMS = [
    b"X-Forwarded-For: 6.6.6.6",
    b"x-forwarded-for: 7.7.7.7, 8.8.8.8",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil",
    b"X-Forwarded-Port: 1",
    b"X-Forwarded-Prefix: /evil",
    b"X-Real-IP: 6.6.6.6",
    b"X-Request-ID: theirs",
    b"Forwarded: for=6.6.6.6",
]


def test_claims_of_strangers_are_replaced() -> None:
    assert get(*CLAIMS, request_id=b"ours", tls=True) == [
        b"GET / HTTP/1.1",
        b"Host: h",
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: h",
        b"X-Real-IP: 192.0.2.1",
        b"X-Request-ID: ours",
    ]
    # naming them in Connection changes nothing
    assert get(b"Connection: X-Forwarded-For, X-Real-IP, X-Request-ID", *CLAIMS, request_id=b"ours") == get(
        *CLAIMS, request_id=b"ours"
    )


def test_claims_of_trusted_proxies_are_kept_and_appended_to() -> None:
    lines = get(*CLAIMS, request_id=b"ours", trusted=True, client=b"8.8.8.8", peer=b"10.0.0.1")
    assert lines == [
        b"GET / HTTP/1.1",
        b"Host: h",
        *CLAIMS[2:6],
        *CLAIMS[7:],
        b"X-Forwarded-For: 6.6.6.6, 7.7.7.7, 8.8.8.8, 10.0.0.1",
        b"X-Real-IP: 8.8.8.8",
        b"Forwarded: for=10.0.0.1;proto=http",
    ]


def test_a_trusted_proxy_that_claims_nothing() -> None:
    assert get(trusted=True, client=b"10.0.0.1", peer=b"10.0.0.1", request_id=b"ours") == [
        b"GET / HTTP/1.1",
        b"Host: h",
        b"X-Forwarded-For: 10.0.0.1",
        *ADDED[1:3],
        b"X-Real-IP: 10.0.0.1",
        b"X-Request-ID: ours",
    ]


def test_forwarded_of_an_ipv6_peer_and_of_a_unix_socket() -> None:
    lines = get(b"Forwarded: for=a", trusted=True, peer=b"2001:db8::1", tls=True)
    assert lines[-1] == b'Forwarded: for="[2001:db8::1]";proto=https'
    assert get(b"Forwarded: for=a", trusted=True, peer=b"")[-1] == b"Forwarded: for=unknown;proto=http"


def test_a_peer_without_address() -> None:
    assert get(*CLAIMS, client=b"", peer=b"") == [b"GET / HTTP/1.1", b"Host: h", *ADDED[1:3]]
    lines = get(*CLAIMS, client=b"", peer=b"", trusted=True)
    assert b"X-Forwarded-For: 6.6.6.6, 7.7.7.7, 8.8.8.8" in lines
    assert b"X-Real-IP: 6.6.6.6" in lines


def test_via_is_added_behind_those_that_came() -> None:
    lines = get(b"Via: 1.0 a", b"X: 1", via=b"headgate")
    assert [line for line in lines if line.startswith(b"Via")] == [b"Via: 1.0 a", b"Via: 1.1 headgate"]
    assert b"Via: 1.0 headgate" in get(start=b"GET / HTTP/1.0", via=b"headgate")


def test_framing() -> None:
    body = b"POST / HTTP/1.1"
    assert get(b"content-length: 007, 7", b"Content-Length:7", start=body)[2:] == [*ADDED, b"Content-Length: 7"]
    assert get(b"Content-Length: 0", start=body)[-1] == b"Content-Length: 0"
    assert get(b"Transfer-encoding:CHUNKED", start=body)[2:] == [*ADDED, b"Transfer-Encoding: chunked"]
    # the engine may choose: what it has read completely goes with a length, what it has not in chunks
    assert get(b"Content-Length: 7", start=body, framing="chunked")[2:] == [*ADDED, b"Transfer-Encoding: chunked"]
    assert get(b"Content-Length: 7", framing="none")[2:] == ADDED


def test_trailer_announces_only_where_trailers_can_follow() -> None:
    assert b"Trailer: X" in get(b"Trailer: X", b"Transfer-Encoding: chunked")
    assert b"Trailer: X" not in get(b"Trailer: X")


def test_expect_goes_on_only_when_asked_to() -> None:
    lines = [b"Expect: 100-CONTINUE", b"Content-Length: 5"]
    assert b"Expect: 100-continue" in get(*lines, keep_expect=True)
    assert not any(line.lower().startswith(b"expect") for line in get(*lines))
    assert not any(line.lower().startswith(b"expect") for line in get(lines[0], keep_expect=True))
    assert b"Expect: more" in get(b"Expect: more", lines[1])


def test_upgrade_goes_on_only_when_asked_to() -> None:
    lines = [b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x"]
    assert get(*lines, keep_upgrade=True)[2:] == [lines[2], *ADDED, b"Connection: upgrade", b"Upgrade: websocket"]
    assert get(*lines)[2:] == [lines[2], *ADDED]
    two = get(lines[0], b"Upgrade: a/1", b"Upgrade: b", keep_upgrade=True)
    assert two[-2:] == [b"Connection: upgrade", b"Upgrade: a/1, b"]
    h2c = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]
    assert get(*h2c, keep_upgrade=True)[2:] == ADDED


def test_te_trailers_goes_on_alone() -> None:
    assert get(b"TE: gzip, trailers", b"Connection: TE")[2:] == [*ADDED, b"Connection: TE", b"TE: trailers"]


@pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS"])
def test_max_forwards_is_decremented(method: bytes) -> None:
    start = method + b" / HTTP/1.1"
    assert get(b"Max-Forwards: 5", start=start)[2:] == [*ADDED, b"Max-Forwards: 4"]
    assert get(b"Max-Forwards: 99999", start=start)[2:] == [*ADDED, b"Max-Forwards: 32766"]
    assert get(b"Max-Forwards: 5")[2:] == [b"Max-Forwards: 5", *ADDED]


def test_extra_lines_come_last() -> None:
    assert get(extra=b"X-Extra: 1\r\nX-More: 2\r\n")[-2:] == [b"X-Extra: 1", b"X-More: 2"]


FULL_REQUEST = (
    b"POST / HTTP/1.1\r\nHost: h\r\nX: 1\r\nForwarded: a\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 5\r\n"
    b"Expect: 100-continue\r\nTE: trailers\r\n\r\n"
)
FULL_RESPONSE = b"HTTP/1.1 200 OK\r\nX: 1\r\nConnection: a\r\nY: 2\r\nContent-Length: 5\r\n\r\n"


def test_room_is_never_exceeded_and_exact_room_is_enough() -> None:
    message = parse_request(FULL_REQUEST)
    options: dict[str, Any] = {
        "via": b"hg",
        "request_id": b"id",
        "keep_expect": True,
        "trusted": True,
        "extra": b"E: x\r\n",
    }
    whole = write_request(message, **options)
    assert whole is not None
    for capacity in range(len(whole)):
        assert write_request(message, capacity=capacity, **options) is None
    assert write_request(message, capacity=len(whole), **options) == whole
    reply = parse_response(FULL_RESPONSE)
    written = write_response(reply, via=b"hg", date=DATE, extra=b"E: x\r\n", close=True)
    assert written is not None
    for capacity in range(len(written)):
        assert write_response(reply, capacity=capacity, via=b"hg", date=DATE, extra=b"E: x\r\n", close=True) is None
    assert write_response(reply, capacity=len(written), via=b"hg", date=DATE, extra=b"E: x\r\n", close=True) == written


def reply(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", method: str = "GET", **answer: Any) -> list[bytes]:
    """The lines that a client gets for this response."""
    flags = ("upgrade", "websocket") if b" 101 " in start else ()
    data = start + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    message: Message = parse_response(data, method=method, request_flags=flags)
    assert message.result > 0, message
    out = write_response(message, **answer)
    assert out is not None
    assert_strict(out, request=False)
    return out[:-4].split(b"\r\n")


def test_a_plain_response() -> None:
    assert reply(b"Date: x", b"Content-Length: 5", b"X: 1", via=b"hg", date=DATE) == [
        b"HTTP/1.1 200 OK",
        b"Date: x",
        b"X: 1",
        b"Via: 1.1 hg",
        b"Content-Length: 5",
    ]


def test_start_line_of_old_and_terse_backends() -> None:
    assert reply(b"Content-Length: 5", start=b"HTTP/1.0 404", via=b"hg") == [
        b"HTTP/1.1 404 ",
        b"Via: 1.0 hg",
        b"Content-Length: 5",
    ]


def test_date_where_the_backend_sent_none() -> None:
    dated = b"Date: " + DATE
    assert dated in reply(b"Content-Length: 0", date=DATE)
    assert dated in reply(b"Connection: Date", b"Date: x", b"Content-Length: 0", date=DATE)
    assert reply(start=b"HTTP/1.1 103 Early Hints", date=DATE) == [b"HTTP/1.1 103 Early Hints"]


def test_framing_to_the_client() -> None:
    assert reply(b"Content-Length: 05", b"Content-Length: 5")[1:] == [b"Content-Length: 5"]
    assert reply(b"Content-Length: 5", framing="chunked")[1:] == [b"Transfer-Encoding: chunked"]
    assert reply(b"Transfer-Encoding: chunked", b"Content-Length: 9")[1:] == [b"Transfer-Encoding: chunked"]
    assert reply(b"X: 1", framing="chunked")[1:] == [b"X: 1", b"Transfer-Encoding: chunked"]
    assert reply(b"X: 1", framing="close")[1:] == [b"X: 1", b"Connection: close"]


def test_answers_without_body() -> None:
    assert reply(b"Content-Length: 5", method="HEAD")[1:] == [b"Content-Length: 5"]
    assert reply(b"Transfer-Encoding: chunked", method="HEAD")[1:] == []
    assert reply(b"Content-Length: 5", start=b"HTTP/1.1 304 x")[1:] == [b"Content-Length: 5"]
    assert reply(b"Content-Length: 5", start=b"HTTP/1.1 204 x")[1:] == []
    assert reply(b"Transfer-Encoding: chunked", start=b"HTTP/1.1 204 x")[1:] == []


def test_http_1_0_clients_get_no_transfer_coding() -> None:
    chunked = b"Transfer-Encoding: chunked"
    for framing in ("chunked", "close"):
        assert reply(chunked, b"Trailer: X", minor_version=0, framing=framing)[1:] == [b"Connection: close"]
    assert reply(b"Content-Length: 5", minor_version=0)[1:] == [b"Content-Length: 5", b"Connection: keep-alive"]
    closing = reply(b"Content-Length: 5", minor_version=0, close=True)
    assert closing[1:] == [b"Content-Length: 5", b"Connection: close"]


def test_closing() -> None:
    assert reply(b"Content-Length: 5", close=True)[-1] == b"Connection: close"
    assert reply(start=b"HTTP/1.1 100 Continue", close=True) == [b"HTTP/1.1 100 Continue"]


def test_switching_protocols() -> None:
    lines = [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Accept: x", b"Content-Length: 3"]
    assert reply(*lines, start=b"HTTP/1.1 101 Go", keep_upgrade=True)[1:] == [
        b"Sec-WebSocket-Accept: x",
        b"Connection: upgrade",
        b"Upgrade: websocket",
    ]


def test_fields_that_go_no_further() -> None:
    lines = [
        b"Connection: X-Hop",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=9",
        b"Upgrade: h2c",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
    ]
    assert reply(*lines, b"Content-Length: 5")[1:] == [b"Set-Cookie: a", b"Set-Cookie: b", b"Content-Length: 5"]


def test_extra_lines_of_an_answer() -> None:
    assert reply(b"Content-Length: 5", extra=b"Set-Cookie: s=1\r\n")[-1] == b"Set-Cookie: s=1"
