"""`headgate events`: what happened lately."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from typing import Any

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect

_LOOK_AGAIN_S = 0.5


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "events",
        help="show what happened lately",
        description="Show what happened lately: backends that came and went, reloads, changes. Times are UTC.",
        epilog=common.EXIT_CODES,
        formatter_class=common.Formatter,
    )
    parser.add_argument("-n", "--number", metavar="N", type=int, default=50, help="how many, the newest (default: 50)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="one JSON object in a line")
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Shows events; returns the exit code."""
    if not 1 <= args.number <= 1000:
        raise common.UsageError("-n: 1 to 1000")
    connection = connect(args)
    with contextlib.suppress(KeyboardInterrupt):
        answer = connection.get("events", limit=args.number)
        while True:
            for event in answer["events"]:
                print(json.dumps(event) if args.json else shown(event), flush=True)
            if not args.follow:
                break
            time.sleep(_LOOK_AGAIN_S)
            last = answer["last"]
            answer = connection.get("events", after=last)
            if answer["last"] < last:  # the balancer was started anew
                answer = connection.get("events")
    return common.EXIT_OK


def shown(event: dict[str, Any]) -> str:
    """One event in a line."""
    about = "/".join(part for part in (event["pool"], event["backend"]) if part)
    reason = f": {event['reason']}" if event["reason"] else ""
    return f"{event['time']} {about + ' ' if about else ''}{event['what']}{reason}"
