from collections.abc import Iterable

class Networks:
    """A list of networks: "10.0.0.0/8", "192.0.2.7", "::1", "unix". Raises ValueError for text that is none."""

    def __init__(self, networks: Iterable[str] = ...) -> None: ...
