"""The certificates in use: their files, as they were read; whether a file has changed; and when they end.

Workers have what they were sent and look at no file. What is broken is never sent: a pair that cannot be loaded stays
as it was, whatever its files say now.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from headgate.config.problems import Key
from headgate.config.schema import Config
from headgate.config.tls import ListenerTls, PoolTls
from headgate.runtime.watch import FileWatch
from headgate.tls import built, check, files
from headgate.tls.expiry import Reminder
from headgate.tls.files import TlsFiles
from headgate.tls.inventory import Used, dated, differences, used

log = logging.getLogger("headgate.control")

# What has changed counts once it was the same at two looks, so it is in force within a second.
_LOOK_S = 0.5
# Dates are days; reminders come once a day.
_REMIND_S = 60.0


class Certificates:
    """Of one controller.

    changed: called when watched files have changed and are good, with all files, to be put in force with `use`. note:
    something for the events (what, reason), said in the log already. wall: seconds since 1970.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        *,
        wall: Callable[[], float],
        changed: Callable[[TlsFiles], None],
        note: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._wall = wall
        self._changed = changed
        self._note = note
        self._config = Config()
        self._built = built.Built()
        self._reminder = Reminder()
        self._watched: dict[str, FileWatch] = {}
        self._missed = False
        self._unverified: set[str] = set()
        self._timer: TimerHandle | None = None
        self._remind_at = 0.0
        self.files = files.NONE
        """What is in force."""
        self.used: list[Used] = []
        """Which certificates that are."""

    def read(self, config: Config, *, anew: bool) -> TlsFiles:
        """The files of a configuration, looked over; anew: those too that are in force. Raises check.Problems."""
        if anew:
            return check.read(config)
        if {table for _, table in _tables(config)} <= {table for _, table in _tables(self._config)}:
            return self.files  # a change of weights, thousands of times a day, has nothing to do with them
        return check.read(config, self.files)

    def build(self, config: Config, content: TlsFiles) -> built.Built:
        """The contexts for checks of backends. Raises ValueError."""
        return built.Built(config, content, self._built, listeners=False)

    def use(self, config: Config, content: TlsFiles, made: built.Built) -> None:
        """They are in force now."""
        same = content is self.files and _tables(config) == _tables(self._config)
        self._built = made
        self._config = config
        self._warn_of_unverified(config)
        if same:
            return
        self.files = content
        self.used = used(config, content)
        watched = _watched(config)
        # What changed between the reading and now would be missed.
        self._missed = bool(set(watched) - self._watched.keys())
        self._watched = {path: self._watched.get(path) or FileWatch(path) for path in watched}
        self.close()
        if self.used or self._watched:
            self._remind()
            self._arm()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_S if self._watched else _REMIND_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._arm()
        if self._loop.time() >= self._remind_at:
            self._remind()
        missed, self._missed = self._missed, False
        if [path for path, watch in self._watched.items() if watch.changed()] or missed:
            self.look_again()

    def _remind(self) -> None:
        self._remind_at = self._loop.time() + _REMIND_S
        now = datetime.fromtimestamp(self._wall(), UTC)
        for text in self._reminder.due(dated(self._config, self.files), now):
            log.warning("%s", text)
            self._note("certificate expires", text)

    def _warn_of_unverified(self, config: Config) -> None:
        """Once for each pool, and again when it was verified in between."""
        unverified = {name for name, pool in config.pools.items() if built.uses_tls(pool) and not pool.tls.verify}
        for name in sorted(unverified - self._unverified):
            log.warning("%s", check.unverified(name))
        self._unverified = unverified

    def look_again(self) -> None:
        """Read the watched files: what is good comes into force, what is not stays as it was, each pair by itself."""
        content = dict(self.files.content)
        refused: list[str] = []
        for path in self._watched:
            try:
                content[path] = files.read_one(path)
            except OSError as error:
                refused.append(f"{path} cannot be read: {error.strerror or error}")
        while True:
            # Each round takes at least one changed file back, so it ends.
            findings = check.examine(self._config, TlsFiles(content))
            if not findings:
                break
            refused += map(str, findings)
            bad = {path for finding in findings for path in _beside(self._config, finding.key)}
            for path in [path for path in bad if content.get(path) != self.files.content.get(path)] or list(content):
                content[path] = self.files.content[path]
            if content == self.files.content:
                break
        for text in refused:
            log.error("certificates: the changed files are refused, the old ones stay: %s", text)
            self._note("certificate refused", text)
        new = TlsFiles(content)
        for path, text in differences(self.files, new):
            log.info("certificates: %s %s", path, text)
            self._note("certificate changed", f"{path} {text}")
        if new != self.files:
            self._changed(new)


def _tables(config: Config) -> list[tuple[str, ListenerTls | PoolTls | None]]:
    """What says which files there are and how they are used, with the names it is shown under."""
    return [
        *((listener.bind.text, listener.tls) for listener in config.listeners),
        *((name, pool.tls) for name, pool in config.pools.items()),
    ]


def _watched(config: Config) -> list[str]:
    numbers = [number for number, listener in enumerate(config.listeners) if listener.tls and listener.tls.watch]
    return [path for key, path in dict.fromkeys(files.named(config)) if key[0] == "listeners" and key[1] in numbers]


def _beside(config: Config, key: Key) -> Iterable[str]:
    """The files that a finding at this key is about: those that must agree with each other."""
    for at, path in files.named(config):
        if at == key or (at[: len(key)] == key) or (len(key) == 6 and at[:5] == key[:5]):
            yield path
