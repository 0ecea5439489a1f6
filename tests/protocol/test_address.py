"""Client addresses, networks, and who is believed about whom."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.engine.address import Networks
from headgate.engine.codec_testing import client_of, in_networks, normal_address, parse_request


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (b"1.2.3.4", "1.2.3.4"),
        (b"0.0.0.0", "0.0.0.0"),
        (b"255.255.255.255", "255.255.255.255"),
        (b"1.2.3.4:80", "1.2.3.4"),
        (b"1.2.3.4:65535", "1.2.3.4"),
        (b"::", "::"),
        (b"::1", "::1"),
        (b"[::1]", "::1"),
        (b"[::1]:80", "::1"),
        (b"1::", "1::"),
        (b"2001:DB8::1", "2001:db8::1"),
        (b"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        (b"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        (b"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        (b"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        (b"1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        (b"1:0:0:2:3:0:0:4", "1::2:3:0:0:4"),
        (b"::ffff:1.2.3.4", "1.2.3.4"),
        (b"::ffff:102:304", "1.2.3.4"),
        (b"[::ffff:1.2.3.4]:80", "1.2.3.4"),
        (b"64:ff9b::1.2.3.4", "64:ff9b::102:304"),
        (b"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
    ],
)
def test_addresses(text: bytes, normal: str) -> None:
    assert normal_address(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"1.2.3",
        b"1.2.3.4.5",
        b"1.2.3.256",
        b"01.2.3.4",
        b"1.2.3.00",
        b"1.2.3.",
        b".1.2.3",
        b"1..2.3",
        b"1.2.3.4 ",
        b"1.2.3.4:",
        b"1.2.3.4:65536",
        b"1.2.3.4:x",
        b"1.2.3.4:-1",
        b"1.2.3.4:000080",
        b"a.b.c.d",
        b"0x1.2.3.4",
        b"+1.2.3.4",
        b":",
        b":::",
        b":1",
        b"1:",
        b"::1:",
        b"1::2::3",
        b"1:2:3:4:5:6:7",
        b"1:2:3:4:5:6:7:8:9",
        b"1:2:3:4:5:6:7:8::",
        b"::12345",
        b"::g",
        b"fe80::1%eth0",
        b"::1.2.3",
        b"1.2.3.4::",
        b"1:2:3:4:5:6:7:1.2.3.4",
        b"::1.2.3.4:5",
        b"[",
        b"[]",
        b"[::1",
        b"::1]",
        b"[::1]:",
        b"[::1]80",
        b"[::1]:80x",
        b"[1.2.3.4]",
        b"unknown",
        b"_hidden",
        b"unix",
    ],
)
def test_what_is_no_address(text: bytes) -> None:
    assert normal_address(text) is None


def reference(number: int) -> str:
    """What the standard library makes of it, v4-mapped addresses unmapped."""
    address = ipaddress.IPv6Address(number)
    return str(address.ipv4_mapped or address)


@given(st.integers(0, 2**128 - 1) | st.integers(0, 2**32 - 1).map(lambda low: 0xFFFF << 32 | low))
def test_every_address_reads_and_prints_as_in_the_standard_library(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    for text in (address.compressed, address.exploded, address.exploded.upper()):
        assert normal_address(text.encode()) == reference(number)


@given(
    st.lists(
        st.sampled_from(
            ["0", "1", "f", "ffff", "00ff", "1.2.3.4", "0.0.0.0", "::", ":", ".", "g", "12345", "256.1.1.1"]
        ),
        max_size=12,
    )
)
@settings(max_examples=500)
def test_the_standard_library_takes_the_same_texts(parts: list[str]) -> None:
    for joint in (":", "", "."):
        text = joint.join(parts)
        try:
            # "1.2.3.4:80" is an address with a port here, and no address there
            expected = (
                reference(int(ipaddress.IPv6Address(text))) if text.count(":") > 1 else str(ipaddress.IPv4Address(text))
            )
        except ValueError:
            if text.count(":") == 1:
                continue
            assert normal_address(text.encode()) is None
        else:
            assert normal_address(text.encode()) == expected


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", [b"10.0.0.0", b"10.255.255.255", b"::ffff:10.1.1.1"], [b"11.0.0.0", b"9.255.255.255", b"::1"]),
        ("10.1.2.3/8", [b"10.200.0.1"], [b"11.1.2.3"]),
        ("192.0.2.7", [b"192.0.2.7"], [b"192.0.2.6", b"192.0.2.8"]),
        ("192.0.2.128/25", [b"192.0.2.128", b"192.0.2.255"], [b"192.0.2.127", b"192.0.3.128"]),
        ("192.0.2.6/31", [b"192.0.2.6", b"192.0.2.7"], [b"192.0.2.5", b"192.0.2.8"]),
        ("0.0.0.0/0", [b"1.2.3.4", b"255.255.255.255"], [b"::1", b"2001:db8::1"]),
        ("::/0", [b"1.2.3.4", b"::1"], []),
        ("2001:db8::/33", [b"2001:db8:7fff::1"], [b"2001:db8:8000::1", b"2001:db9::"]),
        ("::1", [b"::1"], [b"::2", b"127.0.0.1"]),
        ("::ffff:10.0.0.0/104", [b"10.9.9.9"], [b"11.0.0.1"]),
    ],
)
def test_networks(network: str, inside: list[bytes], outside: list[bytes]) -> None:
    networks = Networks(["203.0.113.0/24", network])
    assert all(in_networks(networks, text) for text in inside)
    assert not any(in_networks(networks, text) for text in outside)
    assert not in_networks(networks, b"unix")


def test_unix_peers_and_no_networks() -> None:
    assert in_networks(Networks(["unix"]), b"unix")
    assert not in_networks(Networks(["unix"]), b"127.0.0.1")
    assert not in_networks(Networks([]), b"127.0.0.1")
    assert not in_networks(Networks(), b"unix")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/",
        "10.0.0.0/8/8",
        "10.0.0.0/ 8",
        "::/129",
        "10.0.0.1:80",
        "[::1]",
        "[::1]:80/8",
        "10.0.0/8",
        "UNIX",
        "10.0.0.0/٨",
        "10.0.0.0/0008",
        "\x0010.0.0.1",
        "localhost",
    ],
)
def test_texts_that_are_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a network|prefix length"):
        Networks(["10.0.0.0/8", text])


TRUSTED = Networks(["10.0.0.0/8", "unix", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        (b"192.0.2.1", [b"6.6.6.6"], "192.0.2.1"),
        (b"10.0.0.1", [], "10.0.0.1"),
        (b"10.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        (b"10.0.0.1", [b"6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        (b"10.0.0.1", [b"6.6.6.6 ,\t192.0.2.1 , 10.0.0.2,2001:db8::9"], "192.0.2.1"),
        (b"10.0.0.1", [b"6.6.6.6", b"192.0.2.1", b"10.0.0.2"], "192.0.2.1"),
        (b"10.0.0.1", [b"10.0.0.3", b"10.0.0.2"], "10.0.0.1"),
        (b"10.0.0.1", [b""], "10.0.0.1"),
        (b"10.0.0.1", [b",, 192.0.2.1,,", b" , "], "192.0.2.1"),
        (b"10.0.0.1", [b"192.0.2.1, unknown"], "10.0.0.1"),
        (b"10.0.0.1", [b"192.0.2.1, unix"], "10.0.0.1"),
        (b"10.0.0.1", [b"192.0.2.1:1234"], "192.0.2.1"),
        (b"10.0.0.1", [b"[2001:dead::1]:1234"], "2001:dead::1"),
        (b"10.0.0.1", [b"::ffff:192.0.2.1"], "192.0.2.1"),
        (b"::ffff:10.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        (b"unix", [b"192.0.2.1"], "192.0.2.1"),
        (b"unix", [], ""),
    ],
)
def test_who_the_client_is(peer: bytes, lines: list[bytes], client: str) -> None:
    fields = b"".join(b"X-Forwarded-For: " + line + b"\r\n" for line in lines)
    message = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\n" + fields + b"X-Forwarded: 1.1.1.1\r\n\r\n")
    assert client_of(message, peer, TRUSTED) == client


def test_nobody_is_trusted_by_default() -> None:
    message = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    assert client_of(message, b"10.0.0.1", None) == "10.0.0.1"
    assert client_of(message, b"10.0.0.1", Networks()) == "10.0.0.1"


def test_twins_with_underscores_are_nobodys_word() -> None:
    message = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n")
    assert client_of(message, b"10.0.0.1", TRUSTED) == "10.0.0.1"
