"""What of a request is hashed: the one reader of keys that all hash strategies share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Address

from headgate.balancing.base import Backend, Request, Score
from headgate.engine.reading import client_key

KeyReader = Callable[[Request], bytes]

_UNIT = 2.0**-64
_BELOW = 1.0 - 2.0**-53  # 2**64 - 1 rounds up to 2**64
# Of its own, so that the level a key has says nothing of its place among the backends there.
_LEVEL_SEED = 0x6C6576656C


def level_position(hash64: Callable[[bytes, int], int], key: bytes) -> float:
    """Which priority level serves this key; see `headgate.balancing.base.AffineStrategy`."""
    return hash64(key, _LEVEL_SEED) * _UNIT * _BELOW


# Of a key's order in an explanation: who would have it if those before were away. More than these never matters.
RANKED = 10


def ranking(order: Sequence[Backend]) -> dict[Backend, Score]:
    """The scores of a key's order."""
    return {
        backend: Score(rank, "has the key" if rank == 0 else f"{rank} before it") for rank, backend in enumerate(order)
    }


def shown(key: bytes) -> str:
    """A key for people: an address as one, text in quotes, cut where it is long."""
    text = key.decode("latin-1")
    if len(key) == 16 and not (text.isascii() and text.isprintable()):
        address = IPv6Address(key)
        return str(address.ipv4_mapped or address)
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def client_text(request: Request) -> bytes:
    """The client's address as nginx's $remote_addr has it."""
    return request.client.encode("latin-1")


def path(request: Request) -> bytes:
    """Without the query: all questions about one thing go to one place."""
    return request.path.partition(b"?")[0]


def argument(query: bytes, name: bytes) -> bytes | None:
    """The value of the first argument of this name, as it stands there (nothing is decoded)."""
    start = name + b"="
    for part in query.split(b"&"):
        if part.startswith(start):
            return part[len(start) :]
    return None


def reader(options: Mapping[str, object], *, text: bool = False) -> KeyReader:
    """From the options `key`, `header` and `cookie` as `options.read` gives them.

    A request that lacks the header, cookie or argument, or has an empty one, goes by its client's address: so it stays
    on one backend too, and those requests spread over all. text: the address as text, not as 16 bytes.
    """
    address = client_text if text else client_key
    given = options.get("key")
    kind, name = given if isinstance(given, tuple) else ("client", "")
    for shorthand in ("header", "cookie"):
        value = options.get(shorthand)
        if isinstance(value, str):
            kind, name = shorthand, value
    if kind == "path":
        return path
    if kind == "header":
        return lambda request: request.header(name) or address(request)
    if kind == "cookie":
        return lambda request: request.cookie(name) or address(request)
    if kind == "query":
        wanted = name.encode("ascii")
        return lambda request: argument(request.path.partition(b"?")[2], wanted) or address(request)
    return address
