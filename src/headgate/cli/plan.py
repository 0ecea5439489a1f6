"""`headgate plan`: what another configuration would change, in words."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.config.diff import plan
from headgate.config.dump import dump
from headgate.config.load import load

_EPILOG = f"""\
  headgate plan                 what `headgate reload` would change
  headgate plan NEW.toml        what this file would change, against what runs
  headgate plan OLD.toml NEW.toml
                                what lies between two files; no balancer needed

"kept" and "dropped" are changes made while running (by the API or these commands). They hold until the file says
something else in the same place than it said when they were made: the last to speak wins.

{common.EXIT_CODES}"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "plan",
        help="show what another configuration would change",
        description="Show what another configuration would change, in words; nothing is changed.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="at most two: .toml, .json or .yaml")
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Shows the plan; returns the exit code."""
    if len(args.files) > 2:
        raise common.UsageError("at most two files")
    if len(args.files) == 2:
        old, new = (load(file) for file in args.files)
        changes = [(change.kind, str(change)) for change in plan(old, new)]
    else:
        # Read here: its path and its environment mean nothing to the balancer.
        body = {"config": dump(load(args.files[0]), mask=False)} if args.files else None
        found = connect(args).post("plan", body=body)["changes"]
        changes = [(change["kind"], f"{change['where']}: {change['text']}") for change in found]
    for kind, text in changes:
        print(f"{_MARKS.get(kind, ' ')} {text}")
    if not changes:
        print("no difference")
    return common.EXIT_OK


_MARKS = {"added": "+", "removed": "-", "changed": "~", "kept": "=", "dropped": "!"}
