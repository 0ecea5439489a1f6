"""The command line: one file per subcommand, each with `add` (its flags and help) and `run` (what it does).

Exit codes are the same for all; they stand in `common.py`, with the texts about them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from headgate import __version__
from headgate.cli import (
    add,
    cert,
    check,
    decisions,
    demo,
    disable,
    drain,
    enable,
    events,
    explain,
    log_level,
    plan,
    proxy,
    reload,
    remove,
    run,
    simulate,
    status,
    strategy,
    top,
    weight,
)
from headgate.cli.common import EXIT_CODES, EXIT_CONFIG, EXIT_ERROR, CommandError, Formatter, UsageError, say
from headgate.config.problems import ConfigError

_VERSION = f"headgate {__version__} (Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro})"
_DESCRIPTION = "Headgate balances HTTP requests over your servers."
_EPILOG = f"""\
to run one: run, proxy, check, cert, demo, simulate
to look at a running one: status, top, events, explain, decisions, plan
to change it: reload, drain, enable, disable, weight, add, remove, strategy, log-level

examples:
  headgate demo
      three small servers and a balancer over them, to play with
  headgate proxy --listen :8080 --to http://127.0.0.1:9001 --to http://127.0.0.1:9002
      balance over two servers, without a configuration file
  headgate check -c headgate.toml && headgate run -c headgate.toml
      look a configuration over, then run it

  headgate drain web-1 --wait 30s && ssh web-1 deploy && headgate enable web-1
      give a running balancer's backend a rest

"headgate COMMAND --help" tells more.

{EXIT_CODES}"""


COMMANDS = (
    *(run, proxy, check, cert, demo, simulate),
    *(status, top, events, explain, decisions, plan),
    *(reload, drain, enable, disable, weight, add, remove, strategy, log_level),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that `argv` (default: the process's own arguments) names; returns the exit code."""
    parser = make_parser()
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
    except CommandError as error:
        say(f"headgate {args.command}: {error}")
        return error.code
    except BrokenPipeError:  # `headgate events | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; docs/cli.md is made of it (`reference.py`)."""
    parser = argparse.ArgumentParser("headgate", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=Formatter)
    parser.add_argument("--version", action="version", version=_VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add(commands)
    return parser
