"""`headgate reload`: the configuration file is read again."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect

_EPILOG = f"""\
Everything is checked first, in every worker: a file with a mistake changes nothing, all its mistakes are shown, and
the exit code is 2. Connections, health, counters and sessions are kept. `headgate plan` shows the difference before.
(SIGHUP does the same; its mistakes are in the balancer's log.)

{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "reload",
        help="make a running balancer read its file again",
        description="Make a running balancer read its configuration file again.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reloads; returns the exit code."""
    changes = connect(args).post("reload")["changes"]
    for change in changes:
        print(f"{change['where']}: {change['text']}")
    differs = any(change["kind"] in ("added", "removed", "changed") for change in changes)
    print("reloaded" if differs else "reloaded; the file has nothing new")
    return common.EXIT_OK
