"""`headgate remove`: a backend less."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.cli.backends import NAMING, add_backends, find, told

_EPILOG = f"""\
No new request goes there; those in flight finish. It stays away across reloads, until the configuration file gives
that name another address. (To keep bound sessions until they end: `headgate drain` first.)

{NAMING}
{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "remove",
        help="remove a backend",
        description="Remove a backend from a running balancer.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    add_backends(parser)
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Removes; returns the exit code."""
    connection = connect(args)
    done = []
    for target in find(connection, args.backends, args.pool):
        done.append(connection.delete("pools", target.pool, "backends", target.name))
        print(f"{target}: removed")
    return told(done)
