"""Who has an address: real sockets of this process, and /proc as other machines show it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from headgate.config.addresses import Bind
from headgate.runtime.holder import Holder, describe_holder, holder_of


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_tcp_listener_of_our_own(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        for text in (f"127.0.0.1:{port}", f"0.0.0.0:{port}", f":{port}"):
            holder = holder_of(Bind.parse(text))
            assert holder is not None
            assert holder.pid == os.getpid()
            assert describe_holder(Bind.parse(text)).startswith(f"process {os.getpid()} (")
        other = holder_of(Bind.parse(f"127.0.0.2:{port}"))
        assert (other is None) is (address == "127.0.0.1")


@pytest.mark.skipif(not socket.has_ipv6, reason="Python was built without IPv6")
def test_an_ipv6_listener() -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        port = server.getsockname()[1]
        holder = holder_of(Bind.parse(f"[::1]:{port}"))
        assert holder is not None
        assert holder.pid == os.getpid()
        assert holder_of(Bind.parse(f"127.0.0.1:{port}")) is None


def test_a_unix_listener(tmp_path: Path) -> None:
    path = tmp_path / "a b.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert holder_of(Bind.parse(f"unix:{path}")) is None
        server.listen()
        holder = holder_of(Bind.parse(f"unix:{path}"))
    assert holder is not None
    assert holder.pid == os.getpid()


def test_nobody() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, not listening
        assert describe_holder(Bind.parse(f"127.0.0.1:{bound.getsockname()[1]}")) == ""


_HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def fake_proc(root: Path, processes: dict[int, tuple[int, str, list[str]]]) -> Path:
    """/proc with a listener on 127.0.0.1:8080 (inode 77, user 33); processes: pid -> (parent, cmdline, descriptors)."""
    (root / "net").mkdir()
    word = int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder)
    line = (
        f"   0: {word:08X}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 77 1 0 100 0\n"
    )
    (root / "net/tcp").write_text(_HEADER + line)
    for pid, (parent, command, links) in processes.items():
        fds = root / str(pid) / "fd"
        fds.mkdir(parents=True)
        for number, link in enumerate(links):
            (fds / str(number)).symlink_to(link)
        (root / str(pid) / "stat").write_text(f"{pid} (na) me)) S {parent} 0 0\n")
        (root / str(pid) / "cmdline").write_bytes(command.encode().replace(b" ", b"\0") + (b"\0" if command else b""))
        (root / str(pid) / "comm").write_text("kthread\n")
    return root


BIND = Bind.parse("127.0.0.1:8080")


def test_the_process_that_started_the_others_is_named(tmp_path: Path) -> None:
    listening = ["/dev/null", "socket:[77]"]
    processes = {
        30: (200, "/usr/bin/python -m headgate.runtime.worker", listening),
        200: (1, "/usr/bin/python -m headgate run -c a.toml", listening),
        300: (200, "unrelated", ["socket:[78]"]),
    }
    holder = holder_of(BIND, fake_proc(tmp_path, processes))
    assert holder is not None
    assert (holder.pid, holder.is_headgate) == (200, True)
    assert str(holder) == "process 200 (/usr/bin/python -m headgate run -c a.toml)"


def test_another_users_process(tmp_path: Path) -> None:
    holder = holder_of(BIND, fake_proc(tmp_path, {}))
    assert holder == Holder(0, user=33)
    assert str(holder) == "a process of another user (uid 33)"
    assert not holder.is_headgate


def test_a_process_without_a_command_line(tmp_path: Path) -> None:
    holder = holder_of(BIND, fake_proc(tmp_path, {5: (1, "", ["socket:[77]"])}))
    assert str(holder) == "process 5 (kthread)"


def test_a_proc_that_makes_no_sense(tmp_path: Path) -> None:
    assert holder_of(BIND, tmp_path) is None
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text("header\nx:y z\n")
    assert holder_of(BIND, tmp_path) is None


@pytest.mark.parametrize(
    ("command", "is_headgate"),
    [
        ("headgate run -c a.toml", True),
        ("/venv/bin/python /venv/bin/headgate run", True),
        ("python3 -m headgate", True),
        ("python3 -X dev -m headgate.runtime.worker --control 3", True),
        ("nginx: master process nginx", False),
        ("python3 -m headgatex", False),
        ("vi -c a headgate", False),
        ("", False),
    ],
)
def test_what_a_headgate_looks_like(command: str, is_headgate: bool) -> None:
    assert Holder(1, tuple(command.split())).is_headgate is is_headgate


def test_a_long_command_line_is_cut() -> None:
    assert len(str(Holder(1, ("a" * 500,)))) < 150
