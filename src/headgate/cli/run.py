"""`headgate run`: balance as a configuration file says."""

from __future__ import annotations

import argparse

from headgate.cli import common
from headgate.cli.strategies import try_strategies
from headgate.config.load import load_with_lines

_EPILOG = """\
A configuration to start from (headgate.toml):

  [[listeners]]
  bind = "127.0.0.1:8080"
  status_path = "/lb/status"

  [pools.web]
  backends = ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]

Signals: SIGTERM, SIGQUIT and SIGINT (Ctrl-C) stop accepting, let requests in flight finish, and exit; a second
one ends at once. SIGHUP reads the file again: all it says holds from then on, without a lost request, and a file
with mistakes changes nothing. SIGUSR1 opens the access log's file anew, after it was moved away. SIGUSR2 becomes
the version that is installed now, in the same process. SIGTTIN and SIGTTOU: a worker more, a worker fewer.
Every mistake in the configuration is reported at once, with its line (exit code 2). docs/operations.md has more.
"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "run",
        help="balance as a configuration file says",
        description="Balance as a configuration file says, until stopped.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    common.add_config(parser)
    common.add_app_dir(parser)
    common.add_runtime(parser)
    parser.add_argument("--watch", action="store_true", help="read the configuration again when its file changes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the balancer; returns the exit code."""
    config, line_of = load_with_lines(args.config)
    try_strategies(config, common.app_dir(args), file=args.config, line_of=line_of)
    return common.serve(config, args, args.config, watch=args.watch)
