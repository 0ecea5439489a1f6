"""What a strategy is given, and what it must offer.

The engine's own classes satisfy `Backend`, `Request` and `Outcome`; a unit test or a simulation may bring its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

Options = Mapping[str, object]
"""The options of a strategy: its table in the configuration without `name`."""


class Backend(Protocol):
    """One backend as a strategy sees it. Hashable, compared by identity."""

    @property
    def name(self) -> str:
        """Unique in its pool, the same in every process and after a restart."""

    @property
    def url(self) -> str: ...

    @property
    def slot(self) -> int:
        """Its place in the shared segment."""

    @property
    def weight(self) -> int:
        """0 to 256 as configured; 0 = no new sessions."""

    @property
    def share(self) -> float:
        """What it is to get, against the shares of the others: its weight, less while it starts slowly. Above 0 for all
        that `update` is given; changes only with an `update`."""

    @property
    def active(self) -> int:
        """Attempts in flight, over all workers."""


class Request(Protocol):
    """The request to be placed: a lazy view, valid only during the call. Every access makes a copy."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> bytes:
        """Exactly the bytes that are forwarded."""

    @property
    def host(self) -> bytes:
        """Lower case, without the port."""

    @property
    def client(self) -> str:
        """Address of the client as text, resolved through trusted proxies."""

    @property
    def client_bytes(self) -> bytes:
        """The same as 16 bytes, IPv4 mapped into IPv6."""

    @property
    def idempotent(self) -> bool:
        """RFC 9110 section 9.2.2."""

    def header(self, name: str) -> bytes | None: ...

    def cookie(self, name: str) -> bytes | None: ...


class Outcome(Protocol):
    """How one attempt ended."""

    @property
    def kind(self) -> int:
        """A `headgate.errors.Kind`."""

    @property
    def status(self) -> int:
        """Of the response; 0 = none."""

    @property
    def first_byte_s(self) -> float:
        """Seconds to the first byte of the response; -1 = none came."""

    @property
    def total_s(self) -> float: ...

    @property
    def ok(self) -> bool: ...


class Strategy(Protocol):
    """Picks a backend for each attempt. Called from one thread, never concurrently."""

    def update(self, backends: Sequence[Backend]) -> None:
        """The eligible set changed, or a share in it did. `backends` is in configuration order; the list is the
        caller's."""

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        """A backend of the set that is not in `tried` (nearly always empty); None only if there is none."""


class LearningStrategy(Strategy, Protocol):
    """A strategy that wants to know how attempts ended; found by its having a method `done`. It is looked up after each
    `update`; None (a property may say so) = it does not want to know now, which saves the call for each attempt."""

    def done(self, backend: Backend, outcome: Outcome) -> None:
        """An attempt at `backend` ended, whoever had picked it: this strategy, a cookie, or the fallback."""


class AffineStrategy(Strategy, Protocol):
    """A strategy that goes by a key in the request; found by its having a method `position`."""

    def position(self, request: Request) -> float:
        """Where the request's key lies, from 0 to below 1, evenly spread and the same in every worker. Of a pool with
        several priorities it decides which level serves the key, so it must not follow from what `pick` compares: one
        level would only see its part of that."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a strategy goes by where one backend is concerned. value: a number, in the sense of `Grounds.rule`; text:
    how it comes about, for people ("3 in flight + 1, per share 2")."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """Why a strategy picks as it does, for one request. rule: what the scores mean and which wins, in one line. scores:
    of those that the strategy knows; where there are many, those that matter."""

    rule: str
    scores: Mapping[Backend, Score]


class ExplainingStrategy(Strategy, Protocol):
    """A strategy that says what it goes by; found by its having a method `explain`. Without one an explanation still
    has who would be picked, but no scores."""

    def explain(self, request: Request) -> Grounds:
        """What it would go by for this request. It is a copy that is asked, so it may change whatever it wants."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a strategy may use of the world. Tests inject their own."""

    random: Random
    clock: Callable[[], float]
    """Monotonic seconds."""
    hash64: Callable[[bytes, int], int]
    """(data, seed) -> 64 bits, the same in every process: two workers must send one client to one backend."""
    worker: int = 0
    """The number of this worker: where workers would all begin at the same place, they need not."""


def usable(backends: Iterable[Backend]) -> list[Backend]:
    """Those with a share. The eligible set holds no others; a caller that forgets must not make one of 0 divide."""
    return [backend for backend in backends if backend.share > 0]


def rotated(backends: Sequence[Backend], order: Sequence[Backend], position: int) -> int:
    """Where a turn that stood at `position` of the old `order` goes on in the new one: at the first that stayed.

    Starting over at each change would favour the first backends, the more the oftener the set changes.
    """
    index = {backend: i for i, backend in enumerate(backends)}
    for old in (*order[position:], *order[:position]):
        if old in index:
            return index[old]
    return 0
