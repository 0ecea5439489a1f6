"""Bind addresses and backend URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.addresses import BackendUrl, Bind, ReadBind
from headgate.config.values import Wrong


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:8080", Bind("127.0.0.1:8080", "inet", "127.0.0.1", 8080)),
        ("0.0.0.0:80", Bind("0.0.0.0:80", "inet", "0.0.0.0", 80)),
        ("[::1]:8080", Bind("[::1]:8080", "inet6", "::1", 8080)),
        ("[0:0::1]:8080", Bind("[::1]:8080", "inet6", "::1", 8080)),
        ("[::]:8080", Bind("[::]:8080", "inet6", "::", 8080)),
        (":8080", Bind(":8080", "dual", "", 8080)),
        ("*:8080", Bind(":8080", "dual", "", 8080)),
        ("localhost:0", Bind("127.0.0.1:0", "inet", "127.0.0.1", 0)),
        ("unix:/run/hg.sock", Bind("unix:/run/hg.sock", "unix", path="/run/hg.sock")),
        ("unix:///run/hg.sock", Bind("unix:/run/hg.sock", "unix", path="/run/hg.sock")),
    ],
)
def test_bind(text: str, bind: Bind) -> None:
    assert Bind.parse(text) == bind
    assert Bind.parse(bind.text) == bind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "127.0.0.1",
        "::1:8080",
        "[::1]",
        "[::1",
        "a.example:80",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:8_0",
        "127.0.0.1:-1",
        "127.0.0.1:٨٠",
        "[127.0.0.1]:80",
        "unix:",
        "unix:a",
        "unix:/" + "a" * 107,
        "http://127.0.0.1:80",
        "@x",
    ],
)
def test_not_a_bind(text: str) -> None:
    with pytest.raises(Wrong):
        Bind.parse(text)


def test_a_bare_port_is_explained() -> None:
    for raw in (8080, "8080"):
        with pytest.raises(Wrong) as caught:
            ReadBind()(raw)
        assert caught.value.suggestion == 'did you mean ":8080"?'


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (":80", "127.0.0.1:80", True),
        (":80", "[::1]:80", True),
        (":80", ":81", False),
        (":0", ":0", False),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("0.0.0.0:80", "[::]:80", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("[::]:80", "[::1]:80", True),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", ":80", False),
    ],
)
def test_overlap(one: str, other: str, overlap: bool) -> None:
    assert Bind.parse(one).overlaps(Bind.parse(other)) is overlap
    assert Bind.parse(other).overlaps(Bind.parse(one)) is overlap


@pytest.mark.parametrize(
    ("text", "url", "authority", "resolving"),
    [
        ("http://127.0.0.1:9001", BackendUrl("http://127.0.0.1:9001", "127.0.0.1", 9001), "127.0.0.1:9001", False),
        ("HTTP://App.Example/", BackendUrl("http://app.example", "app.example", 80), "app.example", True),
        ("http://app_1:80", BackendUrl("http://app_1:80", "app_1", 80), "app_1", True),
        ("http://[::1]:9001", BackendUrl("http://[::1]:9001", "::1", 9001), "[::1]:9001", False),
        ("http://[::1]", BackendUrl("http://[::1]", "::1", 80), "[::1]", False),
        ("unix:/run/app.sock", BackendUrl("unix:/run/app.sock", path="/run/app.sock"), "localhost", False),
    ],
)
def test_url(text: str, url: BackendUrl, authority: str, resolving: bool) -> None:
    parsed = BackendUrl.parse(text)
    assert parsed == url
    assert parsed.authority == authority
    assert parsed.needs_resolving is resolving
    assert BackendUrl.parse(parsed.text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a:9001",
        "//a:9001",
        "ftp://a",
        "http://",
        "http://:80",
        "http://a:0",
        "http://a:99999",
        "http://a/b",
        "http://a?x",
        "http://a#x",
        "http://u:p@a",
        "http://a b",
        "http://a\r\nX: y",
        "http://1.2.3",
        "unix:a",
        "http://::1:80",
    ],
)
def test_not_a_url(text: str) -> None:
    with pytest.raises(Wrong):
        BackendUrl.parse(text)


def test_the_same_place_has_one_identity() -> None:
    assert BackendUrl.parse("http://a").identity == BackendUrl.parse("http://A:80/").identity
    assert BackendUrl.parse("http://a").identity != BackendUrl.parse("http://a:81").identity
    assert BackendUrl.parse("unix:/a").identity != BackendUrl.parse("http://a").identity


@given(st.text() | st.from_regex(r"(unix:|http://)?[\[\]0-9a-f.:*/@%-]{0,20}", fullmatch=True))
def test_any_text_is_an_address_or_wrong(text: str) -> None:
    try:
        bind = Bind.parse(text)
        assert Bind.parse(bind.text) == bind
    except Wrong:
        pass
    try:
        url = BackendUrl.parse(text)
        assert BackendUrl.parse(url.text) == url
    except Wrong:
        pass
