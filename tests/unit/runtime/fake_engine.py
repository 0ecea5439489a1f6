"""A stand-in for the compiled engine: the same names, no sockets, and events that a test makes happen by hand.

It keeps the engine's promises that the policy glue relies on: a request is offered to `probe` first when it is
idempotent, then to `pick`, then to `fallback` when `pick` raised or chose something it may not; outcomes are reported
as the engine reports them; descriptors of listeners belong to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from headgate.config import schema
from headgate.engine.stats import CHECKED, ENABLED, PRESENT, UP, Segment
from headgate.errors import Kind, Verdict

GOOD = PRESENT | ENABLED | UP | CHECKED


@dataclass(frozen=True)
class Outcome:
    kind: int
    verdict: int
    status: int = 0
    retry_after_s: float = -1.0


class Backend:
    def __init__(self, pool: Pool, slot: int, config: schema.Backend, segment: Segment) -> None:
        self.pool = pool
        self.slot = slot
        self.config = config
        self.segment = segment
        self.name = config.name
        self.url = config.url.text
        self.active = 0
        self.eligible = False
        self.bound_ok = False
        self.watched = False
        self.share = 1.0
        self.priority = config.priority
        self.succeeded = 0
        self.set_cookie = b""
        self.addresses: list[bytes] = []
        self.tls: Any = None
        self.server_name = ""
        self.idle = 0

    @property
    def flags(self) -> int:
        return self.segment.backend_flags(self.slot)

    @property
    def weight(self) -> int:
        return self.segment.backend_weight(self.slot)

    @property
    def ramp(self) -> tuple[float, float]:
        from_ms, ms = self.segment.backend_ramp(self.slot)
        return from_ms / 1e3, ms / 1e3

    def configure(self, config: schema.Backend) -> None:
        self.config = config

    def close_idle(self) -> None:
        self.idle = 0

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Request:
    def __init__(self, method: str = "GET", path: bytes = b"/", client: str = "192.0.2.1", cookie: bytes = b"") -> None:
        self.method = method
        self.path = path
        self.host = b"example.test"
        self.client = client
        self.client_bytes = bytes(10) + b"\xff\xff" + bytes(int(part) for part in client.split("."))
        self.idempotent = method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE")
        self._cookie = cookie

    def header(self, name: str) -> bytes | None:
        return None

    def cookie(self, name: str) -> bytes | None:
        return self._cookie or None


class Pool:
    def __init__(self, name: str, slot: int, config: schema.Pool) -> None:
        self.name = name
        self.slot = slot
        self.config = config
        self.pick: Callable[[Any, Collection[Any]], Any] | None = None
        self.fallback: Callable[[Any, Collection[Any]], Any] | None = None
        self.done: Callable[[Any, Any], None] | None = None
        self.strategy_error: Callable[[BaseException | str], None] | None = None
        self.outcome: Callable[[Any, Any], None] | None = None
        self.probe: Callable[[], Any] | None = None
        self.fallback_answer: Any = None
        self.sticky: dict[bytes, Any] | None = None
        self.sticky_name = b""
        self.members: list[Backend] = []
        self.eligible_count = 0
        self.limiter: Any = None

    def configure(self, config: schema.Pool) -> None:
        self.config = config

    def changed(self) -> None:
        pass

    def share_reserve(self, workers: int) -> None:
        self.sharing = workers

    def choose(self, request: Request | None = None, tried: Collection[Backend] = ()) -> Backend | None:
        """What the engine does before an attempt."""
        request = request or Request()
        if self.sticky is not None:
            bound: Backend | None = self.sticky.get(request.cookie("") or b"")
            if bound is not None and bound.bound_ok and bound not in tried:
                return bound
        if self.probe is not None and request.idempotent and not tried:
            probed: Backend | None = self.probe()
            if probed is not None:
                return probed
        assert self.pick is not None
        assert self.fallback is not None
        assert self.strategy_error is not None
        try:
            chosen = self.pick(request, tried)
        except Exception as error:
            self.strategy_error(error)
        else:
            if chosen is None or (isinstance(chosen, Backend) and chosen.eligible and chosen not in tried):
                return chosen
            self.strategy_error(f"chose {chosen!r}")
        answer = self.fallback(request, tried)
        assert answer is None or isinstance(answer, Backend)
        return answer

    def finish(self, backend: Backend, kind: Kind = Kind.OK, *, status: int = 0, retry_after_s: float = -1.0) -> None:
        """An attempt at `backend` ended so."""
        verdict = Verdict.NONE if status == 503 and retry_after_s >= 0 else kind.verdict
        if verdict is Verdict.SUCCESS:
            backend.succeeded += 1
        if (backend.watched or verdict > Verdict.SUCCESS or retry_after_s >= 0) and self.outcome:
            self.outcome(backend, Outcome(int(kind), int(verdict), status, retry_after_s))


class Route:
    def __init__(self, pool: Pool, config: schema.Route | None = None) -> None:
        self.pool = pool
        self.config = config
        self.fallback: Route | None = None
        self.slot = 0


class Listener:
    def __init__(self, fd: int, config: schema.Listener) -> None:
        self.fd = fd
        self.config = config
        self.slot = 0
        self.match: Callable[..., Route | None] | None = None
        self.tls: Any = None
        self.identify: Any = None
        self.match_identity = False
        self.only_route: Route | None = None
        self.status: Callable[[], bytes] | None = None
        self.ready: Callable[[], bool] | None = None

    def configure(self, config: schema.Listener) -> None:
        self.config = config

    def route(self, host: bytes = b"", path: bytes = b"/") -> Route | None:
        if self.only_route is not None:
            return self.only_route
        assert self.match is not None
        return self.match(host, path)


class Engine:
    def __init__(self) -> None:
        self.now = 1000.0
        self.on_generation: Callable[[], None] | None = None
        self.access_log: Any = None
        self.decisions: Any = None
        self.sampling: tuple[int, int] = (0, 0)
        self.tracing: tuple[int, float] = (0, 0.0)
        self.connections = 0
        self.in_flight = 0
        self.cut_off = 0
        self.listeners: list[Listener] = []
        self.watched: dict[int, Callable[[], None]] = {}
        self.chores: list[tuple[float, Callable[[], None]]] = []
        self.draining: tuple[float, Callable[[], None]] | None = None
        self.stopped = False
        self.cut_off_backends: list[Backend] = []

    def sample(self, every: int, query: int) -> None:
        self.sampling = (every, query)

    def trace(self, mode: int, share: float) -> None:
        self.tracing = (mode, share)

    def fileno(self) -> int:
        return -1

    def run_once(self) -> None:
        pass

    def stop(self) -> None:
        self.stopped = True

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        del self.watched[fd]

    def every(self, interval_s: float, callback: Callable[[], None]) -> None:
        self.chores.append((interval_s, callback))

    def cut_off_backend(self, backend: Backend) -> None:
        self.cut_off_backends.append(backend)

    def add_listener(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        self.listeners.remove(listener)
        os.close(listener.fd)

    def drain(self, deadline_s: float, done: Callable[[], None], idle_s: float = 0.0) -> None:
        for listener in list(self.listeners):
            self.remove_listener(listener)
        self.draining = (deadline_s, done)
        self.settle()

    # What a test makes happen.

    def settle(self) -> None:
        """Let a drain end when nothing is in flight."""
        if self.draining is not None and self.in_flight == 0:
            _, done = self.draining
            self.draining = None
            done()

    def state_changed(self) -> None:
        """The generation word moved: what the engine does between two batches."""
        if self.on_generation is not None:
            self.on_generation()

    def pass_time(self, seconds: float) -> None:
        """Let time go by, housekeeping included."""
        whole = int(seconds)
        for step in [1.0] * whole + [seconds - whole]:
            self.now += step
            if step:
                for _, chore in self.chores:
                    chore()


class AccessLog:
    """Notes what is done to it."""

    def __init__(self, config: schema.AccessLog) -> None:
        self.config = config
        self.reopened = 0
        self.closed = False

    def reopen(self) -> None:
        self.reopened += 1

    def close(self, timeout_s: float = 1.0) -> None:
        self.closed = True


class Parts:
    """Makes stand-ins where `EngineParts` makes engine objects."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.logs: list[AccessLog] = []

    def listener(self, fd: int, config: schema.Listener, slot: int) -> Any:
        made = Listener(fd, config)
        made.slot = slot
        return made

    def route(self, pool: Any, config: schema.Route, slot: int) -> Any:
        made = Route(pool, config)
        made.slot = slot
        return made

    def pool(self, name: str, slot: int, config: schema.Pool) -> Any:
        return Pool(name, slot, config)

    def backend(self, pool: Any, slot: int, config: schema.Backend) -> Any:
        return Backend(pool, slot, config, self.segment)

    def static_answer(self, status: int, content_type: bytes, fields: bytes, body: bytes) -> Any:
        return status, content_type, fields, body

    def access_log(self, config: schema.AccessLog) -> Any:
        if config.format == "off":
            return None
        if config.path == "/not/there/log":
            raise FileNotFoundError(2, "No such file or directory", config.path)
        self.logs.append(AccessLog(config))
        return self.logs[-1]
