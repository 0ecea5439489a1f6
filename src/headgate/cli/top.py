"""`headgate top`: a running balancer, live, in the terminal.

What is drawn is a pure function of two samples and the size of the window (`frame`); `run` asks, draws and reads keys.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.cli.status import table

_EPILOG = f"""\
keys: q or Ctrl-C ends, up/down (or k/j) scroll, space/b by a page, s sorts (by name, requests a second, requests in
flight, failures), a shows all backends or only those that are not up

{common.EXIT_CODES}"""

_EVERY_S = 1.0
_SORTS = ("name", "rate", "active", "failed")


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "top",
        help="watch a running balancer, live",
        description="Watch a running balancer, live: what each pool and backend carries this second.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    add_admin(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Sample:
    """The status document, and when it was had (monotonic seconds)."""

    at_s: float
    document: dict[str, Any]


@dataclass(frozen=True)
class View:
    """What the keys have chosen."""

    scroll: int = 0
    sort: str = "name"
    only_bad: bool = False


def frame(now: Sample, before: Sample | None, width: int, height: int, view: View) -> list[str]:
    """At most `height` lines of at most `width` characters. Rates are taken over the time between the samples."""
    document = now.document
    rate = _Rates(now, before)
    totals = document["totals"]
    ready = "ready" if document["ready"] else "NOT READY"
    lines = [
        f"headgate {document['version']}  process {document['pid']}  {ready}  "
        f"{len(document['workers'])} workers  {document['configFile']}",
        f"{rate.total('requests')}/s requests  {totals['inFlight']} in flight  {totals['connections']} connections  "
        f"{rate.total('retries')}/s retries  {rate.failures()}/s 5xx",
        "",
    ]
    pools = [("POOL", "STRATEGY", "UP", "REQ/S", "ACTIVE", "P50 ms", "P99 ms")]
    for pool in document["pools"]:
        times = pool["totalTime"] or {}
        pools.append(
            (
                pool["name"],
                pool["strategy"],
                f"{pool['healthy']}/{pool['backends']}",
                rate.pool(pool),
                str(pool["activeConnections"]),
                _ms(times.get("p50Seconds")),
                _ms(times.get("p99Seconds")),
            )
        )
    # A third of the window for pools, where there are many.
    lines += table(pools[: max(2, height // 3)])
    lines.append("")
    rows = _sorted(document["backends"], rate, view)
    cells = [("BACKEND", "STATE", "WEIGHT", "REQ/S", "ACTIVE", "FAILED", "WHY")]
    cells += [
        (
            f"{row['pool']}/{row['name']}",
            row["state"],
            str(row["weight"]),
            rate.backend(row),
            str(row["activeConnections"]),
            str(row["failed"]),
            "; ".join(row["reasons"]),
        )
        for row in rows
    ]
    room = max(0, height - len(lines) - 2)  # less the head of the table and the last line
    first = max(0, min(view.scroll, len(rows) - room))
    drawn = table(cells)
    lines += drawn[:1] + drawn[1 + first : 1 + first + room]
    lines = lines[: height - 1]
    lines += [""] * (height - 1 - len(lines))
    shown = f"{min(first + 1, len(rows))}-{min(first + room, len(rows))} of {len(rows)}"
    lines.append(f"q quit  s sort: {view.sort}  a {'not up' if view.only_bad else 'all'}  {shown}")
    return [_cut(line, width) for line in lines[:height]]


class _Rates:
    """Differences per second; "-" where there is nothing to compare with."""

    def __init__(self, now: Sample, before: Sample | None) -> None:
        self._now = now.document
        self._before = before.document if before is not None else None
        self._seconds = now.at_s - before.at_s if before is not None else 0.0
        if before is not None and before.document["started"] != now.document["started"]:
            self._before = None  # it was started anew: nothing to compare with
        old = self._before or {"backends": [], "pools": []}
        self._backends = {(row["pool"], row["name"]): row["totalRequests"] for row in old["backends"]}
        self._pools = {row["name"]: row["totalRequests"] for row in old["pools"]}

    def _shown(self, now: int, before: int | None) -> str:
        if before is None or self._seconds <= 0:
            return "-"
        return f"{max(0, now - before) / self._seconds:.0f}"

    def total(self, name: str) -> str:
        before = self._before["totals"][name] if self._before is not None else None
        return self._shown(self._now["totals"][name], before)

    def failures(self) -> str:
        before = self._before["totals"]["statuses"]["5xx"] if self._before is not None else None
        return self._shown(self._now["totals"]["statuses"]["5xx"], before)

    def pool(self, row: dict[str, Any]) -> str:
        return self._shown(row["totalRequests"], self._pools.get(row["name"]))

    def backend(self, row: dict[str, Any]) -> str:
        return self._shown(row["totalRequests"], self._backends.get((row["pool"], row["name"])))


def _sorted(rows: list[dict[str, Any]], rate: _Rates, view: View) -> list[dict[str, Any]]:
    rows = [row for row in rows if row["reasons"]] if view.only_bad else list(rows)
    if view.sort == "rate":
        rows.sort(key=lambda row: -float(rate.backend(row).replace("-", "0")))
    elif view.sort == "active":
        rows.sort(key=lambda row: -int(row["activeConnections"]))
    elif view.sort == "failed":
        rows.sort(key=lambda row: -int(row["failed"]))
    return rows


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"


def _cut(line: str, width: int) -> str:
    # A reason may quote what a backend sent: no control character of it may reach the terminal.
    plain = "".join(c if c.isprintable() else "?" for c in line)
    return plain if len(plain) <= width else plain[: max(0, width - 1)] + "…"


def pressed(view: View, keys: str, page: int) -> View | None:
    """The view after these keys; None to end."""
    position = 0
    while position < len(keys):
        key = keys[position]
        if keys.startswith(("\x1b[", "\x1bO"), position):
            key = {"A": "k", "B": "j", "5": "b", "6": " "}.get(keys[position + 2 : position + 3], "")
            position += 2 + (1 if keys[position + 3 : position + 4] == "~" else 0)
        position += 1
        if key in ("q", "Q", "\x03", "\x04"):
            return None
        moved = {"j": 1, "k": -1, " ": page, "b": -page}.get(key)
        if moved is not None:
            view = replace(view, scroll=max(0, view.scroll + moved))
        elif key == "s":
            view = replace(view, sort=_SORTS[(_SORTS.index(view.sort) + 1) % len(_SORTS)], scroll=0)
        elif key == "a":
            view = replace(view, only_bad=not view.only_bad, scroll=0)
    return view


def run(args: argparse.Namespace) -> int:
    """Shows it until q; returns the exit code."""
    import shutil  # it brings three compressors along: not in `headgate run`

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise common.UsageError("this needs a terminal; `headgate status --watch` does not")
    connection = connect(args)
    before: Sample | None = None
    now = Sample(time.monotonic(), connection.get("status"))
    view: View | None = View()
    with _screen() as wake:
        due = time.monotonic() + _EVERY_S
        while view is not None:
            width, height = shutil.get_terminal_size()
            view = replace(view, scroll=min(view.scroll, max(0, len(now.document["backends"]) - 1)))
            _draw(frame(now, before, width, height, view))
            ready, _, _ = select.select([sys.stdin.fileno(), wake], [], [], max(0.0, due - time.monotonic()))
            if wake in ready:
                os.read(wake, 4096)  # the window has another size: draw again
            if sys.stdin.fileno() in ready:
                keys = os.read(sys.stdin.fileno(), 4096)
                view = pressed(view, keys.decode("latin-1"), max(1, height // 2)) if keys else None
            if time.monotonic() >= due:
                before, now = now, Sample(time.monotonic(), connection.get("status"))
                due = time.monotonic() + _EVERY_S
    return common.EXIT_OK


def _draw(lines: list[str]) -> None:
    """Over the old picture, each line's rest cleared: no flicker."""
    sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[int]:
    """A screen of its own, keys without Enter and echo, and a descriptor that is readable once the size changes. All
    is put back however it ends, by SIGTERM and SIGHUP as well."""
    terminal = sys.stdin.fileno()
    saved = termios.tcgetattr(terminal)
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def resized(number: int, stack: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writable, b".")

    def ended(number: int, stack: object) -> None:
        raise SystemExit(128 + number)

    old = {signal.SIGWINCH: signal.signal(signal.SIGWINCH, resized)}
    old |= {number: signal.signal(number, ended) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(terminal)
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
        with contextlib.suppress(KeyboardInterrupt):
            yield readable
    finally:
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stdout.write("\x1b[?25h\x1b[?1049l")
            sys.stdout.flush()
            termios.tcsetattr(terminal, termios.TCSADRAIN, saved)
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)
