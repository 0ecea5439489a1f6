"""The load client: a process of its own, so that neither its work nor its pauses are the row's.

A request has failed when the client got an exception, a status of 500 and above that no application produced (the
applications here say who they are), or a body that is not the one it should be. Nothing is ever tried again.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import pickle
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ..e2e.harness.wire import Incomplete, Malformed, Reader, Response
from .servers import body_of, digest

T = TypeVar("T")

Address = tuple[str, int] | str

# Longer than any timeout of the balancer: who hears nothing for so long was forgotten.
PATIENCE_S = 20.0


@dataclass(slots=True)
class Sample:
    """One request. times: monotonic seconds. failed: why it counts as failed, "" for none."""

    start: float
    end: float
    method: str
    target: str
    identity: str
    status: int = 0
    backend: str = ""
    failed: str = ""
    retry_after: str | None = None

    @property
    def took(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client asks for. `size`: of the body that is sent with POST and PUT, else of the answer."""

    method: str = "GET"
    target: str = "/"
    size: int = 64
    chunked: bool = False
    close: bool = False
    """Say Connection: close."""


def connect(address: Address, timeout_s: float = PATIENCE_S) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(address)
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


class Client:
    """One client; keeps its connection while the balancer does."""

    def __init__(self, address: Address, name: str) -> None:
        self._address = address
        self._name = name
        self._count = itertools.count()
        self._socket: socket.socket | None = None
        self._reader: Reader | None = None

    def ask(self, ask: Ask) -> Sample:
        """One request, judged."""
        identity = f"{self._name}.{next(self._count)}"
        target = ask.target
        if ask.method not in ("POST", "PUT") and "size=" not in target:
            target += ("&" if "?" in target else "?") + f"size={ask.size}"
        sample = Sample(time.monotonic(), 0.0, ask.method, target, identity)
        try:
            response = self._exchange(ask, target, identity)
        except (OSError, Incomplete, Malformed, AssertionError) as error:
            sample.failed = f"{type(error).__name__}: {error}"[:200]
            self.close()
        else:
            sample.status = response.status
            sample.backend = response.header("x-backend") or ""
            sample.retry_after = response.header("retry-after")
            sample.failed = self._judge(response, sample, ask)
            if ask.close or "close" in response.list_header("connection"):
                self.close()
        sample.end = time.monotonic()
        return sample

    def _exchange(self, ask: Ask, target: str, identity: str) -> Response:
        sock, reader = self._socket, self._reader
        if sock is None or reader is None:
            self._socket = sock = connect(self._address)
            self._reader = reader = Reader(lambda: sock.recv(65536))
        head = f"{ask.method} {target} HTTP/1.1\r\nHost: h.example\r\nX-Id: {identity}\r\n"
        if ask.close:
            head += "Connection: close\r\n"
        body = b""
        if ask.method in ("POST", "PUT"):
            body = body_of(identity, ask.size)
            if ask.chunked:
                head += "Transfer-Encoding: chunked\r\n"
                pieces = [body[at : at + 5000] for at in range(0, len(body), 5000)]
                body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            else:
                head += f"Content-Length: {len(body)}\r\n"
        sock.sendall(head.encode() + b"\r\n" + body)
        return reader.response(ask.method)

    def _judge(self, response: Response, sample: Sample, ask: Ask) -> str:
        if response.status >= 500 and not sample.backend:
            return f"status {response.status}"
        if not 200 <= response.status < 300 or response.status == 204 or ask.method == "HEAD":
            return ""
        if response.header("x-id") != sample.identity:
            return f"the answer to {response.header('x-id')}"
        if ask.method in ("POST", "PUT"):
            expected = digest(body_of(sample.identity, ask.size)).encode()
        else:
            size = int(sample.target.rpartition("size=")[2])
            expected = body_of(sample.identity, size)
        return "" if response.body == expected else f"a wrong body of {len(response.body)} bytes"

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = self._reader = None


def quantile(values: Iterable[float], q: float) -> float:
    """The q-quantile, 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else 0.0


@dataclass(slots=True)
class Result:
    """What the clients saw. stalls: (when, how much later than it should a thread of theirs ran), the large ones."""

    samples: list[Sample] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)

    def between(self, start: float, end: float = math.inf) -> Result:
        """Only requests that started in that time."""
        samples = [sample for sample in self.samples if start <= sample.start < end]
        return Result(samples, [stall for stall in self.stalls if start <= stall[0] < end])

    def where(self, condition: Callable[[Sample], bool]) -> Result:
        return Result([sample for sample in self.samples if condition(sample)], self.stalls)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def failed(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.failed]

    @property
    def reasons(self) -> Counter[str]:
        return Counter(f"{sample.method} {sample.failed}" for sample in self.failed)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(sample.status for sample in self.samples)

    @property
    def backends(self) -> Counter[str]:
        return Counter(sample.backend for sample in self.samples)

    @property
    def stall(self) -> float:
        """The longest time for which this machine did not let a ready thread of the clients run."""
        return max((late for _, late in self.stalls), default=0.0)

    def quantile(self, q: float) -> float:
        return quantile((sample.took for sample in self.samples), q)

    @property
    def longest(self) -> float:
        return max((sample.took for sample in self.samples), default=0.0)


class Load:
    """Clients in a process of their own, from now until `stop`. Each asks for one of `asks` after the other, in an
    order that `seed` decides, `rate` times a second at most."""

    def __init__(
        self,
        address: Address,
        asks: Sequence[Ask],
        *,
        clients: int = 32,
        rate: float = 10.0,
        seed: int = 1,
        name: str = "c",
        each: int = 0,
    ) -> None:
        """each: how many requests a client makes; 0 = until `stop`."""
        self._shared = mmap.mmap(-1, 16)  # 0: 1 = stop; 8..15: requests so far
        read_fd, write_fd = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read_fd)
            code = 1
            try:
                result = _Clients(self._shared, address, asks, clients, rate, seed, name, each).run()
                with os.fdopen(write_fd, "wb") as out:
                    pickle.dump(result, out)
                code = 0
            finally:
                os._exit(code)
        os.close(write_fd)
        self._read_fd = read_fd

    @property
    def count(self) -> int:
        """Requests answered so far."""
        return int.from_bytes(self._shared[8:16], "little")

    @property
    def running(self) -> bool:
        """Asking, and not told to stop."""
        return self.pid != 0 and not self._shared[0]

    def stop(self) -> Result:
        """No new requests; those under way end. What happened."""
        self._shared[0] = 1
        return self.join()

    def join(self) -> Result:
        """Wait until each client has made its requests (`each`). What happened."""
        with os.fdopen(self._read_fd, "rb") as source:
            result = pickle.load(source)
        os.waitpid(self.pid, 0)
        self.pid = 0
        assert isinstance(result, Result)
        return result

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._read_fd)
            self.pid = 0


class _Clients:
    """In the process of the load."""

    def __init__(
        self,
        shared: mmap.mmap,
        address: Address,
        asks: Sequence[Ask],
        clients: int,
        rate: float,
        seed: int,
        name: str,
        each: int,
    ) -> None:
        self._shared = shared
        self._address = address
        self._asks = asks
        self._clients = clients
        self._interval_s = 1 / rate if rate else 0.0
        self._seed = seed
        self._name = name
        self._each = each
        self._result = Result()
        self._counts = [0] * clients

    def run(self) -> Result:
        threading.stack_size(256 * 1024)
        threads = [
            threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(self._clients)
        ]
        for thread in threads:
            thread.start()
        meter = threading.Thread(target=self._measure_stalls, daemon=True)
        meter.start()
        while not self._shared[0] and any(thread.is_alive() for thread in threads):
            self._shared[8:16] = sum(self._counts).to_bytes(8, "little")
            time.sleep(0.02)
        for thread in threads:
            thread.join(PATIENCE_S * 2)
        for thread in threads:
            if thread.is_alive():
                now = time.monotonic()
                self._result.samples.append(Sample(now, now, "?", "?", "", failed="a client that never came back"))
        return self._result

    def _client(self, number: int) -> None:
        chance = random.Random(self._seed * 1000 + number)
        client = Client(self._address, f"{self._name}{number}")
        due = time.monotonic() + self._interval_s * number / self._clients
        while not self._shared[0]:
            now = time.monotonic()
            if due > now:
                time.sleep(min(due - now, 0.05))
                continue
            due = max(due + self._interval_s, now)
            sample = client.ask(chance.choice(self._asks))
            self._result.samples.append(sample)
            self._counts[number] += 1
            if self._counts[number] == self._each:
                break
            if sample.failed:
                time.sleep(0.01)  # a client that fails at once must not do so ten thousand times a second
        client.close()

    def _measure_stalls(self) -> None:
        while not self._shared[0]:
            before = time.monotonic()
            time.sleep(0.005)
            late = time.monotonic() - before - 0.005
            if late > 0.02:
                self._result.stalls.append((before, late))


def in_process(work: Callable[[], T]) -> Callable[[], T]:
    """Run `work` in a process of its own. What is returned waits for its result, or raises its exception's text."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        code = 1
        try:
            try:
                outcome: tuple[bool, object] = (True, work())
            except BaseException as error:
                outcome = (False, f"{type(error).__name__}: {error}")
            with os.fdopen(write_fd, "wb") as out:
                pickle.dump(outcome, out)
            code = 0
        finally:
            os._exit(code)
    os.close(write_fd)

    def result() -> T:
        with os.fdopen(read_fd, "rb") as source:
            ok, value = pickle.load(source)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        assert ok, value
        outcome: T = value
        return outcome

    return result
