"""A request that is only looked at, by the rules of the data path."""

from headgate.engine.address import Networks
from headgate.engine.request import Request

class Preview:
    """One request head, read as the engine reads one.

    head: all of it, as it would come. client: the address that would be connected ("unix" for a unix socket).
    trusted, forwarded: the listener's `trusted_proxies` and `forwarded`. Raises `request_head.BadRequestHead`, and
    ValueError for a client that is none.
    """

    def __init__(
        self,
        head: bytes,
        client: str,
        trusted: Networks,
        *,
        forwarded: str = "x",
        head_limit: int,
        line_limit: int,
        headers_limit: int,
    ) -> None: ...
    @property
    def request(self) -> Request:
        """What strategies are asked with. Valid as long as this object is there."""
    @property
    def trusted(self) -> bool:
        """The client is a trusted proxy."""
    @property
    def websocket(self) -> bool:
        """It offers to switch to WebSocket."""
    @property
    def upgrade(self) -> bool:
        """It offers to switch to some protocol that may pass at all."""
    @property
    def body_bytes(self) -> int | None:
        """As announced; None where the body is chunked."""
    @property
    def only_reads(self) -> bool:
        """GET or HEAD."""
    @property
    def ends_here(self) -> bool:
        """TRACE or OPTIONS with Max-Forwards: 0, which the balancer answers."""
    def client_in(self, networks: Networks) -> bool:
        """Is the client, resolved through trusted proxies, in one of these?"""
    def not_idempotent(self) -> None:
        """From here on its view says so: it is to be passed on as an upgrade."""
