"""Reads our own access log (`access_log.format = "json"`): when requests came, from whom, how long they took where."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec


class Line(msgspec.Struct, frozen=True):
    """What a line says of a request, as far as it matters here; docs/configuration.md has all fields."""

    time: str
    client: str | None = None
    method: str | None = None
    path: str | None = None
    host: str | None = None
    pool: str | None = None
    backend: str | None = None
    attempts: int = 0
    total_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """A request that was answered at the first attempt."""

    arrived_s: float
    """Seconds since the first one of the log came."""
    backend: str
    took_s: float
    client: str
    method: str
    path: str
    host: str


class LogError(ValueError):
    """A log that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Log:
    """The requests of one pool, in the order in which they came."""

    pool: str
    requests: list[Logged]
    unreadable: int
    """Lines that are no such JSON."""
    left_out: int
    """Requests of this pool that failed or took several attempts: how long they would have taken elsewhere is not
    known."""


def read_log(path: str | os.PathLike[str], pool: str | None = None) -> Log:
    """The log in this file. pool: whose requests; may be None if there is only one pool in the log.

    Raises OSError, and `LogError` when nothing in it can be used.
    """
    with open(path, "rb") as file:
        return parse(file, pool)


def parse(lines: Iterable[bytes], pool: str | None = None) -> Log:
    """The log in these lines; see `read_log`."""
    decode = msgspec.json.Decoder(Line).decode
    unreadable = 0
    found: list[tuple[float, Line]] = []
    pools: Counter[str] = Counter()
    for text in lines:
        try:
            line = decode(text)
            # Since the epoch; the log has milliseconds, and "Z" at the end.
            at = datetime.fromisoformat(line.time).timestamp()
        except (msgspec.DecodeError, ValueError):
            unreadable += 1
            continue
        if line.pool is not None:
            pools[line.pool] += 1
            found.append((at, line))
    if not pools:
        raise LogError('no line of an access log in JSON that names a pool (access_log.format = "json" writes them)')
    if pool is None:
        if len(pools) > 1:
            raise LogError(f"the log has requests of the pools {', '.join(sorted(pools))}: name one")
        (pool,) = pools
    elif pool not in pools:
        raise LogError(f"no request of the pool {pool}; the log has {', '.join(sorted(pools))}")
    ours = [(at, line) for at, line in found if line.pool == pool]
    good = [
        (at, line)
        for at, line in ours
        if line.error is None and line.attempts == 1 and line.backend is not None and line.total_s is not None
    ]
    if not good:
        raise LogError(f"no request of the pool {pool} was answered at the first attempt")
    # Lines are written as answers end.
    good.sort(key=lambda one: one[0])
    zero = good[0][0]
    requests = [
        Logged(
            at - zero,
            line.backend or "",
            line.total_s or 0.0,
            line.client or "",
            line.method or "GET",
            line.path or "/",
            line.host or "",
        )
        for at, line in good
    ]
    return Log(pool, requests, unreadable, len(ours) - len(good))
