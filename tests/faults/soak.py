"""Mixed load with random faults, for as long as one likes: `python -m tests.faults.soak --seconds 600 --seed 1`.

Clients get, post, upload in chunks, follow event streams and speak over upgraded connections, with keep-alive and
without; meanwhile backends are killed, stopped, and told to misbehave, in an order that the seed decides. In the end:
not one wrong byte, no growth of memory or descriptors since the warm-up, and counters that add up.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..e2e.harness.wire import Reader
from . import network
from .load import Ask, Load, connect, in_process, quantile
from .servers import Connection, identity_of, path_of
from .sockets import reset
from .world import World, awaited

ASKS = [
    Ask(), Ask(), Ask(size=20_000), Ask(size=300_000), Ask("HEAD"), Ask("DELETE"), Ask("POST"),
    Ask("POST", size=40_000, chunked=True), Ask("PUT", size=500_000), Ask(close=True), Ask("POST", close=True),
]  # fmt: skip
EVENTS = 5
MESSAGES = 5
UPGRADE = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE += "Sec-WebSocket-Key: c29hayBzb2FrIHNvYWs9PQ==\r\n"

# What a backend does to one in twenty requests; 0 is what all do otherwise.
RESETS, CUTS, CLOSES, BABBLES, FAILS = 1, 2, 3, 4, 5
MODES = [0, 0, RESETS, CUTS, CLOSES, BABBLES, FAILS]


def script(connection: Connection) -> None:
    """The application, event streams, upgraded connections, and what the mode says."""
    chance = random.Random(connection.number)
    while (request := connection.head()) is not None:
        if path_of(request) == "/events":
            identity = identity_of(request)
            connection.send(
                f"HTTP/1.1 200 OK\r\nX-Backend: s\r\nX-Id: {identity}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            )
            for number in range(EVENTS):
                event = f"data: {identity} {number}\n\n".encode()
                connection.send(b"%x\r\n%b\r\n" % (len(event), event))
                time.sleep(0.05)
            connection.send(b"0\r\n\r\n")
            continue
        if request.list_header("upgrade") == ["websocket"]:
            connection.send(f"HTTP/1.1 101 Switching Protocols\r\n{UPGRADE}\r\n".encode())
            while data := connection.socket.recv(65536):
                connection.send(data)
            return
        if connection.mode and chance.random() < 0.05:
            body = connection.body(request)
            head = f"HTTP/1.1 200 OK\r\nX-Backend: s\r\nX-Id: {identity_of(request)}\r\nContent-Length: 5000\r\n\r\n"
            if connection.mode == RESETS:
                connection.reset()
            elif connection.mode == CUTS:
                connection.send(head.encode() + body[:100] + b"cut")
                connection.reset()
            elif connection.mode == BABBLES:
                connection.send(b"\x15\x03\x01\x00\x02\x02\x28")
            elif connection.mode == FAILS:
                connection.respond(b"", request, "503 Service Unavailable")
                continue
            return
        connection.serve(request)


def events(address: tuple[str, int], until: Callable[[], bool], name: str) -> Counter[str]:
    """Follow one event stream after the other: each is whole, or seen to be cut."""
    seen: Counter[str] = Counter()
    number = 0
    while not until():
        identity = f"{name}.{number}"
        number += 1
        expected = "".join(f"data: {identity} {n}\n\n" for n in range(EVENTS)).encode()
        try:
            with connect(address) as sock:
                sock.sendall(f"GET /events HTTP/1.1\r\nHost: h\r\nX-Id: {identity}\r\n\r\n".encode())
                response = Reader(lambda sock=sock: sock.recv(65536)).response()  # type: ignore[misc]
            if response.status == 200:
                seen["whole" if response.body == expected else "WRONG"] += 1
            else:
                seen[str(response.status)] += 1
        except Exception as error:
            seen[type(error).__name__] += 1
    return seen


def tunnels(address: tuple[str, int], until: Callable[[], bool], seed: int) -> Counter[str]:
    """Upgrade, and have everything echoed; some leave in the middle."""
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    while not until():
        try:
            with connect(address) as sock:
                sock.sendall(f"GET /socket HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n".encode())
                reader = Reader(lambda sock=sock: sock.recv(65536))  # type: ignore[misc]
                response = reader.response_head()
                if response.status != 101:
                    seen[str(response.status)] += 1
                    continue
                for _ in range(MESSAGES):
                    message = chance.randbytes(chance.choice([1, 100, 5000, 60_000]))
                    sock.sendall(message)
                    if reader.exactly(len(message)) != message:
                        seen["WRONG"] += 1
                    time.sleep(0.02)
                if chance.random() < 0.3:
                    reset(sock)
                seen["whole"] += 1
        except Exception as error:
            seen[type(error).__name__] += 1
    return seen


def leavers(address: tuple[str, int], until: Callable[[], bool], seed: int) -> Counter[str]:
    """Uploads and downloads that their clients break off."""
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    while not until():
        try:
            sock = connect(address)
            if chance.random() < 0.5:
                sock.sendall(
                    b"POST / HTTP/1.1\r\nHost: h\r\nX-Id: l\r\nContent-Length: 1000000\r\n\r\n"
                    + bytes(chance.randrange(100_000))
                )
            else:
                sock.sendall(b"GET /?size=2000000 HTTP/1.1\r\nHost: h\r\nX-Id: l\r\n\r\n")
                sock.recv(chance.randrange(1, 100_000))
            time.sleep(chance.random() * 0.05)
            reset(sock) if chance.random() < 0.5 else sock.close()
            seen["left"] += 1
        except OSError as error:
            seen[type(error).__name__] += 1
    return seen


def cause_trouble(world: World, seconds: float, seed: int) -> Counter[str]:
    """Faults, one at a time with a pause between them, so that there is always somebody to serve."""
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        server = chance.choice(world.servers)
        what = chance.choice(["kill", "stop", "mode", "mode", "mode"])
        done[what] += 1
        if what == "kill":
            server.kill()
            time.sleep(chance.uniform(0.1, 1))
            server.start()
        elif what == "stop":
            server.signal(signal.SIGSTOP)
            time.sleep(chance.uniform(0.1, 2))
            server.signal(signal.SIGCONT)
        else:
            server.tell(chance.choice(MODES))
            time.sleep(chance.uniform(0.1, 1))
            server.tell(0)
        time.sleep(chance.uniform(0.1, 0.5))
    return done


def at_rest(world: World) -> tuple[int, int]:
    """Memory and descriptors of the worker while nobody wants anything of it: its clients are gone."""
    awaited(lambda: world.totals()["connections"] <= 1, "the clients to be gone")
    awaited(lambda: world.totals()["inFlight"] <= 1, "the exchanges to end")
    return world.memory(), world.lasting_descriptors()


def soak(world: World, seconds: float, seed: int) -> None:
    """Warm-up, a measurement at rest, the same load for the rest of the time, and another one."""
    world.backends(3, script, quiet=True)
    world.headgate(top={"access_log": {"format": "off"}})
    warm = max(2.0, min(60.0, seconds / 4))
    period(world, warm, seed)
    before = at_rest(world)
    period(world, max(2.0, seconds - warm), seed + 1)
    after = at_rest(world)
    world.note(
        memory_before_kib=before[0] // 1024, memory_after_kib=after[0] // 1024, descriptors_before=before[1],
        descriptors_after=after[1],
    )  # fmt: skip
    # A page here and there for what Python and the allocator keep; a leak of 100 bytes a request would be more.
    assert after[0] - before[0] < 2 * 2**20, (before, after)
    # What leaks does not come back; what was just being opened or closed as it was counted does.
    awaited(lambda: world.lasting_descriptors() <= before[1], f"the descriptors to be {before[1]} again")
    totals = world.totals()
    world.note(requests=totals["requests"], outcomes=totals["outcomes"])
    assert totals["requests"] == sum(totals["outcomes"].values()) + totals["inFlight"], totals
    assert totals["answered"] == totals["outcomes"]["ok"], totals
    assert totals["tunnels"] == 0, totals
    for backend in world.status()["backends"]:
        assert backend["activeConnections"] == 0, backend


def period(world: World, seconds: float, seed: int) -> None:
    """Load and faults for that long."""
    address = world.address
    assert isinstance(address, tuple)
    until = time.monotonic() + seconds

    def over() -> bool:
        return time.monotonic() > until

    load = Load(address, ASKS, clients=24, rate=12, seed=seed, name=f"{seed}c")
    world.adopt(load)
    others = [
        in_process(lambda: events(address, over, f"{seed}e")),
        in_process(lambda: events(address, over, f"{seed}f")),
        in_process(lambda: tunnels(address, over, seed)),
        in_process(lambda: tunnels(address, over, seed + 100)),
        in_process(lambda: leavers(address, over, seed)),
    ]
    troubles = cause_trouble(world, seconds, seed)
    result = load.stop()
    parts = [part() for part in others]
    wrong = [sample for sample in result.samples if "wrong" in sample.failed or "answer to" in sample.failed]
    for part in parts:
        assert isinstance(part, Counter)
        assert not part["WRONG"], part
    assert not wrong, wrong[:5]
    assert len(result) > seconds * 10, f"only {len(result)} requests"
    got = result.where(lambda sample: sample.method in ("GET", "HEAD", "DELETE", "PUT"))
    world.note(
        **{
            f"{seed}: requests": len(result),
            "failed": dict(result.reasons.most_common(8)),
            "p50": quantile([sample.took for sample in got.samples], 0.5),
            "p99": got.quantile(0.99),
            "troubles": dict(troubles),
            "streams, tunnels, leavers": [dict(part) for part in parts if isinstance(part, Counter)],
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        return subprocess.run(command(arguments.seconds, arguments.seed)).returncode
    network.loopback_up()
    with tempfile.TemporaryDirectory(prefix="headgate-soak-") as directory:
        world = World(Path(directory))
        try:
            soak(world, arguments.seconds, arguments.seed)
            world.finish()
        finally:
            world.close()
            print(json.dumps(world.figures, indent=1))
    return 0


def command(seconds: float, seed: int) -> list[str]:
    """Runs the soak in namespaces of its own."""
    return network.enclosed(
        [sys.executable, "-m", "tests.faults.soak", "--seconds", str(seconds), "--seed", str(seed), "--inside"]
    )


if __name__ == "__main__":
    sys.exit(main())
