"""What compiled policy reads of the engine's objects, or of any that look the same."""

from collections.abc import Callable

from headgate.balancing.base import Backend, Outcome, Request

def in_flight(backend: Backend) -> int:
    """Attempts in flight at it, over all workers: `backend.active`."""

def good_answer_s(outcome: Outcome) -> float:
    """Seconds to the first byte of an answer below 400 that is a success; below 0 for any other outcome."""

def remaining(age_s: float, decay_s: float) -> float:
    """What is left, of 1, after `age_s` of something that falls to 1/e in `decay_s`."""

def client_key(request: Request) -> bytes:
    """The client's address, resolved through trusted proxies: `request.client_bytes`."""

def hashed(hash64: Callable[[bytes, int], int], key: bytes, seed: int) -> int:
    """`hash64(key, seed)`, which costs next to nothing where it is the engine's."""
