"""Real programs: started, listened to, ended. Whatever a test starts is ended with the test, also when it fails."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from .waiting import PATIENCE_S


class Lines:
    """What a program wrote on one stream, line by line as it comes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def all(self) -> list[str]:
        """Every line so far."""
        with self._changed:
            return list(self._lines)

    @property
    def text(self) -> str:
        return "\n".join(self.all)

    def matching(self, pattern: str) -> list[str]:
        """The lines so far in which `pattern` (a regular expression) is found."""
        return [line for line in self.all if re.search(pattern, line)]

    def wait_for(self, pattern: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[str]:
        """Wait until `count` lines match `pattern`; return them; AssertionError when the stream or the time ends."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = [line for line in self._lines if re.search(pattern, line)]
                if len(found) >= count:
                    return found
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "the program ended" if self._ended else f"{timeout_s:g} s passed"
                    raise AssertionError(
                        f"{why} with {len(found)} of {count} lines like {pattern!r} in:\n" + "\n".join(self._lines)
                    )
                self._changed.wait(left)

    def close(self) -> None:
        self._reader.join(PATIENCE_S)
        self._stream.close()


class Process:
    """One running program in a session of its own, so that its children can be ended with it."""

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = [os.fspath(word) for word in argv]
        self._popen = subprocess.Popen(
            self.argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        self.pid = self._popen.pid
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self.stdout = Lines(self._popen.stdout)
        self.stderr = Lines(self._popen.stderr)

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """Both streams, for messages of failed assertions."""
        return f"$ {' '.join(self.argv)}\n[stdout]\n{self.stdout.text}\n[stderr]\n{self.stderr.text}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself, not to its children."""
        self._popen.send_signal(number)

    def wait_exit(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end and return the exit status (negative: ended by that signal)."""
        try:
            status = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s: {self.output}") from None
        self.close()
        return status

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone, children of its session included."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(PATIENCE_S)

    def close(self) -> None:
        """End everything that is left, and free what the test holds of it. May be called twice."""
        self.kill()
        self.stdout.close()
        self.stderr.close()


class Processes:
    """Everything one test has started; ends it in reverse order."""

    def __init__(self) -> None:
        self._started: list[Process] = []

    def start(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a program that `close` will end."""
        process = Process(argv, cwd=cwd, env=env)
        self._started.append(process)
        return process

    def run(
        self, argv: Sequence[str | os.PathLike[str]], *, timeout_s: float = 60.0, cwd: Path | None = None
    ) -> Process:
        """Run a program to its end, which must be a success."""
        process = self.start(argv, cwd=cwd)
        status = process.wait_exit(timeout_s)
        assert status == 0, f"exit status {status}: {process.output}"
        return process

    def close(self) -> None:
        for process in reversed(self._started):
            process.close()
        self._started.clear()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
