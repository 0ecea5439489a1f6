"""Listeners that let nobody in any more, and lose nobody who is."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from headgate.config.addresses import Bind
from headgate.config.schema import Listener
from headgate.runtime.closing import HANDSHAKE_S, let_in_again, let_in_no_more
from headgate.runtime.listening import Listening

PLACES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


def connecting(listener: socket.socket) -> socket.socket:
    client = socket.socket(listener.family)
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    return client


def connected(client: socket.socket) -> bool:
    client.settimeout(0.05)
    try:
        client.getpeername()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("family", "host"), PLACES)
def test_who_is_in_stays_and_nobody_else_comes(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        with connecting(listener) as early:
            assert connected(early)
            assert let_in_no_more([listener]) == 0, "on loopback nobody is on the way"
            with connecting(listener) as late:
                assert not connected(late)
                peer, _ = listener.accept()
                with peer:
                    # The filter is the connection's, too, and drops nothing of it.
                    early.settimeout(10)
                    early.sendall(b"question")
                    assert peer.recv(100) == b"question"
                    peer.sendall(b"answer")
                    assert early.recv(100) == b"answer"
            let_in_again([listener])
            with connecting(listener) as again:
                assert connected(again)


def test_from_elsewhere_somebody_may_be_on_the_way() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        assert let_in_no_more([listener]) == HANDSHAKE_S


def test_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        assert let_in_no_more([listener]) == 0
        let_in_again([listener])
        client.connect(str(tmp_path / "socket"))


def test_what_the_service_manager_has_too_goes_on_letting_in() -> None:
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen()
        listening = Listening(given=[given.dup()])
        bind = Bind.parse(f"127.0.0.1:{given.getsockname()[1]}")
        listener = Listener(bind=bind)
        listening.commit([listener], listening.prepare([listener]))
        asyncio.run(listening.let_in_no_more())
        with connecting(given) as client:
            assert connected(client)
        listening.close()
