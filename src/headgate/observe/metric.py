"""What a metric is, and what its values come from: a reading of all counters with what else there is to know."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from headgate.engine.stats import Latency
from headgate.observe.processes import Process
from headgate.observe.status import CertificateStatus, routable
from headgate.observe.sums import Sums

PREFIX = "headgate_"

CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
"""By the first digit of the status; "none" for what ended without one."""

BOUNDS_NS = tuple(1000 << octave for octave in range(8, 27))
"""The histograms' `le`: 256 µs doubling to 67 s. Powers of two, since there native buckets end (16 to each doubling, 4
for routes and backends), so that these counts are exact and not interpolated."""
LAG_BOUNDS_NS = tuple(1000 << octave for octave in range(10, 23))
"""Of the event loop: 1 ms to 4 s."""

Labels = str
"""As they stand between the braces: `pool="web",class="2xx"`."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts by `bounds_ns`, and all of them together."""

    bounds_ns: tuple[int, ...]
    below: Sequence[int]
    count: int
    sum_s: float


Value = int | float | Histogram
Rows = Iterable[tuple[Labels, Value]]


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything a page is made of. panic: the pools that are in panic. stand_ins: those of which another pool,
    or a static answer, serves the requests. now_s: CLOCK_MONOTONIC.

    heartbeats: when each worker last looked after its house, in seconds of CLOCK_MONOTONIC.
    """

    version: str
    sums: Sums
    processes: Sequence[Process]
    panic: Collection[str]
    stand_ins: Collection[str]
    certificates: Sequence[CertificateStatus]
    heartbeats: Mapping[int, float]
    now_s: float
    pools: Mapping[str, tuple[int, int]]
    """Pool -> (backends, those that get requests)."""
    backend_labels: Sequence[Labels]
    """Of `sums.backends`, in their order."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. name: without the prefix, without the `_total` of a counter. rows: its samples."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    text: str
    rows: Callable[[Reading], Rows]

    @property
    def full_name(self) -> str:
        """As samples call it (a histogram's have their suffixes behind it)."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        return f"{PREFIX}{self.name}{suffix}"


def reading(
    sums: Sums,
    *,
    version: str,
    processes: Sequence[Process] = (),
    panic: Collection[str] = (),
    stand_ins: Collection[str] = (),
    certificates: Sequence[CertificateStatus] = (),
    heartbeats: Mapping[int, float] | None = None,
    now_s: float = 0.0,
) -> Reading:
    """What the page of these sums is made of."""
    members: dict[str, list[int]] = {name: [0, 0] for name in sums.pools}
    for backend in sums.backends:
        row = members.setdefault(backend.pool, [0, 0])
        row[0] += 1
        row[1] += routable(backend.flags)
    return Reading(
        version=version,
        sums=sums,
        processes=processes,
        panic=panic,
        stand_ins=stand_ins,
        certificates=certificates,
        heartbeats=heartbeats or {},
        now_s=now_s,
        pools={name: (count, up) for name, (count, up) in members.items()},
        backend_labels=[labels(pool=backend.pool, backend=backend.name) for backend in sums.backends],
    )


def labels(**values: str) -> Labels:
    """Names and values as they stand between the braces. Values are escaped: a backend's name is its owner's."""
    return ",".join(f'{name}="{escaped(value)}"' for name, value in values.items())


def escaped(text: str) -> str:
    """A label's value, without what would end it or the line."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def histogram(latency: Latency, bounds_ns: tuple[int, ...] = BOUNDS_NS) -> Histogram:
    """A reading's latency as Prometheus wants it. Its count is that of its buckets: another word may be one ahead."""
    *below, count = latency.up_to((*bounds_ns, 1 << 63))
    return Histogram(bounds_ns, below, count, latency.sum_ns / 1e9)
