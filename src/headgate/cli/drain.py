"""`headgate drain`: let a backend, or a listener, run empty."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from headgate.cli import common
from headgate.cli.admin_client import Connection, add_admin, connect
from headgate.cli.backends import NAMING, Target, add_backends, find, line, told
from headgate.config.values import Wrong, parse_duration

_LOOK_AGAIN_S = 0.1

_EPILOG = f"""\
A draining backend gets no new sessions. Requests in flight finish, and clients bound to it by a cookie go on
(`headgate disable` cuts those off as well). `headgate enable` ends it.

A draining listener accepts no new connections; open ones go on.

{NAMING}
examples:
  headgate drain web-1 --wait 30s && ssh web-1 deploy && headgate enable web-1
  headgate drain --listener 0.0.0.0:8080

{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "drain",
        help="let a backend run empty",
        description="Let a backend, or a listener, run empty.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    add_backends(parser, nargs="*")
    parser.add_argument("--listener", metavar="ADDRESS", help="a listener's address, instead of a backend")
    parser.add_argument(
        "--wait",
        metavar="DURATION",
        type=duration,
        help="until nothing is in flight there; exit code 1 if it takes longer",
    )
    parser.add_argument(
        "--deadline",
        metavar="DURATION",
        type=duration,
        help="then bound clients go elsewhere, too, and what is in flight is cut off (default: never)",
    )
    add_admin(parser)
    parser.set_defaults(run=run)


def duration(text: str) -> float:
    """An argparse type."""
    try:
        return parse_duration(text)
    except Wrong as wrong:
        raise argparse.ArgumentTypeError(wrong.message) from None


def run(args: argparse.Namespace) -> int:
    """Drains; returns the exit code."""
    if bool(args.backends) == bool(args.listener):
        raise common.UsageError("name backends, or a listener with --listener")
    connection = connect(args)
    if args.listener:
        code = told([connection.post("listeners", args.listener, "drain")])
        print(f"{args.listener}: draining")
        return code
    targets = find(connection, args.backends, args.pool)
    body = None if args.deadline is None else {"deadline": args.deadline}
    done = [connection.post("pools", target.pool, "backends", target.name, "drain", body=body) for target in targets]
    for one in done:
        print(line(one["backend"]))
    code = told(done)
    return code if args.wait is None else max(code, _wait(connection, targets, args.wait))


def _wait(connection: Connection, targets: Sequence[Target], limit_s: float) -> int:
    deadline = time.monotonic() + limit_s
    while True:
        rows = [connection.get("pools", target.pool, "backends", target.name) for target in targets]
        busy = [row for row in rows if row["activeConnections"]]
        if not busy:
            return common.EXIT_OK
        if time.monotonic() >= deadline:
            for row in busy:
                common.say(f"{row['pool']}/{row['name']}: {row['activeConnections']} requests are still in flight")
            return common.EXIT_ERROR
        time.sleep(_LOOK_AGAIN_S)
