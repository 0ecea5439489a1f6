"""`headgate decisions`: where requests went of late."""

from __future__ import annotations

import argparse
import json

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.explain import text


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "decisions",
        help="show where requests went of late",
        description="Show where requests went of late: all that did not end well or needed another attempt, and a"
        ' sample of the rest. The newest comes last. "headgate explain --id ID" tells all about one. Times are UTC.',
        epilog=common.EXIT_CODES,
        formatter_class=common.Formatter,
    )
    parser.add_argument("-n", "--number", metavar="N", type=int, default=50, help="how many, the newest (default: 50)")
    parser.add_argument(
        "--failed", action="store_true", help="only those that did not end well, or needed another attempt"
    )
    parser.add_argument("--backend", metavar="NAME", default="", help="only those with an attempt at this backend")
    parser.add_argument("--json", action="store_true", help="one JSON object in a line")
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Shows decisions; returns the exit code."""
    if not 1 <= args.number <= 1000:
        raise common.UsageError("-n: 1 to 1000")
    query: dict[str, object] = {"limit": args.number}
    if args.failed:
        query["failed"] = "true"
    if args.backend:
        query["backend"] = args.backend
    for one in reversed(connect(args).get("decisions", **query)["decisions"]):
        print(json.dumps(one) if args.json else text.decision_line(one))
    return common.EXIT_OK
