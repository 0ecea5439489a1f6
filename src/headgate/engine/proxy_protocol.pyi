def write(version: int, source: bytes | None = None, destination: bytes | None = None, *, local: bool = False) -> bytes:
    """A header, as bytes. `source` and `destination` are packed `struct sockaddr` values.

    A source that is None, or of another family than the internet's, is told as unknown. local: the connection is our
    own (version 2 only: version 1 cannot say so). Raises ValueError for another version.
    """
