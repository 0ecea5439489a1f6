"""What carries TLS best by the standard library's `ssl`? `python -m bench.tls_transport [--rounds N]`

    socket      an `SSLSocket` for each connection: OpenSSL makes the system calls
    bios        a pair of memory BIOs for each connection, sockets are ours
    shared      one pair of memory BIOs for all connections (engine/tls.pyx)

Per handshake and per request (200 bytes in, 1,000 out) the processor time of the server's thread, the lowest of all
rounds; per idle connection the growth of the resident set, after 100 KB went each way. In plain Python, so the times
say how the three compare, not what the engine takes. The client is a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests import pki

KINDS = ("socket", "bios", "shared")
HANDSHAKES = 100
REQUESTS = 4000
IDLE = 400
BULK = 100_000
CHUNK = 16384


class Wire:
    """The server's end of one connection."""

    def __init__(
        self, kind: str, sock: socket.socket, context: ssl.SSLContext, pair: tuple[ssl.MemoryBIO, ...]
    ) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._in, self._out = pair if kind == "shared" else (ssl.MemoryBIO(), ssl.MemoryBIO())
        self.object: ssl.SSLSocket | ssl.SSLObject
        if kind == "socket":
            self.object = context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            self._socket: socket.socket | None = None
        else:
            self._socket = sock
            self.object = context.wrap_bio(self._in, self._out, server_side=True)

    def _do(self, step: Callable[[], int | None], into: memoryview) -> int | None:
        """Until it is done: ciphertext in, ciphertext out."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                pass
            finally:
                self._send()
            self._poll.poll()
            if self._socket is not None:
                self._in.write(into[: self._socket.recv_into(into)])

    def _send(self) -> None:
        if self._socket is not None and self._out.pending:
            data = self._out.read()
            while data:
                try:
                    data = data[self._socket.send(data) :]
                except BlockingIOError:
                    select.select([], [self._socket], [])

    def shake(self, into: memoryview) -> None:
        self._do(self.object.do_handshake, into)

    def read(self, into: memoryview) -> int:
        got = self._do(lambda: self.object.read(CHUNK, into), into)  # type: ignore[arg-type, return-value]
        assert got
        return got

    def write(self, data: memoryview) -> None:
        while data:
            try:
                data = data[self.object.write(data[:CHUNK]) :]
            except ssl.SSLWantWriteError:
                assert isinstance(self.object, ssl.SSLSocket)
                select.select([], [self.object], [])
            self._send()

    def close(self) -> None:
        if isinstance(self.object, ssl.SSLSocket):
            self.object.close()
        if self._socket is not None:
            self._socket.close()


def client(address: tuple[str, int], context: ssl.SSLContext, connections: int, exchanges: int, size: int) -> None:
    """What the other process does, and then it waits for its end."""
    kept = []
    for _ in range(connections):
        sock = context.wrap_socket(socket.create_connection(address))
        for _ in range(exchanges):
            sock.sendall(b"q" * size)
            left = max(size, 1000)
            while left:
                left -= len(sock.recv(left))
        kept.append(sock)
    signal.pause()


def serve(
    kind: str, server: ssl.SSLContext, connections: int, exchanges: int, size: int, keep: bool
) -> tuple[float, int]:
    """(seconds of this thread, bytes that the connections hold)."""
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with socket.create_server(("127.0.0.1", 0)) as listening:
        child = os.fork()
        if child == 0:
            try:
                client(listening.getsockname(), anyone, connections, exchanges, size)
            finally:
                os._exit(0)
        pair = (ssl.MemoryBIO(), ssl.MemoryBIO())
        into, answer = memoryview(bytearray(65536)), memoryview(bytes(max(size, 1000)))
        kept = []
        gc.collect()
        before, began = resident(), time.thread_time()
        for _ in range(connections):
            wire = Wire(kind, listening.accept()[0], server, pair)
            wire.shake(into)
            for _ in range(exchanges):
                left = size
                while left > 0:
                    left -= wire.read(into)
                wire.write(answer)
            kept.append(wire)
            if not keep:
                kept.pop().close()
        took = time.thread_time() - began
        gc.collect()
        held = resident() - before
        for wire in kept:
            wire.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return took, held


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.tls_transport", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        server.load_cert_chain(*pki.Authority().issue("localhost").write(Path(directory), "pair"))
    print("| | µs per handshake | µs per request | bytes per idle connection |\n|---|---:|---:|---:|")
    for kind in KINDS:
        shakes = min(serve(kind, server, HANDSHAKES, 0, 0, False)[0] for _ in range(rounds)) / HANDSHAKES
        requests = min(serve(kind, server, 1, REQUESTS, 200, False)[0] for _ in range(rounds)) / REQUESTS
        # In a process of its own: what this one has freed would be used again.
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, str(serve(kind, server, IDLE, 1, BULK, True)[1] // IDLE).encode())
            os._exit(0)
        held = os.read(reading, 100).decode()
        os.wait()
        print(f"| {kind} | {shakes * 1e6:.0f} | {requests * 1e6:.1f} | {held} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
