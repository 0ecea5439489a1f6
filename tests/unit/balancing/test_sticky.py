from __future__ import annotations

import hmac
from hashlib import sha256

import pytest

from headgate.balancing.sticky import cookie_value, lookup, set_cookie_line

from .fakes import several

SECRET = b"0123456789abcdef"


def test_the_value_is_a_truncated_hmac() -> None:
    expected = hmac.new(SECRET, b"\0\0\0\3webhttp://a:80", sha256).hexdigest()[:32].encode()
    assert cookie_value(SECRET, "web", "http://a:80") == expected


def test_it_depends_on_secret_pool_and_backend() -> None:
    values = {
        cookie_value(secret, pool, backend)
        for secret in (SECRET, SECRET[::-1])
        for pool, backend in [("web", "a"), ("web", "b"), ("api", "a"), ("we", "ba")]
    }
    assert len(values) == 8


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        cookie_value(b"secret", "web", "a")


def test_the_lookup_finds_each_backend_by_its_value() -> None:
    backends = several(3)
    table = lookup(SECRET, "web", backends)
    assert [table[cookie_value(SECRET, "web", backend.name)] for backend in backends] == backends
    assert len(table) == 3


def test_the_line_of_a_session_cookie() -> None:
    assert set_cookie_line(b"hg", b"abc") == b"Set-Cookie: hg=abc; Path=/; HttpOnly; SameSite=Lax\r\n"


def test_the_line_with_everything() -> None:
    line = set_cookie_line(b"hg", b"abc", secure=True, same_site="None", ttl_s=3600.9)
    assert line == b"Set-Cookie: hg=abc; Path=/; HttpOnly; SameSite=None; Secure; Max-Age=3600\r\n"


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (b"", {}, "name of a cookie"),
        (b"a b", {}, "name of a cookie"),
        (b"a=b", {}, "name of a cookie"),
        (b"a\r\n", {}, "name of a cookie"),
        (b"hg", {"same_site": "lax"}, "same_site is one of"),
        (b"hg", {"same_site": "None"}, "needs secure"),
        (b"hg", {"ttl_s": 0}, "at least 1 second"),
    ],
)
def test_what_browsers_would_drop_is_refused(name: bytes, options: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        set_cookie_line(name, b"abc", **options)  # type: ignore[arg-type]
