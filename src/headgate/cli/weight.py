"""`headgate weight`: how much a backend gets."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.cli.backends import NAMING, add_pool, find, line, told

_EPILOG = f"""\
0 leaves only the sessions bound to it by a cookie. "round_robin" and "random" give all others the same, whatever
their weight; choose "weighted_round_robin", "p2c" or "least_connections" where it is to matter.

{NAMING}
{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "weight",
        help="set how much a backend gets",
        description="Set a backend's weight against the others of its pool.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    parser.add_argument("backend", metavar="BACKEND", help="a name, a URL, or POOL/NAME")
    parser.add_argument("weight", metavar="WEIGHT", type=int, help="0 to 256")
    add_pool(parser)
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sets the weight; returns the exit code."""
    connection = connect(args)
    (target,) = find(connection, [args.backend], args.pool)
    done = connection.put("pools", target.pool, "backends", target.name, "weight", body={"weight": args.weight})
    print(line(done["backend"]))
    return told([done])
