"""The engine's clock as strategies are given it."""

from collections.abc import Callable

from headgate.engine.core import Engine

def clock(engine: Engine) -> Callable[[], float]:
    """A function without arguments: monotonic seconds as of the engine's current batch of events."""
