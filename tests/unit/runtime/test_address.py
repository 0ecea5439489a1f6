"""Packed addresses: what C's connect() would take, there and back."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.runtime.address import literal_address, pack_address, unpack_address


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 80)),
        (socket.AF_INET6, ("::1", 8080, 0, 0)),
        (socket.AF_INET6, ("fe80::1", 1, 7, 3)),
        (socket.AF_UNIX, "/run/app.sock"),
        (socket.AF_UNIX, b"\0abstract"),
    ],
)
def test_there_and_back(family: int, address: object) -> None:
    assert unpack_address(pack_address(family, address)) == (family, address)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_any_literal_there_and_back(address: object, port: int) -> None:
    packed = literal_address(str(address), port)
    assert packed is not None
    _, found = unpack_address(packed)
    assert socket.getaddrinfo(str(address), port, flags=socket.AI_NUMERICHOST)[0][4][:2] == found[:2]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_the_c_library_connects_to_it(family: int, tmp_path: Path) -> None:
    addresses: dict[int, tuple[str, int] | str] = {
        socket.AF_INET: ("127.0.0.1", 0),
        socket.AF_INET6: ("::1", 0),
        socket.AF_UNIX: str(tmp_path / "s"),
    }
    libc = ctypes.CDLL(None, use_errno=True)
    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind(addresses[family])
        listener.listen()
        packed = pack_address(family, listener.getsockname())
        assert libc.connect(client.fileno(), packed, len(packed)) == 0, os.strerror(ctypes.get_errno())
        accepted, _ = listener.accept()
        accepted.close()


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("::1", 80)),
        (socket.AF_INET, ("127.0.0.1", 70000)),
        (socket.AF_INET6, ("name", 80)),
        (socket.AF_UNIX, "x" * 108),
        (socket.AF_UNIX, ""),
        (99, ("127.0.0.1", 80)),
    ],
)
def test_what_is_no_address(family: int, address: object) -> None:
    with pytest.raises(ValueError, match=r"address|path|family"):
        pack_address(family, address)


@pytest.mark.parametrize("packed", [b"", b"\2", b"\2\0\0", b"\xff\xff" + bytes(14)])
def test_what_is_no_packed_address(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"address|family"):
        unpack_address(packed)


@pytest.mark.parametrize("host", ["localhost", "a.example", "", "1.2.3.4.5", "[::1", "x" * 300, "ü" * 70, "a..b"])
def test_names_are_not_asked_for(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def numeric_only(*args: object, **kwargs: object) -> object:
        assert int(kwargs["flags"]) & socket.AI_NUMERICHOST  # type: ignore[call-overload]
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", numeric_only)
    assert literal_address(host, 80) is None


def test_brackets_are_taken_off() -> None:
    assert literal_address("[::1]", 80) == literal_address("::1", 80) == pack_address(socket.AF_INET6, ("::1", 80))
