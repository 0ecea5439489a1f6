"""The bare relays of the benchmark pass on what comes; the one on io_uring stays away where it cannot run."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import floor_main, proxies
from bench.cases import CASES

from tests.e2e.harness.ports import HeldPort
from tests.e2e.harness.processes import Processes
from tests.e2e.harness.waiting import PATIENCE_S, eventually

_ROOT = Path(__file__).parents[2]

# As containers do it: a seccomp filter, inherited by whatever is started, under which io_uring_setup (425 everywhere)
# ends with EPERM.
_FORBIDDEN = """
import ctypes, struct
from bench import floor_main
rules = ((0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000))
program = b"".join(struct.pack("HBBI", *rule) for rule in rules)
code = ctypes.create_string_buffer(program)
filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, filters) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
print(floor_main.uring_refusal())
"""


@pytest.fixture(scope="module", params=["relay", "uring"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[HeldPort, socket.socket]]:
    """The port of a running relay, and the socket on which its only backend listens."""
    if request.param == "uring":
        refusal = floor_main.uring_refusal()
        if refusal:
            # No program is missing that could be installed: containers forbid it, and CI may run in one.
            pytest.xfail(f"no io_uring here: {refusal}")
    else:
        floor_main.build()
    with HeldPort() as front, HeldPort() as back, back.listen() as listener, Processes() as processes:
        listener.settimeout(PATIENCE_S)
        process = processes.start(
            [sys.executable, "-m", "bench.floor_main", request.param, str(front.number), back.bind], cwd=_ROOT
        )
        eventually(lambda: front.accepts() or not process.running, "the relay")
        assert process.running, process.output
        listener.accept()[0].close()  # of the probe
        yield front, listener


def _connected(pair: tuple[HeldPort, socket.socket]) -> tuple[socket.socket, socket.socket]:
    front, listener = pair
    client = socket.create_connection(front.address, PATIENCE_S)
    upstream = listener.accept()[0]
    upstream.settimeout(PATIENCE_S)
    return client, upstream


def _all_of(source: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length:
        piece = source.recv(length - len(got))
        assert piece, f"ended after {len(got)} of {length} bytes"
        got += piece
    return got


def test_what_comes_is_passed_on_both_ways_and_again(pair: tuple[HeldPort, socket.socket]) -> None:
    client, upstream = _connected(pair)
    # More turns than there are buffers, and one message that is larger than any of them.
    with client, upstream:
        for number in range(1200):
            client.sendall(b"request %d" % number)
            assert _all_of(upstream, len(b"request %d" % number)) == b"request %d" % number
            upstream.sendall(b"answer %d" % number)
            assert _all_of(client, len(b"answer %d" % number)) == b"answer %d" % number
        large = b"".join(b"%07d " % number for number in range(2000))
        client.sendall(large)
        assert _all_of(upstream, len(large)) == large


def test_connections_are_kept_apart_and_end_together(pair: tuple[HeldPort, socket.socket]) -> None:
    pairs = [_connected(pair) for _ in range(100)]
    for number, (client, _) in enumerate(pairs):
        client.sendall(b"%03d" % number)
    for number, (_, upstream) in enumerate(pairs):
        assert _all_of(upstream, 3) == b"%03d" % number
    for number, (client, upstream) in enumerate(pairs):
        first, other = (client, upstream) if number % 2 else (upstream, client)
        first.close()
        assert other.recv(1) == b""
        other.close()
    # Their descriptors are used again by those who come next.
    client, upstream = _connected(pair)
    with client, upstream:
        client.sendall(b"next")
        assert _all_of(upstream, 4) == b"next"


def test_where_io_uring_is_forbidden_it_is_told_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = floor_main.uring_refusal()  # built now, without the filter
    if "compile" in refusal:
        pytest.xfail(refusal)  # the kernel's headers are older than io_uring as it is used
    done = subprocess.run([sys.executable, "-c", _FORBIDDEN], cwd=_ROOT, capture_output=True, text=True, check=False)
    said = done.stdout.strip()
    assert (done.returncode, said) == (0, "Operation not permitted"), done.stderr
    monkeypatch.setattr(floor_main, "uring_refusal", lambda: said)
    there = proxies.versions()
    assert "floor" in there
    assert "floor-uring" not in there
    assert "without floor-uring: Operation not permitted" in capsys.readouterr().err


def test_floors_take_part_in_the_cases_they_can_carry() -> None:
    there = {
        name: [floor for floor in ("floor", "floor-uring") if proxies.takes_part(floor, CASES[name])] for name in CASES
    }
    assert there["small"] == there["one"] == ["floor", "floor-uring"]
    assert there["body1m"] == ["floor"]
    assert there["close"] == there["tls"] == []
    assert all(proxies.takes_part("headgate", case) for case in CASES.values())
    assert not proxies.takes_part("caddy", CASES["tls"])
