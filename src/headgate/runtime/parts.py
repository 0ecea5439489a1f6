"""Where the agent gets engine objects from: the compiled engine, or in unit tests a stand-in with the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from headgate.config import schema
from headgate.observe.names import route_name

if TYPE_CHECKING:
    from headgate.engine import AccessLog, Backend, Listener, Pool, Route, Segment, StaticAnswer


class Parts(Protocol):
    """Makes engine objects from their configuration."""

    def listener(self, fd: int, config: schema.Listener, slot: int) -> Listener: ...

    def route(self, pool: Pool, config: schema.Route, slot: int) -> Route: ...

    def pool(self, name: str, slot: int, config: schema.Pool) -> Pool: ...

    def backend(self, pool: Pool, slot: int, config: schema.Backend) -> Backend: ...

    def static_answer(self, status: int, content_type: bytes, fields: bytes, body: bytes) -> StaticAnswer: ...

    def access_log(self, config: schema.AccessLog) -> AccessLog | None:
        """None for the format "off". OSError when the file cannot be opened."""


class EngineParts:
    """The real ones, counting in one worker's part of the segment."""

    def __init__(self, segment: Segment, worker: int) -> None:
        from headgate import engine

        self._engine = engine
        self._segment = segment
        self._worker = worker

    def listener(self, fd: int, config: schema.Listener, slot: int) -> Listener:
        return self._engine.Listener(fd, config, slot)

    def route(self, pool: Pool, config: schema.Route, slot: int) -> Route:
        return self._engine.Route(pool, config, slot, route_name(config))

    def pool(self, name: str, slot: int, config: schema.Pool) -> Pool:
        return self._engine.Pool(name, slot, config)

    def backend(self, pool: Pool, slot: int, config: schema.Backend) -> Backend:
        return self._engine.Backend(pool, slot, config, segment=self._segment, worker=self._worker)

    def static_answer(self, status: int, content_type: bytes, fields: bytes, body: bytes) -> StaticAnswer:
        return self._engine.StaticAnswer(status, content_type, fields, body)

    def access_log(self, config: schema.AccessLog) -> AccessLog | None:
        if config.format == "off":
            return None
        return self._engine.AccessLog(config.format, config.path, fields=config.fields, sample=config.sample)
