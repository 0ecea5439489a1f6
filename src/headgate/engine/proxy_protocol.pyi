from typing import Literal

End = tuple[str, int]

def parse(data: bytes) -> tuple[int, End | Literal["unix"] | None, End | None] | None:
    """Reads a header at the beginning of `data`: (length, source, destination), or None when more bytes are needed.

    Each end is (address, port), or None where the header names none; both are None for a connection that speaks for
    itself or is of unknown origin, and source is "unix" for a client on a unix socket. Raises ValueError for what is no
    header.
    """

def write(version: int, source: bytes | None = None, destination: bytes | None = None, *, local: bool = False) -> bytes:
    """A header, as bytes. `source` and `destination` are packed `struct sockaddr` values.

    A source that is None, or of another family than the internet's, is told as unknown. local: the connection is our
    own (version 2 only: version 1 cannot say so). Raises ValueError for another version.
    """
