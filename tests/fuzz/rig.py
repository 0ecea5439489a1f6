"""An engine between clients and backends that the fuzzers play, and the check that it holds nothing when all are gone.

Everything is in one thread: the engine runs in `Rig.turn`, then the backends look at what came. `Rig.assert_empty` is
the invariant: once every client is gone the engine holds no connection, exchange, attempt, buffer or pipe,
and nobody waits or holds a place under a limit; `Rig.close`
adds that no descriptor and no object of the engine outlives it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..e2e.harness.ports import HeldPort
from ..transcripts.stage import Stage

# HEADGATE_FUZZ=50 makes a run fifty times as long.
LONGER = int(os.environ.get("HEADGATE_FUZZ", "1"))

# Waiting ends with what is waited for; this only bounds a failure.
PATIENCE_S = 10.0
# The rig is taken to be at rest after so many turns in which nobody had anything to do.
QUIET_TURNS = 3

RESET = struct.pack("ii", 1, 0)


def open_descriptors() -> set[str]:
    """What is open in this process, each as "number -> what it is"."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the directory that is being listed
            found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")
    return found


def engine_objects() -> dict[str, int]:
    """How many of the engine's per-connection objects there are in this process."""
    found = {"ClientConnection": 0, "BackendConnection": 0, "Exchange": 0, "Hedge": 0, "Engine": 0}
    gc.collect()
    for each in gc.get_objects():
        name = type(each).__name__
        if name in found and type(each).__module__.startswith("headgate.engine"):
            found[name] += 1
    return found


class Peer:
    """One end of a connection with the engine at the other; never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = bytearray()
        self.ended = False
        """The engine closed or broke the connection, and everything it sent before was read."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, most: int = 1 << 20) -> bool:
        """Take what has arrived. True: something has."""
        if self.ended:
            return False
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self.received += data
        self.ended = not data
        return True

    def send(self, data: bytes) -> int:
        """Send as much as the kernel takes; how much that was. 0 as well when nobody listens any more."""
        with contextlib.suppress(OSError):
            return self.socket.send(data)
        return 0

    def finish(self) -> None:
        """FIN."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()
        self.ended = True

    def close(self) -> None:
        self.socket.close()
        self.ended = True


class Upstream:
    """One backend: a listening socket, and the connections that the engine made to it."""

    def __init__(self) -> None:
        self.port = HeldPort()
        self._listening = self.port.listen()
        self._listening.setblocking(False)
        self.peers: list[Peer] = []
        self.on_data: Callable[[Peer], None] | None = None
        """Called after bytes, or the end, came by one of the connections."""

    def accept(self) -> bool:
        """Take the connections that wait. True: there were some."""
        before = len(self.peers)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.peers.append(Peer(self._listening.accept()[0]))
        return len(self.peers) > before

    def turn(self) -> bool:
        """Accept and read. True: there was something to do."""
        busy = self.accept()
        for peer in list(self.peers):
            if peer.read():
                busy = True
                if self.on_data is not None:
                    self.on_data(peer)
            if peer.ended:
                peer.close()
                self.peers.remove(peer)
        return busy

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.peers.clear()
        self._listening.close()
        self.port.close()


class Rig:
    """An engine with one listener and one pool of `backends`. listener, pool: more for their tables. limits: of each
    backend."""

    def __init__(
        self,
        directory: Path,
        backends: int = 1,
        *,
        listener: Mapping[str, object] | None = None,
        pool: Mapping[str, object] | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self._descriptors = open_descriptors()
        self._objects = engine_objects()
        self.backends = [Upstream() for _ in range(backends)]
        ports = {f"b{n}": backend.port for n, backend in enumerate(self.backends)}
        each = dict.fromkeys(ports, limits) if limits else None
        self.stage = Stage(directory, ports, listener or {}, pool or {}, limits=each)
        self.engine = self.stage.engine
        self.clients: list[Peer] = []

    def connect(self) -> Peer:
        """A new client."""
        client = Peer(socket.create_connection(self.stage.address))
        self.clients.append(client)
        return client

    def turn(self) -> bool:
        """Everybody looks once. True: somebody had something to do."""
        busy = self.stage.busy()
        self.engine.run_once()
        for backend in self.backends:
            busy |= backend.turn()
        for client in self.clients:
            busy |= client.read()
        return busy

    def settle(self) -> None:
        """Until nobody has anything to do. Bytes may still be on their way: what did not come yet may still come."""
        quiet = 0
        while quiet < QUIET_TURNS:
            quiet = 0 if self.turn() else quiet + 1

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Until `condition()`; AssertionError when it does not come true."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if not self.turn():
                assert time.monotonic() < deadline, f"waited in vain for {what}"

    def leave(self) -> None:
        """All clients go away."""
        for client in self.clients:
            client.close()
        self.clients.clear()

    def backends_leave(self) -> None:
        """Every connection to a backend is broken off."""
        for backend in self.backends:
            backend.accept()
            for peer in backend.peers:
                peer.close()
            backend.peers.clear()

    def backends_answer(self, answer: bytes | None) -> None:
        """From now on backends say `answer` to whatever arrives (None: nothing)."""

        def reply(peer: Peer) -> None:
            if answer is not None and not peer.ended:
                peer.send(answer)

        for backend in self.backends:
            backend.on_data = reply

    def assert_empty(self) -> None:
        """After `leave`: the engine comes to hold nothing but idle connections to backends."""
        self.until(
            lambda: self.engine.connections == 0 and self.engine.in_flight == 0, "the clients' connections to end"
        )
        self.until(lambda: not any(self._active()), "the attempts to end")
        self.until(lambda: self.engine.buffers_in_use == 0, "the buffers to be given back")
        assert self.engine.pipes_in_use == 0
        totals = self.stage.segment.totals()
        assert (totals["connections"], totals["in_flight"]) == (0, 0), totals
        queue = self.stage.queue
        assert (queue["waiting"], queue["fresh"], queue["requests"]) == (0, 0, 0), queue
        for slot, backend in enumerate(self.stage.pool.backends):
            requests, connections = self.stage.segment.places(slot)
            opened = self.stage.segment.backend_totals(slot).connections
            limited = backend.config.max_connections
            assert (requests, connections) == (0, opened if limited else 0), (backend, requests, connections, opened)
            assert not limited or opened <= limited

    def _active(self) -> list[int]:
        return [backend.active for backend in self.stage.pool.backends]

    def close(self) -> None:
        """End the engine; nothing of it may remain."""
        self.leave()
        self.assert_empty()
        self.stage.close()
        for backend in self.backends:
            backend.close()
        del self.engine, self.stage
        left = engine_objects()
        assert all(left[name] <= self._objects[name] for name in left), (self._objects, left)
        opened = open_descriptors() - self._descriptors
        assert not opened, opened
