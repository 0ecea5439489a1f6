"""What a strategy sees of a request."""

class Request:
    """What a strategy may ask of a request. Valid only during the call it was passed to; every access copies."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> bytes: ...
    @property
    def host(self) -> bytes: ...
    @property
    def client(self) -> str: ...
    @property
    def client_bytes(self) -> bytes:
        """16 bytes; IPv4 as ::ffff:a.b.c.d."""
    @property
    def idempotent(self) -> bool:
        """RFC 9110 section 9.2.2."""

    def header(self, name: str) -> bytes | None: ...
    def cookie(self, name: str) -> bytes | None: ...
