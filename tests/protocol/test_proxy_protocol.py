"""The PROXY protocol: what is read, what is refused, and that no byte too many is ever asked for."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.engine.codec_testing import parse_proxy as parse
from headgate.engine.proxy_protocol import write
from headgate.runtime.address import pack_address
from tests.protocol.proxy_oracle import MOST, REFUSED, SIGNATURE, UNFINISHED, Told, Verdict, crc32c, read, text_of

V4 = ("192.0.2.1", 1234), ("198.51.100.2", 443)
V6 = ("2001:db8::1", 1234), ("2001:db8::2", 443)


def binary(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, size) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(header: bytes) -> bytes:
    """The header with a checksum's TLV behind the others, its length corrected."""
    size = int.from_bytes(header[14:16]) + 7
    bare = header[:14] + size.to_bytes(2) + header[16:] + tlv(3, bytes(4))
    return bare[:-4] + crc32c(bare).to_bytes(4)


BLOCK4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.2") + struct.pack("!HH", 1234, 443)
BLOCK6 = b"".join(socket.inet_pton(socket.AF_INET6, a) for a, _ in V6) + struct.pack("!HH", 1234, 443)
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
EVERY_TLV = (
    tlv(1, b"h2") + tlv(2, b"shop.example") + tlv(4, bytes(9)) + tlv(5, b"u" * 128) + tlv(0x30, b"ns") + tlv(0xEA, b"")
)
SSL = tlv(0x20, b"\x01" + bytes(4) + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"client"))

GOOD: list[tuple[bytes, tuple[object, object]]] = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n", V4),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", (("255.255.255.255", 65535),) * 2),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", (("0.0.0.0", 0),) * 2),
    (b"PROXY TCP6 2001:db8::1 2001:DB8:0:0::2 1234 443\r\n", V6),
    (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        ((":".join(["ffff"] * 8), 65535),) * 2,
    ),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 1234 443\r\n", V4),
    (b"PROXY UNKNOWN\r\n", (None, None)),
    (b"PROXY UNKNOWN \r\n", (None, None)),
    (b"PROXY UNKNOWN ffff::1 nonsense \xff\x00\r\n", (None, None)),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", (None, None)),
    (binary(1, 0x11, BLOCK4), V4),
    (binary(1, 0x21, BLOCK6), V6),
    (binary(1, 0x31, UNIX), ("unix", None)),
    (binary(1, 0x11, BLOCK4 + EVERY_TLV + SSL), V4),
    (with_checksum(binary(1, 0x11, BLOCK4)), V4),
    (with_checksum(binary(1, 0x21, BLOCK6 + EVERY_TLV)), V6),
    (binary(1, 0x11, BLOCK4 + tlv(4, bytes(MOST - 16 - 12 - 3))), V4),
    # A stream of datagrams there is none; the addresses of such a client are nobody's.
    (binary(1, 0x12, BLOCK4), (None, None)),
    (binary(1, 0x22, BLOCK6), (None, None)),
    (binary(1, 0x32, UNIX), (None, None)),
    (binary(1, 0x00, b""), (None, None)),
    (binary(1, 0x00, b"whatever this is"), (None, None)),
    (binary(1, 0x01, BLOCK4), (None, None)),
    (binary(1, 0x10, BLOCK4), (None, None)),
    # LOCAL: the family is ignored, whatever it is.
    (binary(0, 0x00, b""), (None, None)),
    (binary(0, 0x11, BLOCK4), (None, None)),
    (binary(0, 0xFF, b"\x01"), (None, None)),
    (with_checksum(binary(0, 0x00, b"")), (None, None)),
]

BAD: list[tuple[bytes, str]] = [
    (b"GET / HTTP/1.1\r\n", "no PROXY"),
    (b"\x16\x03\x01\x02\x00\x01", "no PROXY"),
    (b"\r\n\r\nGET / HTTP/1.1\r\n", "no PROXY"),
    (b"proxy TCP4 192.0.2.1 198.51.100.2 1234 443\r\n", "no PROXY"),
    (b" PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n", "no PROXY"),
    (b"PROXY\r\n", "no PROXY"),
    (b"PROXY  TCP4 192.0.2.1 198.51.100.2 1234 443\r\n", "malformed"),
    (b"PROXY TCP4  192.0.2.1 198.51.100.2 1234 443\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443 \r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1234\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1\t198.51.100.2 1234 443\r\n", "malformed"),
    (b"PROXY TCP5 192.0.2.1 198.51.100.2 1234 443\r\n", "malformed"),
    (b"PROXY TCP4\r\n", "malformed"),
    (b"PROXY UDP4 192.0.2.1 198.51.100.2 1234 443\r\n", "malformed"),
    (b"PROXY UNKNOWNS\r\n", "malformed"),
    (b"PROXY UNKNOW\r\n", "malformed"),
    (b"PROXY \r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\n", "malformed"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\rX", "malformed"),
    (b"PROXY UNKNOWN x\ny\r\n", "malformed"),
    (b"PROXY UNKNOWN x\ry\r\n", "malformed"),
    (b"PROXY TCP4 2001:db8::1 2001:db8::2 1234 443\r\n", "none"),
    (b"PROXY TCP6 192.0.2.1 198.51.100.2 1234 443\r\n", "none"),
    (b"PROXY TCP4 192.0.02.1 198.51.100.2 1234 443\r\n", "none"),
    (b"PROXY TCP4 192.0.2.256 198.51.100.2 1234 443\r\n", "none"),
    (b"PROXY TCP4 192.0.2.1:80 198.51.100.2 1234 443\r\n", "none"),
    (b"PROXY TCP6 [2001:db8::1] 2001:db8::2 1234 443\r\n", "none"),
    (b"PROXY TCP6 fe80::1%eth0 2001:db8::2 1234 443\r\n", "none"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 01234 443\r\n", "none"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", "none"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n", "none"),
    (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "107"),
    (b"PROXY TCP4 " + b"x" * 96, "107"),
    (SIGNATURE + b"\x11\x11\x00\x0c" + BLOCK4, "version"),
    (SIGNATURE + b"\x22\x11\x00\x0c" + BLOCK4, "command"),
    (binary(1, 0x41, BLOCK4), "family"),
    (binary(1, 0x13, BLOCK4), "family"),
    (binary(1, 0x11, BLOCK4[:-1]), "short"),
    (binary(1, 0x21, BLOCK4), "short"),
    (binary(1, 0x31, BLOCK6), "short"),
    (binary(1, 0x11, b"", length=MOST - 15), "longer"),
    (binary(0, 0x00, b"", length=65535), "longer"),
    (binary(1, 0x11, BLOCK4 + b"\x04"), "TLV"),
    (binary(1, 0x11, BLOCK4 + b"\x04\x00\x02x"), "TLV"),
    (binary(1, 0x11, BLOCK4 + tlv(3, bytes(3))), "TLV"),
    (with_checksum(with_checksum(binary(1, 0x11, BLOCK4))), "TLV"),
    (binary(1, 0x11, BLOCK4 + tlv(3, bytes(4))), "checksum"),
    (with_checksum(binary(1, 0x11, BLOCK4))[:-1] + b"\x00", "checksum"),
    (binary(0, 0x00, tlv(3, bytes(4))), "checksum"),
]


@pytest.mark.parametrize(("header", "ends"), GOOD)
def test_good_headers_are_read(header: bytes, ends: tuple[object, object]) -> None:
    assert parse(header) == (len(header), *ends)
    # What follows is not looked at.
    assert parse(header + b"GET / HTTP/1.1\r\n\r\n") == (len(header), *ends)
    assert read(header + b"\x16\x03\x01") == Told(len(header), *ends)  # type: ignore[arg-type]


@pytest.mark.parametrize("header", [header for header, _ in GOOD if len(header) < 1000])
def test_of_a_good_header_every_beginning_asks_for_more(header: bytes) -> None:
    assert [at for at in range(len(header)) if parse(header[:at]) is not None] == []


@pytest.mark.parametrize(("header", "why"), BAD)
def test_bad_headers_are_refused(header: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(header)
    assert read(header) in (REFUSED, UNFINISHED)
    # Once refused, refused for good; and never taken for a header before.
    verdicts = [verdict_on(header[:at]) for at in range(len(header) + 1)]
    first = verdicts.index(REFUSED)
    assert set(verdicts[:first]) == {UNFINISHED}
    assert set(verdicts[first:]) == {REFUSED}


def test_what_is_no_header_is_refused_at_its_first_byte() -> None:
    for byte in range(256):
        assert verdict_on(bytes([byte])) == (UNFINISHED if byte in b"P\r" else REFUSED)


def verdict_on(data: bytes) -> Told | Verdict:
    try:
        found = parse(data)
    except ValueError:
        return REFUSED
    return UNFINISHED if found is None else Told(*found)


def check_like_the_oracle(data: bytes) -> None:
    expected = read(data)
    verdict = verdict_on(data)
    if expected == UNFINISHED:
        assert verdict in (UNFINISHED, REFUSED)  # sooner than the oracle
    else:
        assert verdict == expected
    if isinstance(verdict, Told):
        assert all(verdict_on(data[:at]) == UNFINISHED for at in range(min(verdict.length, 300)))


ADDRESSES = st.ip_addresses().map(str) | st.sampled_from(
    ["::", "::ffff:1.2.3.4", "1.2.3", "1.2.3.4.5", "x", "", "01.2.3.4"]
)
PORTS = st.integers(0, 70000).map(str) | st.sampled_from(["", "00", "+1", "1e3", "\xb2"])
LINES = st.builds(
    lambda words, joint, end: (joint.join(words) + end).encode("latin-1"),
    st.tuples(
        st.sampled_from(["PROXY"] * 9 + ["PROX"]),
        st.sampled_from(["TCP4", "TCP6", "UNKNOWN"]),
        ADDRESSES,
        ADDRESSES,
        PORTS,
        PORTS,
    ),
    st.sampled_from([" "] * 9 + ["  "]),
    st.sampled_from(["\r\n"] * 9 + ["\n", "\r", "", "\r\r\n"]),
)
TLVS = st.lists(
    st.builds(tlv, st.sampled_from([1, 2, 3, 3, 4, 5, 0x20, 0x30, 0xFF]), st.binary(max_size=9) | st.just(bytes(4))),
    max_size=4,
).map(b"".join)
BLOCKS = st.builds(
    lambda command, family, block, tlvs, extra: binary(command, family, block + tlvs + extra),
    st.sampled_from([1] * 9 + [0, 2]),
    st.sampled_from([0x11] * 4 + [0x21] * 4 + [0x31, 0x00, 0x12, 0x01, 0x43]),
    st.binary(min_size=12, max_size=12) | st.binary(min_size=36, max_size=36) | st.just(UNIX) | st.just(b""),
    TLVS,
    st.sampled_from([b""] * 9 + [b"\x04", b"\x04\x00\x09"]),
)
HEADERS = LINES | BLOCKS | BLOCKS.filter(lambda header: len(header) > 16).map(with_checksum)


@given(HEADERS, st.binary(max_size=20))
@settings(max_examples=200)
def test_headers_as_the_oracle_reads_them(header: bytes, rest: bytes) -> None:
    check_like_the_oracle(header + rest)


@given(HEADERS, st.data())
@settings(max_examples=200)
def test_damaged_headers_as_the_oracle_reads_them(header: bytes, data: st.DataObject) -> None:
    damaged = bytearray(header)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        part = data.draw(st.binary(max_size=2) | st.sampled_from([b"\r\n", b" ", b"\n", b"0"]))
        damaged[at : at + data.draw(st.integers(0, 2))] = part
    check_like_the_oracle(bytes(damaged))


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: SIGNATURE + tail))
def test_noise_as_the_oracle_reads_it(noise: bytes) -> None:
    check_like_the_oracle(noise)


# Writing


def packed(text: str, port: int) -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return pack_address(family, (text, port))


@given(
    st.ip_addresses().map(str),
    st.ip_addresses().map(str),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.sampled_from([1, 2]),
)
def test_what_is_written_is_read_again(source: str, destination: str, sport: int, dport: int, version: int) -> None:
    header = write(version, packed(source, sport), packed(destination, dport))
    ends = [(text_of(ip_address(text).packed), port) for text, port in ((source, sport), (destination, dport))]
    expected = Told(len(header), *ends)
    assert Told(*(parse(header) or ())) == expected
    assert read(header) == expected


def test_both_ends_have_one_family() -> None:
    assert write(1, packed("192.0.2.1", 1), packed("198.51.100.2", 2)) == b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n"
    assert (
        write(1, packed("192.0.2.1", 1), packed("2001:db8::2", 2)) == b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"
    )
    assert (
        write(1, packed("2001:db8::1", 1), packed("192.0.2.2", 2)) == b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1 2\r\n"
    )
    mapped = packed("::ffff:192.0.2.1", 1)
    assert write(1, mapped, packed("192.0.2.2", 2)) == b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    # An end that is not known (a unix socket) is zeros of the other one's family.
    unix = pack_address(socket.AF_UNIX, "/run/x.sock")
    assert write(1, packed("192.0.2.1", 0), unix) == b"PROXY TCP4 192.0.2.1 0.0.0.0 0 0\r\n"
    assert write(1, packed("2001:db8::1", 0), None) == b"PROXY TCP6 2001:db8::1 :: 0 0\r\n"
    assert write(2, packed("192.0.2.1", 1), unix) == binary(
        1, 0x11, socket.inet_aton("192.0.2.1") + bytes(4) + b"\0\1\0\0"
    )


def test_who_is_not_known_is_not_made_up() -> None:
    unix = pack_address(socket.AF_UNIX, "/run/a/name/longer/than/an/address.sock")
    for source in (None, unix):
        assert write(1, source, packed("192.0.2.1", 1)) == b"PROXY UNKNOWN\r\n"
        assert write(2, source, packed("192.0.2.1", 1)) == binary(1, 0x00, b"")
    assert write(2, local=True) == binary(0, 0x00, b"")
    with pytest.raises(ValueError, match="version 3"):
        write(3)
