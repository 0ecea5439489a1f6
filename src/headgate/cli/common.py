"""What the subcommands share: exit codes, flags that several of them have, and how they speak."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Literal, TypeAlias, cast

from headgate.config.schema import Config
from headgate.config.values import WorkerCount, Wrong
from headgate.observe.logging import LEVELS, configure

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_CONFIG = 2
EXIT_START = 3


class UsageError(Exception):
    """A command line that cannot work; the text says why."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of examples, and leaves room for the longer flags."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(100, max(60, _columns() - 2)))


def _columns() -> int:
    try:
        return int(os.environ.get("COLUMNS", "")) or os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return 100


def say(text: str) -> None:
    """Prints for the person at the terminal; to standard error, since standard output may be the access log."""
    print(text, file=sys.stderr, flush=True)


def worker_count(text: str) -> int | Literal["auto"]:
    """An argparse type: a number of workers, or "auto"."""
    try:
        number: object = int(text)
    except ValueError:
        number = text
    try:
        return cast(int | Literal["auto"], WorkerCount()(number))
    except Wrong as wrong:
        raise argparse.ArgumentTypeError(wrong.message) from None


def add_config(parser: argparse.ArgumentParser) -> None:
    """-c FILE."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", required=True, help="the configuration: .toml, .json or .yaml"
    )


def add_app_dir(parser: argparse._ActionsContainer) -> None:
    """--app-dir DIR."""
    parser.add_argument(
        "--app-dir",
        metavar="DIR",
        help='where Python finds your own strategies ("package.module:Class"); default: the working directory',
    )


def add_runtime(parser: argparse._ActionsContainer) -> None:
    """--workers and --log-level."""
    parser.add_argument(
        "--workers", metavar="N", type=worker_count, help='processes that carry traffic, or "auto" for one per core'
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="how much the balancer says of itself (default: info)"
    )


def app_dir(args: argparse.Namespace) -> str:
    """The directory of `--app-dir`, absolute; raises `UsageError` when it is none."""
    path = os.path.abspath(args.app_dir or ".")
    if not os.path.isdir(path):
        raise UsageError(f"--app-dir: {path} is not a directory")
    return path


def serve(
    config: Config,
    args: argparse.Namespace,
    config_path: str | None,
    on_ready: Callable[[], None] | None = None,
    *,
    watch: bool = False,
) -> int:
    """Runs the balancer until it is stopped; returns the exit code."""
    # Imported here: --help, --version and a configuration with mistakes need no engine.
    from headgate.runtime.supervisor import serve as serve_config

    directory = app_dir(args)
    configure(level=LEVELS[args.log_level])
    return serve_config(
        config, app_dir=directory, config_path=config_path, workers=args.workers, watch=watch, on_ready=on_ready
    )
