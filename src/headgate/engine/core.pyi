"""The reactor: what it accepts, what it calls back, how it ends."""

from collections.abc import Callable

from headgate.engine.accesslog import AccessLog
from headgate.engine.decisions import Decisions
from headgate.engine.model import Backend, Listener
from headgate.engine.stats import Segment

class Engine:
    """One data plane: one epoll, one thread, any number of listeners.

    Nested in another event loop, `fileno()` is watched for readability and `run_once()` called; by itself it is driven
    by `run_forever()`. Exceptions raised by any callback are logged and counted, and never reach the reactor.
    """

    on_generation: Callable[[], None] | None
    """Called between two batches of events after the segment's generation word changed."""
    access_log: AccessLog | None
    @property
    def connections(self) -> int:
        """Open client connections."""
    @property
    def in_flight(self) -> int:
        """Exchanges that have begun and not ended."""
    @property
    def cut_off(self) -> int:
        """Exchanges that the deadline of `drain` ended."""
    @property
    def in_batch(self) -> bool:
        """Are events being handled? Then whoever asks was called by the engine."""
    @property
    def buffer_limit(self) -> int:
        """Bytes of buffers that connections may hold together; requests above it are answered 503. At least 1 MiB."""
    @buffer_limit.setter
    def buffer_limit(self, value: int) -> None: ...
    @property
    def buffers_in_use(self) -> int:
        """Bytes of buffers that connections hold now."""
    @property
    def pipes_in_use(self) -> int:
        """Pipes that hold body bytes now, or wait for some."""
    @property
    def now(self) -> float:
        """Monotonic seconds, read once per batch."""
    def __init__(self, segment: Segment, worker: int) -> None: ...
    def fileno(self) -> int: ...
    def run_once(self) -> None:
        """Handle whatever is ready; never blocks."""
    def run_forever(self) -> None:
        """Drive the engine until `stop()`. Owns the thread."""
    def stop(self) -> None: ...
    decisions: Decisions | None
    """Where the last decisions are kept, in this worker's rings; None = nowhere."""
    def sample(self, every: int, query: int) -> None:
        """Keep one request in `every`, on average, among the decisions, besides those that did not go well; 0 = none.
        query: what of a path's query is kept: 0 = nothing, 1 = names, 2 = all."""
    def trace(self, mode: int, share: float) -> None:
        """W3C Trace Context: 0 = off, 1 = take part in traces that come, 2 = begin those that do not, too; so many of
        these are sampled (0 to 1)."""
    def seed_random(self, seed: int) -> None:
        """From here on pauses before retries (and request ids) are the same for the same `seed`. For tests."""
    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` while `fd` is readable (level-triggered)."""
    def unwatch(self, fd: int) -> None: ...
    def every(self, interval_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` about every `interval_s` seconds, for housekeeping."""
    def cut_off_backend(self, backend: Backend) -> None:
        """Close every connection to a backend, kept or in use. A request in flight is cut off
        (`Kind.DRAIN_DEADLINE`): elsewhere again where that is safe, and never counted against the backend."""
    def add_listener(self, listener: Listener) -> None:
        """Start accepting. The engine owns the listener's descriptor from here on."""
    def remove_listener(self, listener: Listener) -> None:
        """Stop accepting and close the descriptor; connections already accepted live on, and are told to leave."""
    def drain(self, deadline_s: float, done: Callable[[], None], idle_s: float = 0.0) -> None:
        """Stop accepting, close idle connections, let exchanges finish, cut off what is left at the deadline.

        idle_s: so long idle connections stay, so that their clients can be told by `Connection: close` on an answer.
        `done` is called once, when no client connection is open any more. Calling it again moves the deadline.
        """
    def close(self) -> None:
        """Close every connection and descriptor. The engine cannot be used afterwards."""

def pack_address(family: int, address: tuple[str, int] | tuple[str, int, int, int] | str | bytes) -> bytes:
    """The `struct sockaddr` of an address as the socket module writes it, for `Backend.addresses`.

    Raises ValueError for a family other than AF_INET, AF_INET6 and AF_UNIX, OSError for a host that is no number.
    """
