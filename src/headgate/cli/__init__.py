"""The command line: one file per subcommand, each with `add` (its flags and help) and `run` (what it does).

Exit codes, the same for all: 0 fine, 1 anything not below, 2 usage or configuration, 3 could not start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from headgate import __version__
from headgate.cli import check, demo, proxy, run, simulate
from headgate.cli.common import EXIT_CONFIG, Formatter, UsageError, say
from headgate.config.problems import ConfigError

_VERSION = f"headgate {__version__} (Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro})"
_DESCRIPTION = "Headgate balances HTTP requests over your servers."
_EPILOG = """\
examples:
  headgate demo
      three small servers and a balancer over them, to play with
  headgate proxy --listen :8080 --to http://127.0.0.1:9001 --to http://127.0.0.1:9002
      balance over two servers, without a configuration file
  headgate check -c headgate.toml && headgate run -c headgate.toml
      look a configuration over, then run it

"headgate COMMAND --help" tells more.

exit codes: 0 fine, 2 wrong usage or configuration, 3 could not start, 1 anything else
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that `argv` (default: the process's own arguments) names; returns the exit code."""
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as done:  # argparse's way to say 0 after --help and --version, 2 after a mistake
        return int(done.code or 0)
    if args.command is None:
        parser.print_help(sys.stderr)
        return EXIT_CONFIG
    try:
        return int(args.run(args))
    except ConfigError as error:
        count = len(error.problems)
        say(str(error))
        if count > 1:
            say(f"{count} mistakes in all.")
        return EXIT_CONFIG
    except UsageError as error:
        say(f"headgate {args.command}: {error}")
        return EXIT_CONFIG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("headgate", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=Formatter)
    parser.add_argument("--version", action="version", version=_VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in (run, proxy, check, demo, simulate):
        command.add(commands)
    return parser
