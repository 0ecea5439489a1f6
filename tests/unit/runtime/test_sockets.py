"""Binding: both families, the kernel's choice of port, unix sockets and their files, and what is said when it fails."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.config.addresses import Bind
from headgate.runtime.sockets import UNIX_MODE, BoundSocket, CannotBind, bind_all, bind_one

Binder = Callable[[str], BoundSocket]


@pytest.fixture
def bound() -> Iterator[Binder]:
    made: list[BoundSocket] = []

    def bind(text: str) -> BoundSocket:
        made.append(bind_one(Bind.parse(text)))
        return made[-1]

    yield bind
    for one in made:
        one.close()


def connects(family: int, address: object) -> bool:
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


def test_the_kernels_port_is_shown(bound: Binder) -> None:
    one = bound("127.0.0.1:0")
    assert one.bind.port == one.sock.getsockname()[1] > 0
    assert one.bind.text == f"127.0.0.1:{one.bind.port}"
    assert bound("[::1]:0").bind.text.startswith("[::1]:")


def test_clients_come_in_only_after_listen(bound: Binder) -> None:
    one = bound("127.0.0.1:0")
    address = ("127.0.0.1", one.bind.port)
    assert not connects(socket.AF_INET, address)
    one.listen()
    assert connects(socket.AF_INET, address)


def test_no_address_means_both_families(bound: Binder) -> None:
    one = bound(":0")
    one.listen()
    assert connects(socket.AF_INET, ("127.0.0.1", one.bind.port))
    assert connects(socket.AF_INET6, ("::1", one.bind.port))
    assert one.bind.text == f":{one.bind.port}"


def test_all_of_ipv6_leaves_room_for_all_of_ipv4(bound: Binder) -> None:
    one = bound("[::]:0")
    one.listen()
    other = bound(f"0.0.0.0:{one.bind.port}")
    other.listen()
    assert connects(socket.AF_INET6, ("::1", one.bind.port))
    assert connects(socket.AF_INET, ("127.0.0.1", one.bind.port))


def test_sockets_are_ready_for_an_engine(bound: Binder) -> None:
    one = bound("127.0.0.1:0")
    assert not one.sock.getblocking()
    assert not one.sock.get_inheritable()


def test_a_taken_port_says_by_what(bound: Binder) -> None:
    one = bound("127.0.0.1:0")
    one.listen()
    asked: list[Bind] = []

    def holder(bind: Bind) -> str:
        asked.append(bind)
        return "nginx (pid 7)"

    with pytest.raises(CannotBind, match=rf"^cannot bind {one.bind.text}: already in use by nginx \(pid 7\)$"):
        bind_one(one.bind, holder)
    assert asked == [one.bind]
    with pytest.raises(CannotBind, match=r"already in use$"):
        bind_one(one.bind)


def test_two_that_bound_before_either_listened(bound: Binder) -> None:
    """SO_REUSEADDR lets a second bind pass while nobody listens yet; then listen() says it."""
    one = bound("127.0.0.1:0")
    other = bound(one.bind.text)
    one.listen()
    with pytest.raises(CannotBind, match=f"cannot listen on {one.bind.text}: address already in use"):
        other.listen()


def test_all_or_none_and_every_failure_at_once(bound: Binder) -> None:
    taken = bound("127.0.0.1:0")
    taken.listen()
    free = bound("127.0.0.1:0")
    free.close()
    with pytest.raises(CannotBind) as caught:
        bind_all([free.bind, taken.bind, Bind.parse("192.0.2.1:80")])
    first, second = str(caught.value).splitlines()
    assert "already in use" in first
    assert second == "cannot bind 192.0.2.1:80: this machine has no such address"
    bound(free.bind.text).listen()


class TestUnix:
    def test_the_group_may_connect_and_nobody_else(self, bound: Binder, tmp_path: Path) -> None:
        one = bound(f"unix:{tmp_path}/s")
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == UNIX_MODE
        one.listen()
        assert connects(socket.AF_UNIX, str(tmp_path / "s"))

    def test_the_umask_is_put_back(self, bound: Binder, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            bound(f"unix:{tmp_path}/s")
            assert os.umask(0o027) == 0o027
        finally:
            os.umask(before)

    def test_closing_takes_the_file_away(self, bound: Binder, tmp_path: Path) -> None:
        bound(f"unix:{tmp_path}/s").close()
        assert not (tmp_path / "s").exists()

    def test_closing_leaves_somebody_elses_file(self, bound: Binder, tmp_path: Path) -> None:
        one = bound(f"unix:{tmp_path}/s")
        (tmp_path / "s").rename(tmp_path / "mine")
        (tmp_path / "s").write_text("theirs")
        one.close()
        assert (tmp_path / "s").read_text() == "theirs"

    def test_a_dead_processs_file_is_replaced(self, bound: Binder, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "s"))
        bound(f"unix:{tmp_path}/s").listen()
        assert connects(socket.AF_UNIX, str(tmp_path / "s"))

    def test_a_living_processs_file_is_not(self, bound: Binder, tmp_path: Path) -> None:
        bound(f"unix:{tmp_path}/s").listen()
        with pytest.raises(CannotBind, match="already in use"):
            bound(f"unix:{tmp_path}/s")
        assert connects(socket.AF_UNIX, str(tmp_path / "s"))

    def test_a_file_that_is_no_socket_is_left_alone(self, bound: Binder, tmp_path: Path) -> None:
        (tmp_path / "s").write_text("data")
        with pytest.raises(CannotBind, match="the file exists and is not a socket"):
            bound(f"unix:{tmp_path}/s")
        assert (tmp_path / "s").read_text() == "data"

    def test_a_directory_that_is_not_there(self, bound: Binder, tmp_path: Path) -> None:
        with pytest.raises(CannotBind, match="no such file or directory"):
            bound(f"unix:{tmp_path}/none/s")
