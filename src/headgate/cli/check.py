"""`headgate check`: would this configuration run, here and now?"""

from __future__ import annotations

import argparse
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from headgate.cli import common
from headgate.cli.strategies import try_strategies
from headgate.config.addresses import Bind
from headgate.config.load import load_with_lines
from headgate.config.schema import Config
from headgate.observe import otlp
from headgate.runtime.holder import Holder, holder_of

# Resolvers give up after 5 s a server by default; a check that a person or a deploy script waits for cannot.
_RESOLVE_S = 5.0
_LOOKUPS_AT_ONCE = 16

_EPILOG = """\
Looks at everything that can be looked at without serving: keys and values, your own strategies (they are
imported), host names (one that does not resolve now is a warning: it may later), pools without backends (a
warning: some may be added while it runs), certificates (each is opened with its key; dates, the order of the
chain, and names that routes have and no certificate has are warnings), whether the access log can be written, and
whether every listener can be bound. An address held by a running headgate is fine: it would be this one's
predecessor.

exit codes: 0 would run, 2 mistakes in the configuration, 3 an address cannot be bound
"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "check",
        help="look a configuration over without running it",
        description="Look a configuration over without running it.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    common.add_config(parser)
    common.add_app_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Checks; returns the exit code."""
    config, line_of = load_with_lines(args.config)
    try_strategies(config, common.app_dir(args), file=args.config, line_of=line_of)
    if (why_not := _unwritable(config)) is not None:
        common.say(f"access_log.path: {config.access_log.path} cannot be written: {why_not}")
        return common.EXIT_CONFIG
    for name, pool in config.pools.items():
        if not pool.backends:
            common.say(f"warning: pools.{name} has no backends: it answers 503 until some are added while running")
    try:
        otlp.check(config.tracing)
    except ValueError as error:
        raise common.UsageError(str(error)) from None
    for finding in certificate_warnings(config):
        common.say(f"warning: {finding}")
    unresolved = _unresolved(_names(config), _RESOLVE_S)
    for name, why in unresolved:
        common.say(f"warning: {name}: {why}; it is looked up again while running")
    cannot = list(_unbindable(config))
    for line in cannot:
        common.say(line)
    if cannot:
        return common.EXIT_START
    print(f"{args.config}: fine ({_summary(config)})")
    return common.EXIT_OK


def certificate_warnings(config: Config) -> Iterator[str]:
    """What will not work for some clients, or not for long. (What cannot work at all was found with the mistakes.)"""
    if not any(listener.tls for listener in config.listeners) and not any(
        backend.url.tls for pool in config.pools.values() for backend in pool.backends
    ):
        return
    from headgate.tls import check

    for finding in check.warnings(config, check.read(config), datetime.now(UTC)):
        yield str(finding)


def _summary(config: Config) -> str:
    certificates = sum(len(listener.tls.certificates) for listener in config.listeners if listener.tls is not None)
    counts = (
        (len(config.listeners), "listener"),
        (len(config.routes), "route"),
        (len(config.pools), "pool"),
        (sum(len(pool.backends) for pool in config.pools.values()), "backend"),
        *(((certificates, "certificate"),) if certificates else ()),
    )
    return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)


def _names(config: Config) -> list[str]:
    """Host names of backends, each once."""
    urls = (backend.url for pool in config.pools.values() for backend in pool.backends)
    return list(dict.fromkeys(url.host for url in urls if url.needs_resolving))


def _unresolved(names: Sequence[str], seconds: float) -> list[tuple[str, str]]:
    """Names that do not resolve within the time, and why. Looked up side by side, since a dead resolver answers
    none."""
    results: dict[str, str | None] = {}
    waiting = iter(names)
    lock = threading.Lock()

    def look_up() -> None:
        while True:
            with lock:
                name = next(waiting, None)
            if name is None:
                return
            try:
                socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
                results[name] = None
            except (OSError, UnicodeError) as error:
                results[name] = f"does not resolve ({getattr(error, 'strerror', None) or error})"

    # Daemon threads: a lookup cannot be broken off, and must not keep the process.
    threads = [threading.Thread(target=look_up, daemon=True) for _ in names[:_LOOKUPS_AT_ONCE]]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"does not resolve within {seconds:g} s"
    found = [(name, results.get(name, late)) for name in names]
    return [(name, why) for name, why in found if why is not None]


def _unwritable(config: Config) -> str | None:
    """Why the access log could not be written, or None; opens nothing, since that would make a file."""
    log = config.access_log
    if log.format == "off" or log.path == "-":
        return None
    path = Path(log.path)
    if path.is_dir():
        return os.strerror(errno.EISDIR)
    if not path.parent.is_dir():
        return f"there is no directory {path.parent}"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return os.strerror(errno.EACCES)
    return None


def _unbindable(config: Config) -> Iterator[str]:
    """Listeners that could not be bound, and why; those held by a running headgate are not among them."""
    from headgate.runtime.sockets import CannotBind, bind_one

    for listener in config.listeners:
        asked = _Asked()
        try:
            bind_one(listener.bind, asked).close()
        except CannotBind as error:
            if asked.holder is None or not asked.holder.is_headgate:
                yield str(error)


class _Asked:
    """Finds out who has an address, for the text of an error, and remembers the answer."""

    holder: Holder | None = None

    def __call__(self, bind: Bind) -> str:
        self.holder = holder_of(bind)
        return "" if self.holder is None else str(self.holder)
