"""`headgate strategy`: another way to pick backends."""

from __future__ import annotations

import argparse
import json

from headgate.balancing.registry import BUILT_IN
from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.cli.backends import add_pool, the_pool, told

_EPILOG = f"""\
Every worker tries it first: one that cannot be made changes nothing.

built in: {", ".join(BUILT_IN)}

{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "strategy",
        help="change how a pool picks backends",
        description="Change how a pool of a running balancer picks its backends.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    parser.add_argument("name", metavar="NAME", help='a built-in one, or "package.module:Class"')
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of the strategy; a value that is JSON is read as such",
    )
    add_pool(parser)
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sets the strategy; returns the exit code."""
    options = dict(_option(text) for text in args.option)
    connection = connect(args)
    pool = the_pool(connection, args.pool)
    done = connection.put("pools", pool, "strategy", body={"name": args.name, "options": options})
    print(f"{pool}: {args.name}")
    return told([done])


def _option(text: str) -> tuple[str, object]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise common.UsageError(f"--option: {text} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
