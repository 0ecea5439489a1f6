"""Prints docs/cli.md from the command line itself: `python -m headgate.cli.reference > docs/cli.md`.

Written from the parsers' own lists rather than their `--help`, whose layout differs between versions of Python; a test
holds the page to them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from headgate.cli import make_parser

_INTRODUCTION = """\
# The command line

<!-- Made by `python -m headgate.cli.reference` from src/headgate/cli. Change it there. -->

Commands that look at a running balancer, or change it, ask its [admin API](admin-api.md). Which balancer: `--admin`,
else `$HEADGATE_ADMIN`, else the one that runs here as this user. An address on TCP asks for a token:
`$HEADGATE_TOKEN`, `--token-file` or `--token`. To another machine:
`ssh -L 9900:/run/headgate/admin.sock HOST`, and `--admin 127.0.0.1:9900`.
"""


def render() -> str:
    """The whole page."""
    parser = make_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parts = [_INTRODUCTION, _text(parser.epilog or "")]
    for name, command in commands.choices.items():
        parts.append(f"## `headgate {name}`\n\n{command.description}\n")
        parts.append("```\n" + _usage(name, command) + "\n```\n")
        rows = list(_rows(command))
        if rows:
            parts.append("\n".join(["| | |", "|---|---|", *rows]) + "\n")
        if command.epilog:
            parts.append(_text(command.epilog))
    return "\n".join(parts).rstrip("\n") + "\n"


def _text(epilog: str) -> str:
    return "```\n" + epilog.strip("\n") + "\n```\n"


def _usage(name: str, command: argparse.ArgumentParser) -> str:
    words = ["headgate", name]
    for action in command._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        shown = _shown(action)
        words.append(shown if action.required and action.nargs not in ("*", "?") else f"[{shown}]")
    return " ".join(words)


def _shown(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f"{value} ..." if action.nargs in ("*", "+") else value
    flag = (
        action.option_strings[-1]
        if not isinstance(action, argparse.BooleanOptionalAction)
        else "--[no-]" + (action.option_strings[0].removeprefix("--"))
    )
    return f"{flag} {value}" if value else flag


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()


def _rows(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = _value(action)
        names = ", ".join(action.option_strings) if action.option_strings else value
        shown = f"{names} {value}" if action.option_strings and value else names
        text = (action.help or "").replace("%%", "%").replace("|", "\\|")
        yield f"| `{shown}` | {text} |"


if __name__ == "__main__":
    sys.stdout.write(render())
