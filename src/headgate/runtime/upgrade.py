"""An upgrade in place: the supervisor execs the new version over itself (same pid), and nobody is refused meanwhile.

First the new version shows that it can: a trial process (this program's own command line, with HEADGATE_TRIAL in the
environment) reads the configuration and what is to be handed over, starts a worker, and exits with 0 once that worker
runs the configuration. Only then comes exec(2). Descriptors survive it: listening sockets, the shared segment, and the
control sockets of the old workers, which are still children of this pid and serve on. What is not a descriptor (check
results, changes made at run time) stands in a memfd, whose number is in HEADGATE_UPGRADE. The new supervisor starts
workers of its own, gives them the same sockets, and when they serve sends the old ones `Drain`. If they do not come up,
the old ones go on serving while it tries again.

Signals are blocked over the exec (the mask survives it), so that one that comes in between waits for its handler.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from asyncio import AbstractEventLoop, create_subprocess_exec, timeout
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable, Iterator, MutableMapping

import msgspec

from headgate.config.addresses import Bind
from headgate.runtime.knowledge import Knowledge
from headgate.runtime.messages import Drain
from headgate.runtime.overrides import Changes
from headgate.runtime.sockets import BoundSocket
from headgate.runtime.transport import MessageChannel

log = logging.getLogger("headgate.supervisor")

STATE = "HEADGATE_UPGRADE"
TRIAL = "HEADGATE_TRIAL"

# Long enough for a large configuration and a slow import on a busy machine.
_TRIAL_S = 60.0
# A worker that was told to end and does not is killed this much after its deadline.
_GRACE_S = 2.0
_SIGNALS = (
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)


class HandedListener(msgspec.Struct, frozen=True):
    """A listening socket. text: its address as configured. bind: as bound. file: of a unix socket, ours to remove.
    shared: the service manager has it, too."""

    text: str
    bind: Bind
    fd: int
    file: tuple[int, int] | None
    shared: bool = False


class HandedWorker(msgspec.Struct, frozen=True):
    """A worker that serves. control: our end of its control socket."""

    number: int
    pid: int
    control: int


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """What one version leaves to the next. New fields need a default: versions differ."""

    version: str
    changes: Changes
    knowledge: Knowledge
    listeners: list[HandedListener]
    workers: list[HandedWorker]
    segment: int
    descriptors: dict[str, int] = {}
    """Others that go along, by name."""

    def all_descriptors(self) -> list[int]:
        """Those that must survive the exec."""
        numbers = [listener.fd for listener in self.listeners]
        numbers += [worker.control for worker in self.workers]
        return [*numbers, self.segment, *self.descriptors.values()]


class CannotUpgrade(Exception):
    """The new version did not show that it can run; the text says what it said."""


def given(environ: MutableMapping[str, str] = os.environ) -> Handover | None:
    """What the version before left to us, if this is an upgrade (or the trial of one). Raises ValueError."""
    number = environ.pop(STATE, "")
    if not number:
        return None
    with open(int(number), "rb") as file:
        file.seek(0)
        data = file.read()
    try:
        return msgspec.msgpack.decode(data, type=Handover)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the running version's state cannot be read by this one: {error}") from error


def unblock_signals() -> None:
    """To be called once there are handlers again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextlib.contextmanager
def _written(handover: Handover) -> Iterator[int]:
    """A memfd with the state in it."""
    fd = os.memfd_create("headgate-upgrade")
    try:
        os.write(fd, msgspec.msgpack.encode(handover))
        yield fd
    finally:
        os.close(fd)


def _command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


async def try_new_version(handover: Handover) -> None:
    """Let the new version show that it can run here. Raises CannotUpgrade."""
    with _written(handover) as fd:
        environment = {**os.environ, TRIAL: "1", STATE: str(fd)}
        try:
            process = await create_subprocess_exec(
                *_command(), stdin=subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment, pass_fds=(fd,)
            )
        except OSError as error:
            raise CannotUpgrade(f"it cannot be started: {error.strerror or error}") from error
    try:
        async with timeout(_TRIAL_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CannotUpgrade(f"its trial took longer than {_TRIAL_S:g} s") from None
    if process.returncode:
        said = output.decode(errors="replace").strip().splitlines()[-10:]
        raise CannotUpgrade("\n".join([f"its trial ended with exit code {process.returncode}", *said]))


def replace(handover: Handover) -> None:
    """Become the new version. Returns only by raising OSError, with everything as it was."""
    descriptors = handover.all_descriptors()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    sys.stdout.flush()
    sys.stderr.flush()
    with _written(handover) as fd:
        try:
            for number in (*descriptors, fd):
                os.set_inheritable(number, True)
            os.execve(sys.executable, _command(), {**os.environ, STATE: str(fd)})
        finally:
            for number in descriptors:
                os.set_inheritable(number, False)
            unblock_signals()


def bound_socket(handed: HandedListener) -> BoundSocket:
    """The listening socket that was handed over."""
    os.set_inheritable(handed.fd, False)
    return BoundSocket(socket.socket(fileno=handed.fd), handed.bind, handed.file, handed.shared)


class OldWorker:
    """A worker of the version before: it serves until it is told to drain. What it says is not listened to.

    gone: called when it has ended.
    """

    def __init__(self, loop: AbstractEventLoop, handed: HandedWorker, gone: Callable[[OldWorker], None]) -> None:
        os.set_inheritable(handed.control, False)
        self.number = handed.number
        self.pid = handed.pid
        self._loop = loop
        self._gone = gone
        self._socket = socket.socket(fileno=handed.control)
        self._channel = MessageChannel(self._socket)
        self._reading = True
        loop.add_reader(handed.control, self._discard)

    @property
    def handed(self) -> HandedWorker:
        """For the next upgrade."""
        return HandedWorker(self.number, self.pid, self._socket.fileno())

    def drain(self, limit_s: float, idle_s: float) -> None:
        """Finish, and end."""
        self._channel.send(Drain(limit_s, idle_s))
        self._channel.flush()
        self._loop.call_later(limit_s + _GRACE_S, self.kill)

    def kill(self) -> None:
        """End it now."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Has it ended?"""
        if not self.pid:
            return
        try:
            pid, _ = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid = self.pid
        if pid:
            self.pid = 0
            self._stop_reading()
            self._socket.close()
            self._gone(self)

    def close(self) -> None:
        """The end of this supervisor."""
        self.kill()
        if self.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0
        self._stop_reading()
        self._socket.close()

    def _discard(self) -> None:
        try:
            while data := self._socket.recv(65536):
                del data
        except BlockingIOError:
            return
        except OSError:
            pass
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())
