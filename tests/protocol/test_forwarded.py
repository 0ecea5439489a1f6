"""The Forwarded field (RFC 7239): who the client is by it, and what backends get."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.engine.address import Networks
from headgate.engine.codec_testing import client_of, parse_request, write_request
from headgate.engine.preview import Preview

TRUSTED = Networks(["10.0.0.0/8", "2001:db8::/32", "unix"])


def client(*lines: str, peer: bytes = b"10.0.0.1") -> str:
    fields = "".join(f"Forwarded: {line}\r\n" for line in lines).encode("latin-1")
    message = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n" + fields + b"\r\n")
    assert message.result > 0, message
    return client_of(message, peer, TRUSTED, forwarded=True)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "10.0.0.1"),
        (["for=192.0.2.1"], "192.0.2.1"),
        (["For=192.0.2.1"], "192.0.2.1"),
        (["proto=https;FOR=192.0.2.1;by=10.0.0.9;host=x"], "192.0.2.1"),
        (['for="192.0.2.1"'], "192.0.2.1"),
        (['for="192.0.2.1:8080"'], "192.0.2.1"),
        (['for="192.0.2.1:_port"'], "192.0.2.1"),
        (['for="[2001:dead::1]"'], "2001:dead::1"),
        (['for="[2001:dead::1]:4711"'], "2001:dead::1"),
        (['for="[2001:dead::1]:_a.b-c"'], "2001:dead::1"),
        ([r'for="\1\92.0.2.1"'], "192.0.2.1"),
        (['for="[::ffff:192.0.2.1]"'], "192.0.2.1"),
        # Not by the grammar, but common, and with one meaning.
        (["for=[2001:dead::1]"], "2001:dead::1"),
        (["for=192.0.2.1:8080"], "192.0.2.1"),
        (['for="2001:dead::1"'], "2001:dead::1"),
        # The rightmost one that is not trusted.
        (["for=6.6.6.6, for=192.0.2.1"], "192.0.2.1"),
        (["for=6.6.6.6, for=192.0.2.1,for=10.0.0.2"], "192.0.2.1"),
        (["for=6.6.6.6", "for=192.0.2.1", 'for="[2001:db8::7]"'], "192.0.2.1"),
        (["for=10.0.0.3, for=10.0.0.2"], "10.0.0.1"),
        ([", ,for=192.0.2.1, ,", ""], "192.0.2.1"),
        ([';for=192.0.2.1; ;proto="http";'], "192.0.2.1"),
        # Commas and semicolons in quotes, escaped quotes.
        ([r'for=192.0.2.1;host="a,for=6.6.6.6"'], "192.0.2.1"),
        ([r'for=192.0.2.1;host="a\",for=6.6.6.6;\\"'], "192.0.2.1"),
        ([r'host="a;for=6.6.6.6";for=192.0.2.1'], "192.0.2.1"),
        # Who does not say, or says nonsense, is the one the peer speaks for; nobody left of it is believed.
        (["for=192.0.2.1, for=unknown"], "10.0.0.1"),
        (["for=192.0.2.1, for=_hidden"], "10.0.0.1"),
        (['for=192.0.2.1, for="_SEVKISEK"'], "10.0.0.1"),
        (["for=192.0.2.1, proto=https"], "10.0.0.1"),
        (["for=unknown, for=192.0.2.1"], "192.0.2.1"),
        (["for=192.0.2.1, for=7.7.7.7;for=10.0.0.2"], "10.0.0.1"),
        (["for=192.0.2.1, for"], "10.0.0.1"),
        (["for=192.0.2.1, for="], "10.0.0.1"),
        (["for=192.0.2.1, for=10.0.0.2 x"], "10.0.0.1"),
        (["for=192.0.2.1, for =10.0.0.2"], "10.0.0.1"),
        (["for=192.0.2.1, for= 10.0.0.2"], "10.0.0.1"),
        (['for=192.0.2.1, for="10.0.0.2"x'], "10.0.0.1"),
        (["for=192.0.2.1, for=10.0.0.256"], "10.0.0.1"),
        (['for=192.0.2.1, for="10.0.0.2:_a b"'], "10.0.0.1"),
        (["for=192.0.2.1, 10.0.0.2"], "10.0.0.1"),
        ([f'for=192.0.2.1, for="{"1" * 300}"'], "10.0.0.1"),
        # A quote that a client left open does not swallow what a proxy appended.
        (['for="6.6.6.6, for=192.0.2.1'], "192.0.2.1"),
        (['for="6.6.6.6, for="[2001:dead::1]"'], "2001:dead::1"),
        (['for="6.6.6.6\\, for=192.0.2.1'], "192.0.2.1"),
        (['for=", for=192.0.2.1, for=10.0.0.2'], "192.0.2.1"),
    ],
)
def test_who_the_client_is(lines: list[str], expected: str) -> None:
    assert client(*lines) == expected


def test_of_whoever_is_not_trusted_nothing_is_believed() -> None:
    assert client("for=6.6.6.6", peer=b"192.0.2.1") == "192.0.2.1"
    assert client("for=6.6.6.6", peer=b"unix") == "6.6.6.6"


@pytest.mark.parametrize(("form", "expected"), [("x", "6.6.6.6"), ("rfc7239", "192.0.2.1"), ("both", "6.6.6.6")])
def test_what_explains_a_request_believes_the_same(form: str, expected: str) -> None:
    head = b"GET / HTTP/1.1\r\nHost: h\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    seen = Preview(head, "10.0.0.1", TRUSTED, forwarded=form, head_limit=4096, line_limit=1024, headers_limit=10)
    assert seen.request.client == expected


ADDRESSES = st.ip_addresses(v=4).map(str) | st.sampled_from(["10.0.0.2", "10.9.9.9"]) | st.ip_addresses(v=6).map(str)
QUOTED = st.text(st.sampled_from(',;="\\ =for10.'), max_size=8)


@st.composite
def elements(draw: st.DrawFn) -> tuple[str, str]:
    """An element by the grammar, and the address it names."""
    address = draw(ADDRESSES)
    node = f"[{address}]" if ":" in address else address
    node += draw(st.sampled_from(["", ":80", ":_p"]))
    if ":" in node or draw(st.booleans()):
        escaped = draw(st.integers(0, 2 ** len(node) - 1))
        node = '"' + "".join("\\" * (escaped >> k & 1) + c for k, c in enumerate(node)) + '"'
    pairs = [draw(st.sampled_from(["for=", "For=", "FOR="])) + node]
    for name in draw(st.lists(st.sampled_from(["host", "proto", "by", "ext"]), unique=True)):
        text = draw(QUOTED).replace("\\", "\\\\").replace('"', '\\"')
        pairs.insert(draw(st.integers(0, len(pairs))), draw(st.sampled_from([f"{name}=x", f'{name}="{text}"'])))
    return draw(st.sampled_from([";", "; ", " ;"])).join(pairs), address


@given(st.lists(elements(), max_size=6), st.data())
@settings(max_examples=80)
def test_elements_by_the_grammar(made: list[tuple[str, str]], data: st.DataObject) -> None:
    lines: list[str] = []
    for text, _ in made:
        joint = data.draw(st.sampled_from(["", "", ",", ", ", " ,, "]))
        if lines and joint:
            lines[-1] += joint + text
        else:
            lines.append(text)
    messages = [
        parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + a.encode() + b"\r\n\r\n") for _, a in made
    ]
    # X-Forwarded-For's own reader says who is trusted, and how an address is written.
    seen = [client_of(message, b"10.0.0.1", TRUSTED) for message in messages]
    expected = next((address for address in reversed(seen) if address != "10.0.0.1"), "10.0.0.1")
    assert client(*lines) == expected


@given(st.text(st.sampled_from(',;="\\ :[]_for10.unkow'), max_size=40))
@settings(max_examples=200)
def test_what_stands_on_the_left_changes_nothing(noise: str) -> None:
    """A client may send whatever it likes: the proxy in front of us appends who it was."""
    assert client(noise + ", for=192.0.2.1") == "192.0.2.1"
    assert client(noise, 'for="[2001:dead::1]:99";proto=https') == "2001:dead::1"


# Writing


def sent(head: bytes, **forward: Any) -> dict[str, list[str]]:
    """The fields about the client that a backend gets."""
    out = write_request(parse_request(head), **forward)
    assert out is not None
    found: dict[str, list[str]] = {}
    for line in out.decode("latin-1").split("\r\n")[1:-2]:
        name, value = line.split(": ", 1)
        if name.lower() in ("forwarded", "x-real-ip") or name.lower().startswith("x-forwarded"):
            found.setdefault(name.lower(), []).append(value)
    return found


PLAIN = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
FORGED = (
    b"GET / HTTP/1.1\r\nHost: h\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Real-IP: 6.6.6.6\r\n\r\n"
)
X = {"x-forwarded-for": ["192.0.2.1"], "x-forwarded-proto": ["http"], "x-forwarded-host": ["h"]}
REAL = {"x-real-ip": ["192.0.2.1"]}
FORWARDED = {"forwarded": ["for=192.0.2.1;host=h;proto=http"]}


@pytest.mark.parametrize("head", [PLAIN, FORGED])
@pytest.mark.parametrize(("form", "expected"), [("x", X), ("rfc7239", FORWARDED), ("both", X | FORWARDED)])
def test_backends_learn_of_the_client_by_what_the_listener_says(head: bytes, form: str, expected: Any) -> None:
    assert sent(head, form=form) == expected | REAL


@pytest.mark.parametrize(
    ("client", "host", "tls", "expected"),
    [
        (b"192.0.2.1", b"h:8080", False, 'for=192.0.2.1;host="h:8080";proto=http'),
        (b"2001:db8::1", b"h", True, 'for="[2001:db8::1]";host=h;proto=https'),
        (b"unix", b"[::1]", False, 'for=unknown;host="[::1]";proto=http'),
        (b"192.0.2.1", b"a(b),c;d=e", False, 'for=192.0.2.1;host="a(b),c;d=e";proto=http'),
    ],
)
def test_an_element_of_our_own(client: bytes, host: bytes, tls: bool, expected: str) -> None:
    head = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert sent(head, form="rfc7239", client=client, peer=client, tls=tls)["forwarded"] == [expected]


def test_without_a_host_none_is_told() -> None:
    assert sent(b"GET / HTTP/1.0\r\n\r\n", form="rfc7239")["forwarded"] == ["for=192.0.2.1;proto=http"]


CHAIN = (
    b"GET / HTTP/1.1\r\nHost: h\r\nForwarded: for=192.0.2.1;proto=https\r\nX-Forwarded-For: 192.0.2.1\r\n"
    b"X-Forwarded-Proto: https\r\n\r\n"
)


def test_what_a_trusted_proxy_sent_is_continued() -> None:
    trusted = {"trusted": True, "client": b"192.0.2.1", "peer": b"10.0.0.1"}
    x = {"x-forwarded-for": ["192.0.2.1, 10.0.0.1"], "x-forwarded-proto": ["https"], "x-forwarded-host": ["h"]}
    lines = ["for=192.0.2.1;proto=https", "for=10.0.0.1;host=h;proto=http"]
    assert sent(CHAIN, form="both", **trusted) == x | REAL | {"forwarded": lines}
    assert sent(CHAIN, form="rfc7239", **trusted) == REAL | {"forwarded": lines}
    assert sent(CHAIN, form="x", **trusted) == x | REAL | {"forwarded": [lines[0], "for=10.0.0.1;proto=http"]}


def test_a_forwarded_that_names_another_client_is_replaced() -> None:
    trusted = {"trusted": True, "client": b"192.0.2.1", "peer": b"10.0.0.1"}
    assert sent(CHAIN, form="both", contradicted=True, **trusted)["forwarded"] == FORWARDED["forwarded"]
