"""`headgate enable`: back from drain or disable."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.cli.backends import NAMING, add_backends, find, line, told

_EPILOG = f"""\
{NAMING}
{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "enable",
        help="the end of drain and disable",
        description="Give a backend, or a listener, new work again: the end of `drain` and `disable`.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    add_backends(parser, nargs="*")
    parser.add_argument("--listener", metavar="ADDRESS", help="a listener's address, instead of a backend")
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Enables; returns the exit code."""
    if bool(args.backends) == bool(args.listener):
        raise common.UsageError("name backends, or a listener with --listener")
    connection = connect(args)
    if args.listener:
        code = told([connection.post("listeners", args.listener, "open")])
        print(f"{args.listener}: open")
        return code
    targets = find(connection, args.backends, args.pool)
    done = [connection.post("pools", target.pool, "backends", target.name, "enable") for target in targets]
    for one in done:
        print(line(one["backend"]))
    return told(done)
