"""Listening sockets: which of those given fits which listener, and all or nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headgate.config.addresses import Bind
from headgate.config.schema import Listener
from headgate.runtime.listening import Listening, fits
from headgate.runtime.sockets import CannotBind


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as exits:
        yield exits


def opened(stack: ExitStack, host: str = "127.0.0.1", family: int = socket.AF_INET) -> socket.socket:
    sock = stack.enter_context(socket.socket(family))
    sock.bind((host, 0))
    sock.listen()
    return sock


def test_a_given_socket_is_used_for_its_address(stack: ExitStack) -> None:
    sock = opened(stack)
    port = sock.getsockname()[1]
    listening = Listening(given=[sock])
    stack.callback(listening.close)
    listeners = [Listener(bind=Bind.parse(f"127.0.0.1:{port}"))]
    fresh = listening.prepare(listeners)
    listening.commit(listeners, fresh)
    assert listening.bound[f"127.0.0.1:{port}"].sock is sock


@pytest.mark.parametrize(
    ("host", "family", "bind", "expected"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1:{}", True),
        ("0.0.0.0", socket.AF_INET, "127.0.0.1:{}", False),
        ("0.0.0.0", socket.AF_INET, "0.0.0.0:{}", True),
        ("0.0.0.0", socket.AF_INET, ":{}", True),
        ("127.0.0.1", socket.AF_INET, ":{}", False),
        ("127.0.0.1", socket.AF_INET, "127.0.0.1:1", False),
        ("127.0.0.1", socket.AF_INET, "unix:/x", False),
    ],
)
def test_which_fits(stack: ExitStack, host: str, family: int, bind: str, expected: bool) -> None:
    sock = opened(stack, host, family)
    assert fits(Bind.parse(bind.format(sock.getsockname()[1])), sock) is expected


def test_a_unix_socket_fits_by_its_path(stack: ExitStack, tmp_path: Path) -> None:
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(str(tmp_path / "s"))
    assert fits(Bind.parse(f"unix:{tmp_path}/s"), sock)
    assert not fits(Bind.parse(f"unix:{tmp_path}/t"), sock)


def test_all_or_nothing_and_our_own_is_named(stack: ExitStack) -> None:
    listening = Listening()
    stack.callback(listening.close)
    first = [Listener(bind=Bind.parse("127.0.0.1:0"))]
    listening.commit(first, listening.prepare(first))
    listening.listen()
    port = listening.binds[0].port
    with pytest.raises(CannotBind, match=r"our own 127\.0\.0\.1:0: remove that in one reload"):
        listening.prepare([*first, Listener(bind=Bind.parse(f"0.0.0.0:{port}"))])
    assert list(listening.bound) == ["127.0.0.1:0"]


def test_what_is_gone_is_closed(stack: ExitStack) -> None:
    listening = Listening()
    stack.callback(listening.close)
    two = [Listener(bind=Bind.parse("127.0.0.1:0")), Listener(bind=Bind.parse("[::1]:0"))]
    listening.commit(two[:1], listening.prepare(two[:1]))
    sock = listening.bound["127.0.0.1:0"].sock
    assert listening.commit([], {}) == ["127.0.0.1:0"]
    assert sock.fileno() == -1
