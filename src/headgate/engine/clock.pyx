"""The engine's clock as strategies are given it."""
from headgate.engine.context cimport Context


def clock(Context engine not None):
    """A function without arguments: monotonic seconds as of the engine's current batch of events. It is asked once or twice for
    each request, and as compiled code costs a tenth of what a lambda does."""
    def now() -> float:
        return engine.now / 1e9
    return now
