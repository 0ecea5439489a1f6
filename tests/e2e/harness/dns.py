"""A DNS server that answers as a test says (RFC 1035, as far as a stub resolver needs it), and a world that asks it.

glibc finds its server in /etc/resolv.conf, on port 53 always. So the program under test gets a mount namespace in which
that file is ours, and the server an address in 127.0.0.0/8 that nobody else uses.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Literal

from .waiting import PATIENCE_S

Answer = Sequence[str] | Literal["nxdomain", "servfail", "silent"]
"""IPv4 addresses, or a way to fail."""

_A, _IN = 1, 1
_RESPONSE, _TRUNCATED, _RECURSION = 0x8400, 0x0200, 0x0180
_CODES = {"servfail": 2, "nxdomain": 3}
_UDP_LIMIT = 512  # RFC 1035 section 4.2.1


class DnsServer:
    """Listens on port 53 (UDP and TCP) of a loopback address. Raises OSError where that is not permitted."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.ttl_s = 1
        self.asked: Counter[str] = Counter()
        """Queries for A records by name."""
        self._changed = threading.Condition()
        random = Random(os.getpid())
        for attempt in range(20):
            self.host = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
            try:
                self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._udp.bind((self.host, 53))
                self._tcp = socket.create_server((self.host, 53))
                break
            except OSError as error:
                self._udp.close()
                if isinstance(error, PermissionError) or attempt == 19:
                    raise
        for target in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def wait_asked(self, name: str, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a name has been asked for so often."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.asked[name] >= count, timeout_s):
                raise AssertionError(f"{name} was asked for {self.asked[name]} times in {timeout_s:g} s, not {count}")

    def _serve_udp(self) -> None:
        while True:
            try:
                query, peer = self._udp.recvfrom(65536)
            except OSError:
                return
            if not query:  # the shutdown that ends this thread
                return
            answer = self._answer(query)
            if answer is None:
                continue
            if len(answer) > _UDP_LIMIT:
                identity, flags, questions = struct.unpack("!HHH", answer[:6])
                question = answer[12 : _question_end(answer)]
                answer = struct.pack("!6H", identity, flags | _TRUNCATED, questions, 0, 0, 0) + question
            self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                while len(size := stream.read(2)) == 2:
                    answer = self._answer(stream.read(int.from_bytes(size, "big")))
                    if answer is None:
                        break
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, query: bytes) -> bytes | None:
        identity, flags = struct.unpack("!HH", query[:4])
        end = _question_end(query)
        kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
        name = ".".join(_labels(query))
        answer = self.answers.get(name, "nxdomain")
        with self._changed:
            self.asked[name] += kind == _A
            self._changed.notify_all()
        if answer == "silent":
            return None
        code = _CODES.get(answer, 0) if isinstance(answer, str) else 0
        addresses = [] if isinstance(answer, str) or kind != _A else list(answer)
        records = b"".join(
            struct.pack("!HHHIH", 0xC00C, _A, _IN, self.ttl_s, 4) + socket.inet_aton(address) for address in addresses
        )
        flags = _RESPONSE | (flags & 0x0100) | _RECURSION | code
        return struct.pack("!6H", identity, flags, 1, len(addresses), 0, 0) + query[12:end] + records

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            # close alone does not wake the thread that waits in it
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def __enter__(self) -> DnsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _labels(query: bytes) -> list[str]:
    labels = []
    at = 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
    return labels


def _question_end(message: bytes) -> int:
    return 12 + sum(len(label) + 1 for label in _labels(message)) + 1 + 4


_MOUNTED = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


def asking(server: DnsServer, directory: Path) -> list[str]:
    """What to put before a command, so that it (and what it starts) asks `server` for names."""
    config = directory / "resolv.conf"
    config.write_text(f"nameserver {server.host}\noptions ndots:1\n")
    return [*_unshare(), "sh", "-c", _MOUNTED, "sh", str(config)]


def _unshare() -> list[str]:
    rootless = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [shutil.which("unshare") or "unshare", *rootless, "--mount", "--propagation", "private", "--"]


def impossible(directory: Path) -> str | None:
    """Why this machine cannot do that, or None."""
    empty = directory / "resolv.conf"
    empty.touch()
    try:
        tried = subprocess.run(
            [*_unshare(), "sh", "-c", _MOUNTED, "sh", str(empty), "true"], capture_output=True, text=True, check=False
        )
        if tried.returncode != 0:
            return f"mount namespaces are not permitted: {tried.stderr.strip()}"
        DnsServer().close()
    except OSError as error:
        return f"no DNS server can be run here: {error}"
    return None
