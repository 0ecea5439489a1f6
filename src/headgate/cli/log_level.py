"""`headgate log-level`: how much the balancer says of itself."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.observe.logging import LEVELS


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "log-level",
        help="show or set how much the balancer says of itself",
        description="Show or set how much a running balancer says of itself; it holds until the balancer ends.",
        epilog=common.EXIT_CODES,
        formatter_class=common.Formatter,
    )
    parser.add_argument("level", choices=LEVELS, nargs="?", help="not given: the present one is shown")
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Shows or sets it; returns the exit code."""
    connection = connect(args)
    answer = connection.put("log-level", body={"level": args.level}) if args.level else connection.get("log-level")
    print(answer["level"])
    return common.EXIT_OK
