"""What things are called in metrics and logs, where the configuration gives them no name of their own."""

from __future__ import annotations

from headgate.config.schema import Route


def route_name(route: Route) -> str:
    """A route by what it matches: "shop.example/api", "*/" for one that matches everything, and before it the listener
    where it belongs to one: ":8080 */". No two routes of a configuration have the same."""
    where = f"{route.host or '*'}{route.path_prefix}"
    return f"{route.listener} {where}" if route.listener else where
