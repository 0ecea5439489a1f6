"""`headgate status`: a running balancer at a glance."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect

_EVERY_S = 1.0
# Of a pool of a thousand backends, those that are not up are what one wants to see.
_MOST_SHOWN = 50


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "status",
        help="show a running balancer at a glance",
        description="Show a running balancer at a glance: listeners, workers, pools, backends and why they are not up.",
        epilog=common.EXIT_CODES,
        formatter_class=common.Formatter,
    )
    parser.add_argument("--json", action="store_true", help="everything, as JSON (with --watch one line each second)")
    parser.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Shows the status; returns the exit code."""
    connection = connect(args)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            document = connection.get("status")
            if args.json:
                print(json.dumps(document, indent=None if args.watch else 1), flush=True)
            else:
                # Home, the new picture, and what was below the old one away: no flicker.
                home, rest = ("\x1b[H\x1b[2J", "") if args.watch and sys.stdout.isatty() else ("", "")
                print(home + "\n".join(render(document)) + rest, flush=True)
            if not args.watch:
                break
            time.sleep(_EVERY_S)
    return common.EXIT_OK


def render(document: dict[str, Any]) -> list[str]:
    """The document as lines."""
    totals = document["totals"]
    state = "ready" if document["ready"] else "not ready"
    file = f", {document['configFile']}" if document["configFile"] else ""
    lines = [
        f"headgate {document['version']}, process {document['pid']}{file}: {state} (since {document['started']})",
        f"{totals['connections']} connections, {totals['inFlight']} requests in flight, {totals['requests']} so far, "
        f"{totals['retries']} retries",
    ]
    lines += [f"listener {listener['bind']}: {listener['state']}" for listener in document["listeners"]]
    for worker in document["workers"]:
        problem = f"; {worker['problem']}" if worker["problem"] else ""
        lines.append(
            f"worker {worker['worker']}: process {worker['pid']}, {worker['connections']} connections, "
            f"{worker['inFlight']} in flight{problem}"
        )
    for pool in document["pools"]:
        rows = [row for row in document["backends"] if row["pool"] == pool["name"]]
        lines += ["", *_pool(pool, rows)]
    return lines


def _pool(pool: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    changed = f" (changed while running: {', '.join(pool['changed'])})" if pool["changed"] else ""
    lines = [f"pool {pool['name']}: {pool['strategy']}, {pool['healthy']} of {pool['backends']} up{changed}"]
    if pool.get("panic"):
        lines[0] += "; panic: ejected ones are used again"
    # A balancer that has not been upgraded yet does not tell this, nor a backend's part.
    if (stand_in := pool.get("standIn")) is not None:
        lines[0] += f"; {stand_in} serves instead" if stand_in else "; requests are answered 503"
    shown = rows
    if len(rows) > _MOST_SHOWN:
        shown = [row for row in rows if row["reasons"]][:_MOST_SHOWN]
        lines[0] += f"; {len(shown)} shown that are not"
    cells = [("BACKEND", "STATE", "WEIGHT", "ACTIVE", "REQUESTS", "FAILED", "WHY")]
    cells += [
        (
            row["name"],
            row["state"],
            str(row["weight"]) + ("*" if "weight" in row["changed"] else ""),
            str(row["activeConnections"]),
            str(row["totalRequests"]),
            str(row["failed"]),
            "; ".join([*row["reasons"], *_share(row)]),
        )
        for row in shown
    ]
    return [*lines, *(f"  {line}" for line in table(cells))]


def _share(row: dict[str, Any]) -> list[str]:
    """Why it gets less than its weight, if it does."""
    part = row.get("part", 1.0)
    if part >= 1 or not row["healthy"]:
        return []
    why = row["penalty"]["reason"] if row["penalty"] else "it starts slowly"
    return [f"gets {part:.0%} of its weight: {why}, all of it from {row['wholeAt']} on"]


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns side by side; those of numbers to the right, by their head's name being followed by numbers only."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    numeric = [all(cell.rstrip("*").isdigit() for cell in column[1:]) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right and len(rows) > 1 else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]
