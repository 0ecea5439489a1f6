"""`headgate disable`: take a backend out, bound sessions included."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.cli.backends import NAMING, add_backends, find, line, told

_EPILOG = f"""\
No new request goes there, not even of clients bound to it by a cookie (`headgate drain` lets those go on).
Requests in flight finish. `headgate enable` ends it.

{NAMING}
{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "disable",
        help="take a backend out at once",
        description="Take a backend out at once, bound sessions included.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    add_backends(parser)
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Disables; returns the exit code."""
    connection = connect(args)
    targets = find(connection, args.backends, args.pool)
    done = [connection.post("pools", target.pool, "backends", target.name, "disable") for target in targets]
    for one in done:
        print(line(one["backend"]))
    return told(done)
