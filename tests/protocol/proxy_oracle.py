"""The PROXY protocol once more, in plain Python and written from its text: what the compiled reader is held against.

It looks at whole headers only. `read` says what stands at the beginning of some bytes: a `Told`, or `REFUSED`, or
`UNFINISHED` when neither can be said yet (the compiled reader may refuse some of those sooner).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final, Literal, NamedTuple

SIGNATURE: Final = bytes.fromhex("0d0a0d0a000d0a515549540a")
MOST = 16384

End = tuple[str, int]


class Told(NamedTuple):
    length: int
    source: End | Literal["unix"] | None = None
    destination: End | None = None


class Verdict(NamedTuple):
    word: str


REFUSED = Verdict("refused")
UNFINISHED = Verdict("unfinished")

LINE = re.compile(rb"PROXY TCP([46]) ([^ ]+) ([^ ]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")
UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")


def crc32c(data: bytes) -> int:
    """Bit by bit, with the polynomial 0x1EDC6F41 reflected."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def text_of(packed: bytes) -> str:
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def read(data: bytes) -> Told | Verdict:
    if data.startswith(SIGNATURE):
        return _binary(data)
    if SIGNATURE.startswith(data):
        return UNFINISHED
    return _line(data)


def _line(data: bytes) -> Told | Verdict:
    at = data.find(b"\r\n", 0, 107)
    if at < 0:
        return UNFINISHED if len(data) < 107 and data.startswith(b"PROXY "[: len(data)]) else REFUSED
    line = data[:at]
    if UNKNOWN.fullmatch(line):
        return Told(at + 2)
    match = LINE.fullmatch(line)
    if match is None:
        return REFUSED
    kind = ipaddress.IPv4Address if match[1] == b"4" else ipaddress.IPv6Address
    ends = []
    for address, port in ((match[2], match[4]), (match[3], match[5])):
        try:
            known: ipaddress.IPv4Address | ipaddress.IPv6Address = kind(address.decode("ascii"))
        except ValueError:
            return REFUSED
        if int(port) > 65535 or b"%" in address:
            return REFUSED
        ends.append((text_of(known.packed), int(port)))
    return Told(at + 2, *ends)


def _binary(data: bytes) -> Told | Verdict:
    if len(data) < 16:
        return UNFINISHED
    version_command, family_transport, length = struct.unpack_from("!BBH", data, 12)
    if version_command not in (0x20, 0x21):
        return REFUSED
    local = version_command == 0x20
    family, transport = divmod(0 if local else family_transport, 16)
    if family > 3 or transport > 2 or 16 + length > MOST:
        return REFUSED
    block = {1: 12, 2: 36, 3: 216}.get(family, 0) if transport else 0
    if length < block:
        return REFUSED
    whole = data[: 16 + length]
    if len(whole) < 16 + length:
        return UNFINISHED
    sums = _checksums(whole, 16 + block)
    if sums is None and block:
        return REFUSED
    if sums:
        # Two of them, or one of another size, are as good as none that is right.
        if len(sums) > 1 or len(whole[sums[0][0] :][: sums[0][1]]) != 4:
            return Told(16 + length) if not block else REFUSED
        place = sums[0][0]
        zeroed = whole[:place] + bytes(4) + whole[place + 4 :]
        if crc32c(zeroed) != int.from_bytes(whole[place : place + 4]):
            return REFUSED
    if family == 0 or transport != 1:
        return Told(16 + length)
    if family == 3:
        return Told(16 + length, "unix")
    size = 4 if family == 1 else 16
    ports = struct.unpack_from("!HH", whole, 16 + 2 * size)
    texts = [text_of(whole[16 + k * size : 16 + (k + 1) * size]) for k in (0, 1)]
    return Told(16 + length, (texts[0], ports[0]), (texts[1], ports[1]))


def _checksums(whole: bytes, at: int) -> list[tuple[int, int]] | None:
    """(where, how long) of every checksum; None when the vectors do not fill their room exactly."""
    found = []
    while at < len(whole):
        if at + 3 > len(whole):
            return None
        kind, size = struct.unpack_from("!BH", whole, at)
        if at + 3 + size > len(whole):
            return None
        if kind == 3:
            found.append((at + 3, size))
        at += 3 + size
    return found
