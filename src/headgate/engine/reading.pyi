"""What compiled strategies read of the engine's objects, or of any that look the same."""

from collections.abc import Callable
from typing import Protocol

class _Backend(Protocol):
    @property
    def active(self) -> int: ...

class _Request(Protocol):
    @property
    def client_bytes(self) -> bytes: ...

class _Outcome(Protocol):
    @property
    def ok(self) -> bool: ...
    @property
    def status(self) -> int: ...
    @property
    def first_byte_s(self) -> float: ...

def in_flight(backend: _Backend) -> int:
    """Attempts in flight at it, over all workers: `backend.active`."""

def good_answer_s(outcome: _Outcome) -> float:
    """Seconds to the first byte of an answer below 400 that is a success, 0 where none came; below 0 for any other
    outcome."""

def remaining(age_s: float, decay_s: float) -> float:
    """What is left, of 1, after `age_s` of something that falls to 1/e in `decay_s`."""

def client_key(request: _Request) -> bytes:
    """The client's address, resolved through trusted proxies: `request.client_bytes`."""

def hashed(hash64: Callable[[bytes, int], int], key: bytes, seed: int) -> int:
    """`hash64(key, seed)`, which costs next to nothing where it is the engine's."""
