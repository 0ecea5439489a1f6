"""How commands name backends, and what they say when a change has been made."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headgate.cli.admin_client import Connection
from headgate.cli.common import EXIT_CONFIG, EXIT_ERROR, EXIT_OK, CommandError, say

NAMING = """\
A backend is named by its name, its URL, or POOL/NAME; --pool is needed only where several pools have it.
"""


@dataclass(frozen=True)
class Target:
    """A backend that was named."""

    pool: str
    name: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.name}"


def add_backends(parser: argparse.ArgumentParser, *, nargs: str = "+") -> None:
    """BACKEND arguments and --pool."""
    parser.add_argument("backends", metavar="BACKEND", nargs=nargs, help="a name, a URL, or POOL/NAME")
    add_pool(parser)


def add_pool(parser: argparse.ArgumentParser) -> None:
    """--pool."""
    parser.add_argument("--pool", metavar="POOL", help="the pool it is in")


def find(connection: Connection, words: Iterable[str], pool: str | None) -> list[Target]:
    """The backends that words mean, each of which must mean exactly one. Raises CommandError for the first that does
    not, before anything is changed."""
    rows = connection.get("backends") if pool is None else connection.get("pools", pool, "backends")
    return [_find(rows, word) for word in words]


def _find(rows: list[dict[str, Any]], word: str) -> Target:
    def matching(*forms: str) -> list[dict[str, Any]]:
        return [row for row in rows if any(word == form.format(**row) for form in forms)]

    # A name comes before a URL: one backend may be named like the other's address.
    found = matching("{name}", "{pool}/{name}") or matching("{url}", "{url}/", "{pool}/{url}")
    if len(found) == 1:
        return Target(found[0]["pool"], found[0]["name"])
    if found:
        names = ", ".join(f"{row['pool']}/{row['name']}" for row in found)
        raise CommandError(f"{word} may be {names}: say which", EXIT_CONFIG)
    known = ", ".join(f"{row['pool']}/{row['name']}" for row in rows[:10]) + (", ..." if len(rows) > 10 else "")
    raise CommandError(f"there is no backend {word} (there is: {known or 'none at all'})", EXIT_CONFIG)


def the_pool(connection: Connection, pool: str | None) -> str:
    """The pool that was named, or the only one. Raises CommandError."""
    if pool is not None:
        return pool
    names = [row["name"] for row in connection.get("pools")]
    if len(names) == 1:
        return str(names[0])
    raise CommandError(f"there are several pools, say which with --pool: {', '.join(names)}", EXIT_CONFIG)


def told(done: Iterable[dict[str, Any]]) -> int:
    """Say what warnings there are; the exit code."""
    warnings = list(dict.fromkeys(one["warning"] for one in done if one["warning"]))
    for warning in warnings:
        say(f"warning: {warning}")
    return EXIT_ERROR if warnings else EXIT_OK


def line(row: dict[str, Any]) -> str:
    """One backend in a line: what came of a change."""
    why = f" ({'; '.join(row['reasons'])})" if row["reasons"] else ""
    return f"{row['pool']}/{row['name']}: {row['state']}, weight {row['weight']}{why}"
