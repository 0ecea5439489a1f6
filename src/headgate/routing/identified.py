"""Routes that ask who the client is: which of them are there for a client with this certificate, or without one.

A client's certificate is the same for a whole connection, so the table is not asked anew for each request: of all
routes, those that can be this client's make a table of their own, made once for every set of them and remembered with
the client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

from headgate.routing.match import Entry, Router, place

T = TypeVar("T")

# Tables that are kept: there are few sets of routes in practice, however many clients there are.
_MOST_TABLES = 64


class Client(Protocol):
    """A client with a verified certificate. routes: for this file to remember something in."""

    subject: str
    fingerprint: str
    routes: tuple[object, object]


class Guarded(NamedTuple, Generic[T]):
    """A route. allows: for which certificates it is there (subject, fingerprint); None = for everybody, without one,
    too."""

    entry: Entry[T]
    allows: Callable[[str, str], bool] | None


class IdentifiedRouter(Generic[T]):
    """The table of one listener; immutable. Among routes for the same host and path, one that asks for a certificate
    goes before one that does not, one that names the listener before one that names none, and an earlier one before a
    later one. Raises RouteError as `Router` does."""

    def __init__(self, routes: Iterable[Guarded[T]], listener: str = "") -> None:
        self._listener = listener
        routes = list(routes)
        for entry, allows in routes:
            if allows is not None:
                Router([entry])  # raises when it is malformed
        here = [route for route in routes if route.entry.listener in ("", listener)]
        self._open = [entry for entry, allows in routes if allows is None]
        self._guarded = sorted(
            ((entry, allows) for entry, allows in here if allows is not None), key=lambda route: not route[0].listener
        )
        self._tables: dict[tuple[int, ...], Router[T]] = {}
        self._without = self._table(())

    def match(self, host: bytes, path: bytes, client: Client | None) -> T | None:
        """As `Router.match`. client: None for one without a certificate."""
        if client is None:
            return self._without.match(host, path)
        table, router = client.routes
        if table is not self:
            router = self._table(
                tuple(
                    number
                    for number, (_, allows) in enumerate(self._guarded)
                    if allows(client.subject, client.fingerprint)
                )
            )
            client.routes = (self, router)
        assert isinstance(router, Router)
        found: T | None = router.match(host, path)
        return found

    def _table(self, allowed: tuple[int, ...]) -> Router[T]:
        """These routes, and those that ask for nothing."""
        known = self._tables.get(allowed)
        if known is not None:
            return known
        chosen: dict[tuple[str, tuple[str, ...]], Entry[T]] = {}
        for number in allowed:
            entry = self._guarded[number][0]
            chosen.setdefault(place(entry), entry)
        rest = [entry for entry in self._open if place(entry) not in chosen]
        made = Router([*chosen.values(), *rest], self._listener)
        if len(self._tables) < _MOST_TABLES:
            self._tables[allowed] = made
        return made
