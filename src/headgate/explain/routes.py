"""Which route a request takes, which others would have had it, and which it just missed.

The answer is the router's own; this file only finds words for the rest, by the same rule (`routing.match`): exact host
before the longer wildcard before any, then the longest prefix, then the one that names the listener. A question comes
without a client certificate, so routes that ask for one are not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headgate.config.schema import Route
from headgate.explain.answer import RouteSeen
from headgate.routing.match import Entry, Router

# A page of routes that do not match tells nobody anything.
MISSED = 10


@dataclass(frozen=True, slots=True)
class Routing:
    """taken: index of the route that is taken; None = no route matches."""

    taken: int | None
    route: RouteSeen | None
    shadowed: list[RouteSeen]
    missed: list[RouteSeen]


def find(routes: Sequence[Route], listener: str, host: bytes, path: bytes) -> Routing:
    """Of a client without a certificate. host: lower case, without port. path: as it is forwarded. listener: its `bind`
    as configured."""
    table = Router(
        [
            Entry(route.listener or "", route.host or "", route.path_prefix, number)
            for number, route in enumerate(routes)
            if route.client_cert is None
        ],
        listener,
    )
    taken = table.match(host, path)
    name = host.decode("latin-1").removesuffix(".")
    segments = path.partition(b"?")[0].decode("latin-1")
    fits: list[tuple[int, Route]] = []
    missed: list[tuple[int, int, RouteSeen]] = []
    for number, route in enumerate(routes):
        wrong = _why_not(route, listener, name, segments)
        if not wrong:
            fits.append((number, route))
        else:
            missed.append((len(wrong), number, _seen(number, route, "; ".join(wrong))))
    if taken is None:
        return Routing(None, None, [], [row for _, _, row in sorted(missed, key=_nearness)][:MISSED])
    winner = routes[taken]
    shadowed = [_seen(number, route, _why_after(route, winner, taken)) for number, route in fits if number != taken]
    return Routing(
        taken,
        _seen(taken, winner, _why(winner)),
        shadowed,
        [row for _, _, row in sorted(missed, key=_nearness)][:MISSED],
    )


def _nearness(row: tuple[int, int, RouteSeen]) -> tuple[int, int]:
    return row[0], row[1]


def _seen(number: int, route: Route, why: str) -> RouteSeen:
    return RouteSeen(
        number=number + 1,
        listener=route.listener or "",
        host=route.host or "",
        path_prefix=route.path_prefix,
        pool=route.pool,
        why=why,
    )


def _why(route: Route) -> str:
    host = f"host {route.host}" if route.host else "any host"
    prefix = f"paths below {route.path_prefix}" if route.path_prefix.strip("/") else "any path"
    listener = f", on listener {route.listener}" if route.listener else ""
    return f"{host}, {prefix}{listener}"


def _why_not(route: Route, listener: str, host: str, path: str) -> list[str]:
    """What keeps a request away from a route; empty when nothing does."""
    wrong = []
    if route.listener is not None and route.listener != listener:
        wrong.append(f"it is for listener {route.listener}")
    if route.client_cert is not None:
        wrong.append("it asks for a client certificate, and this is explained for a client without one")
    if not _host_fits(route.host, host):
        wrong.append(f"its host is {route.host}, the request's {host or 'empty'}")
    if not _prefix_fits(route.path_prefix, path):
        wrong.append(f"its prefix is {route.path_prefix}, the request's path {path}")
    if route.client_cert is not None:
        wrong.append(f"it is for clients with a certificate ({route.client_cert})")
    return wrong


def _host_fits(pattern: str | None, host: str) -> bool:
    wanted = (pattern or "").lower().removesuffix(".")
    if not wanted:
        return True
    if wanted.startswith("*."):
        return host.endswith(wanted[1:]) and len(host) > len(wanted) - 1
    return host == wanted


def _segments(prefix: str) -> list[str]:
    segments = prefix[1:].split("/")
    return segments[:-1] if segments[-1] == "" else segments


def _prefix_fits(prefix: str, path: str) -> bool:
    wanted = _segments(prefix)
    if not wanted:
        return True
    return path.startswith("/") and path[1:].split("/")[: len(wanted)] == wanted


def _why_after(route: Route, winner: Route, taken: int) -> str:
    """Why `winner` goes before `route`, where both match."""
    name = f"route {taken + 1}"
    mine, other = _host_rank(route.host), _host_rank(winner.host)
    if mine != other:
        if not route.host:
            return f"{name} names the host ({winner.host})"
        return f"the host of {name}, {winner.host}, is more specific than {route.host}"
    if len(_segments(route.path_prefix)) != len(_segments(winner.path_prefix)):
        return f"the prefix of {name}, {winner.path_prefix}, is longer"
    return f"{name} is the same and names the listener"


def _host_rank(host: str | None) -> tuple[int, int]:
    if not host:
        return 0, 0
    if host.startswith("*."):
        return 1, host.removesuffix(".").count(".")
    return 2, 0
