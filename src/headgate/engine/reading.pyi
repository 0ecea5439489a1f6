"""What compiled policy reads of the engine's objects, or of any that look the same."""

from headgate.balancing.base import Backend, Outcome

def in_flight(backend: Backend) -> int:
    """Attempts in flight at it, over all workers: `backend.active`."""

def good_answer_s(outcome: Outcome) -> float:
    """Seconds to the first byte of an answer below 400 that is a success; below 0 for any other outcome."""

def remaining(age_s: float, decay_s: float) -> float:
    """What is left, of 1, after `age_s` of something that falls to 1/e in `decay_s`."""
