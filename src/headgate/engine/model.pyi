"""What the engine keeps of the configuration: listeners, routes, pools and backends."""

from collections.abc import Callable, Collection
from ssl import SSLContext, SSLObject
from typing import Protocol

from headgate.config import schema
from headgate.engine.fallback import StaticAnswer
from headgate.engine.outcome import Outcome
from headgate.engine.request import Request
from headgate.engine.stats import Segment

class Listener:
    """A listening socket and what is answered on it. Attributes may be set while it runs."""

    match: Callable[..., Route | None] | None
    """(host in lower case, path) -> route, and the identity where `match_identity` is set. Not called while
    `only_route` is set."""
    only_route: Route | None
    status: Callable[[], bytes] | None
    """The JSON body of the status page."""
    ready: Callable[[], bool] | None
    """Whether `ready_path` answers 200 (else 503)."""
    closing: bool
    """Every answer says `Connection: close`: clients are to come back by another connection."""
    tls: SSLContext | None
    """What connections to come speak TLS with; None = plain HTTP. Those that are open stay as they are."""
    identify: Callable[[SSLObject], tuple[object, bytes]] | None
    """Asked once per connection, after the handshake: who is it? An identity for `match`, and complete header lines
    `X-Client-Cert-…: …\r\n` for backends. A client's own lines of such names never reach a backend, on any listener,
    unless it is one of `trusted_proxies`. When it raises, the connection is closed."""
    match_identity: bool
    """`match` is called with (host, path, identity); the identity is None for plain connections."""
    @property
    def fd(self) -> int: ...
    @property
    def config(self) -> schema.Listener: ...
    @property
    def bind(self) -> str: ...
    @property
    def slot(self) -> int: ...
    def __init__(self, fd: int, config: schema.Listener, slot: int = 0) -> None:
        """slot: where it counts in the segment; 0 is shared by all that have no place of their own."""

    def configure(self, config: schema.Listener) -> None:
        """Take over other settings (limits, timeouts, trusted proxies...); `bind` stays. For new requests."""

class Limiter(Protocol):
    """Says how many attempts may be in flight (`headgate.resilience.gradient2`)."""

    @property
    def limit(self) -> float: ...
    def update(self, seconds: float, in_flight: int) -> float:
        """A window is over: the mean time to the first byte, and the most attempts in flight. Returns the limit."""

class Route:
    """Where a matched request goes."""

    @property
    def pool(self) -> Pool: ...
    @property
    def config(self) -> schema.Route | None: ...
    fallback: Route | None
    """Where requests go when nothing in the pool is routable. The caller makes no loops."""
    @property
    def slot(self) -> int: ...
    @property
    def name(self) -> str: ...
    def __init__(self, pool: Pool, config: schema.Route | None = None, slot: int = 0, name: str = "") -> None:
        """slot: where it counts in the segment; 0 is shared by all that have no place of their own. name: for logs."""

class Pool:
    """Backends that serve the same thing, and the callbacks that choose among them."""

    @property
    def name(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def config(self) -> schema.Pool: ...
    pick: Callable[[Request, Collection[Backend]], object] | None
    """The strategy's choice; checked by the engine, which falls back when it raises or answers nonsense."""
    fallback: Callable[[Request, Collection[Backend]], object] | None
    done: Callable[[Backend, Outcome], None] | None
    strategy_error: Callable[[BaseException | str], None] | None
    outcome: Callable[[Backend, Outcome], None] | None
    """Every attempt that matters: failed ones that count, those that were asked for less (429 or 503 with Retry-After),
    and all at a `watched` backend."""
    probe: Callable[[], Backend | None] | None
    """Set while the pool has half-open backends: claims one of them for an idempotent request."""
    fallback_answer: StaticAnswer | None
    """What is answered when nothing in the pool is routable."""
    def share_reserve(self, workers: int) -> None:
        """So many workers share the reserve of the retry budget; to be said again after each `configure`."""
    @property
    def retry_tokens(self) -> float:
        """Retries and hedges that this worker may send now; `retry.budget`."""
    sticky: dict[bytes, Backend] | None
    """Cookie value -> backend."""
    sticky_name: bytes
    members: list[Backend]
    """Its backends, in configuration order."""
    eligible_count: int
    """How many of them may be picked for a new session."""
    limiter: Limiter | None
    """Adaptive concurrency, this worker's; None = off."""

    def __init__(self, name: str, slot: int, config: schema.Pool) -> None: ...
    def configure(self, config: schema.Pool) -> None:
        """Take over other settings (timeouts, retries, host, limits). For new attempts."""

    def changed(self) -> None:
        """Members or what may be picked have changed: whoever waits in the queue is looked at again."""

class Backend:
    """One server of a pool, its kept connections and its counters."""

    @property
    def pool(self) -> Pool: ...
    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def config(self) -> schema.Backend: ...
    @property
    def weight(self) -> int:
        """0..256, from the segment; 0 = bound sessions only."""
    @property
    def ramp(self) -> tuple[float, float]:
        """(from_s, for_s), from the segment: since when its share grows (monotonic seconds), and for how long;
        (0.0, 0.0) = it has all of it."""
    @property
    def active(self) -> int:
        """Attempts in flight, all workers together."""
    @property
    def flags(self) -> int:
        """BackendFlag bits, from the segment."""
    @property
    def succeeded(self) -> int:
        """Attempts that succeeded so far in this worker."""
    @property
    def learned_idle_s(self) -> float:
        """After how many idle seconds it was seen to close a connection; 0.0 = not known."""
    eligible: bool
    """May be picked for a new session."""
    bound_ok: bool
    """May serve a session that is bound to it."""
    watched: bool
    """Successes are reported through `Pool.outcome` too."""
    share: float
    """What a strategy gives it, against the shares of the others: its weight, less while it starts slowly."""
    priority: int
    """As configured; 0 is used first."""
    set_cookie: bytes
    """The complete Set-Cookie line of a new sticky session; empty = none."""
    addresses: list[bytes]
    """Packed socket addresses, tried in order from the one that last worked."""
    tls: SSLContext | None
    """What connections to come are made with; None = plain HTTP. A context that verifies ends those whose certificate
    is not good before anything was sent (`Kind.TLS_VERIFY`). Kept connections stay as they are: `close_idle`."""
    server_name: str
    """The name that is asked for (SNI) and that the certificate must have, where the context checks names."""
    @property
    def tls_error(self) -> bytes | None:
        """Why the last handshake that failed did so, in OpenSSL's words."""

    def __init__(self, pool: Pool, slot: int, config: schema.Backend, *, segment: Segment, worker: int) -> None: ...
    def configure(self, config: schema.Backend) -> None:
        """Take over other limits; what is in flight counts against them at once."""
    def close_idle(self) -> None:
        """Drop kept connections; what is in flight is not kept either."""
