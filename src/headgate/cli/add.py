"""`headgate add`: a backend more."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.cli.backends import add_pool, line, the_pool, told

_EPILOG = f"""\
It gets requests once its first check has passed. It stays across reloads; across restarts it stays where
`admin.state_file` is configured. Once the configuration file has a backend of that name or address, the file
describes it.

{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "add",
        help="add a backend",
        description="Add a backend to a pool of a running balancer.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    parser.add_argument("url", metavar="URL", help='"http://host:port" or "unix:/path"')
    parser.add_argument("--weight", metavar="N", type=int, default=1, help="0 to 256 (default: 1)")
    parser.add_argument("--name", metavar="NAME", help="how it is called (default: its URL)")
    add_pool(parser)
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Adds; returns the exit code."""
    connection = connect(args)
    body = {"url": args.url, "weight": args.weight} | ({"name": args.name} if args.name is not None else {})
    done = connection.post("pools", the_pool(connection, args.pool), "backends", body=body)
    print(line(done["backend"]))
    return told([done])
