"""Who may ask."""

from __future__ import annotations

import pytest

from headgate.admin.access import Access, Peer
from headgate.admin.wire import Refusal
from headgate.config.schema import Admin
from headgate.engine.request_head import RequestHead, RequestParser

from .world import TOKEN

TCP = Peer()
BEARER = f"Authorization: Bearer {TOKEN}"


def head(*lines: str, host: str = "127.0.0.1:9900") -> RequestHead:
    text = "\r\n".join(["GET /status HTTP/1.1", f"Host: {host}", *lines, "", ""])
    made = RequestParser(head_limit=4096, headers_limit=20).feed(text.encode())
    assert made is not None
    return made


def verdict(peer: Peer, request: RequestHead, *, config: Admin | None = None, open_to_all: bool = False) -> int:
    try:
        Access(config or Admin(token=TOKEN), own_uid=1000).check(peer, request, open_to_all=open_to_all)
    except Refusal as refusal:
        return refusal.status
    return 200


def test_no_refusal_quotes_a_token() -> None:
    with pytest.raises(Refusal) as refused:
        Access(Admin(token=TOKEN), own_uid=1000).check(
            TCP, head("Authorization: Bearer secret-guess"), open_to_all=False
        )
    assert "secret-guess" not in str(refused.value)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 401),
        ([BEARER], 200),
        ([f"authorization: bearer {TOKEN}"], 200),
        ([f"{BEARER}x"], 401),
        ([BEARER[:-1]], 401),
        (["Authorization: Bearer"], 401),
        ([f"Authorization: Basic {TOKEN}"], 401),
        ([BEARER, BEARER], 401),
        ([BEARER, "Authorization: Bearer other"], 401),
        (["Authorization: Bearer \xff\xfe"], 401),
    ],
)
def test_tcp_needs_the_token(lines: list[str], status: int) -> None:
    assert verdict(TCP, head(*lines)) == status


@pytest.mark.parametrize(
    ("uid", "status"), [(0, 200), (1000, 200), (1001, 401), (65534, 401)], ids=["root", "us", "other", "nobody"]
)
def test_on_a_unix_socket_the_kernel_says_who_asks(uid: int, status: int) -> None:
    assert verdict(Peer(uid), head()) == status


def test_another_user_needs_the_token_and_is_refused_where_there_is_none() -> None:
    assert verdict(Peer(1001), head(BEARER)) == 200
    assert verdict(Peer(1001), head(BEARER), config=Admin()) == 403


def test_the_open_endpoints_ask_for_nothing() -> None:
    assert verdict(TCP, head(host="10.0.0.7"), open_to_all=True) == 200
    assert verdict(TCP, head(host="pod.example"), open_to_all=True) == 200
    assert verdict(Peer(1001), head(), config=Admin(), open_to_all=True) == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9900", 200),
        ("127.0.0.1", 200),
        ("[::1]:9900", 200),
        ("admin.internal:8443", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_a_name_that_nobody_configured_is_dns_rebinding(host: str, status: int) -> None:
    config = Admin(token=TOKEN, hosts=("admin.internal",))
    assert verdict(TCP, head(BEARER, host=host), config=config) == status


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Origin: http://127.0.0.1:9900"], 200),
        (["Origin: http://evil.example"], 403),
        (["Origin: null"], 403),
        (["Origin: http://127.0.0.1:9900", "Origin: http://evil.example"], 403),
        (["Sec-Fetch-Site: same-origin"], 200),
        (["Sec-Fetch-Site: none"], 200),
        (["Sec-Fetch-Site: cross-site"], 403),
        (["Sec-Fetch-Site: same-site"], 403),
    ],
)
def test_pages_of_another_origin_are_refused_with_the_token_too(lines: list[str], status: int) -> None:
    assert verdict(TCP, head(BEARER, *lines)) == status
    assert verdict(Peer(1000), head(*lines)) == status
