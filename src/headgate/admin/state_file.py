"""Keeps the changes made while running in a file (`admin.state_file`), so that they hold after a restart, too.

The file is written whole beside itself, synced, and renamed: it is the old one or the new one, whenever the power goes.
One that cannot be understood is left as it is, and the balancer does not start: it says what an operator decided, and
nobody may decide otherwise for him.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

import msgspec

from headgate.config.dump import dump
from headgate.config.problems import ConfigError
from headgate.config.schema import Config
from headgate.config.validate import validate
from headgate.runtime.address import describe_os_error
from headgate.runtime.overrides import NONE, Changes, effective

log = logging.getLogger("headgate.admin")

VERSION = 1
_LARGEST = 16 * 2**20


class StateFileError(Exception):
    """The file cannot be used; the text names it and says what to do."""


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    headgate_state: int
    changes: Changes


class _Header(msgspec.Struct, frozen=True):
    headgate_state: int


def load(path: str, file: Config) -> Changes:
    """What the file holds; nothing when there is none yet. Raises StateFileError.

    file: the configuration that the changes are for: together they must make one that could stand in a file.
    """
    changes = _read(path)
    try:
        # A listener that is closed may be the only one, or a route's: it is no mistake then.
        open_again = msgspec.structs.replace(changes, closed=())
        validate(dump(effective(file, open_again).config, mask=False))
    except ConfigError as error:
        fix = "it is left as it is; correct it, or move it away to start without the changes made while running"
        raise StateFileError(f"{path}: what it holds cannot be: {error}; {fix}") from error
    return changes


def _read(path: str) -> Changes:
    try:
        with open(path, "rb") as source:
            data = source.read(_LARGEST + 1)
    except FileNotFoundError:
        return NONE
    except OSError as error:
        raise StateFileError(f"{path}: cannot be read: {describe_os_error(error.errno)}") from error
    try:
        version = msgspec.json.decode(data, type=_Header).headgate_state
        if version == VERSION:
            return msgspec.json.decode(data, type=_Document).changes
    except (ValueError, RecursionError) as error:
        fix = "it is left as it is; restore it, or move it away to start without the changes made while running"
        raise StateFileError(f"{path}: not a state file of headgate ({error}); {fix}") from error
    fix = "run the version that wrote it, or move it away to start without the changes made while running"
    raise StateFileError(f"{path}: written in version {version} of its format, this is version {VERSION}; {fix}")


def store(path: str, changes: Changes) -> None:
    """Write the file. Raises OSError, and then the old one is still there."""
    data = msgspec.json.format(msgspec.json.encode(_Document(headgate_state=VERSION, changes=changes)), indent=1)
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as sink:
            sink.write(data + b"\n")
            sink.flush()
            os.fsync(sink.fileno())
        os.rename(beside, target)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    with contextlib.suppress(OSError):  # the rename itself; not every file system can
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


class StateFile:
    """Writes in a thread, one write at a time, the newest state; a disk that is slow delays nobody but who waits."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._wanted: Changes | None = None
        self._problem = ""
        self._writing = asyncio.Lock()

    def note(self, changes: Changes) -> None:
        """This is what is to be in the file."""
        self._wanted = changes

    async def saved(self) -> str:
        """Wait until the file is as it should be; why it is not, or ""."""
        async with self._writing:
            while self._wanted is not None:
                changes, self._wanted = self._wanted, None
                try:
                    await asyncio.to_thread(store, self.path, changes)
                    self._problem = ""
                except OSError as error:
                    self._problem = f"{self.path}: {describe_os_error(error.errno)}"
                    log.error("the state file cannot be written: %s", self._problem)
                    if self._wanted is None:
                        self._wanted = changes  # the next who waits tries again
                    break
        return self._problem
