"""Other load generators than wrk: does a result depend on who asks? `make bench ARGS='--load h2load'`, `--load hey`.

Each sends what wrk sends: the same request, on as many connections, from the same core, and says the same of it. Bodies
are compared by wrk alone, before each turn; a wrong status or a failed connection counts as an error with all of them.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .cases import Case
from .load import Load, Wrk

_CLOSE = "Connection: close"


class Generator(Protocol):
    """Something that asks."""

    def run(self, url: str, seconds: int) -> Load:
        """Load `url` for so long. RuntimeError when it fails."""
        ...


Make = Callable[[Path, int, int, list[str], int], Generator]
"""Makes a generator of: a folder of its own, the core it runs on, connections, request fields, bytes of each upload."""


def _ran(argv: list[str], seconds: int) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _quantile(ordered: list[int], part: float) -> int:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def needs_new_connections(case: Case) -> bool:
    """Does it lose connections? By its nature, or since the backends answer an upload without reading it, at which
    nginx resets its client."""
    return _CLOSE in case.fields or case.upload_bytes > 0


class H2load:
    """nghttp2's h2load, speaking HTTP/1.1. It waits for ever for a connection that was closed, so only cases that keep
    theirs (`needs_new_connections`) are for it. Times come from its log, which has one line for each request."""

    def __init__(self, directory: Path, core: int, connections: int, fields: list[str], upload_bytes: int) -> None:
        if upload_bytes:
            raise ValueError("h2load is not used for uploads")
        self._log = directory / "h2load.log"
        self._argv = ["taskset", "-c", str(core), "h2load", "--h1", "-t1", f"-c{connections}"]
        self._argv += [word for field in fields for word in ("-H", field)]
        self._argv += [f"--log-file={self._log}"]

    def run(self, url: str, seconds: int) -> Load:
        self._log.unlink(missing_ok=True)
        _ran([*self._argv, f"-D{seconds}", url], seconds)
        return read_h2load(self._log.read_text(), seconds)


def read_h2load(log: str, seconds: float) -> Load:
    """From its log: begin in µs, status, µs until the end of the answer. ValueError when nothing was answered."""
    rows = [line.split("\t") for line in log.splitlines()]
    took = sorted(int(row[2]) for row in rows if 200 <= int(row[1]) < 400)
    if not took:
        raise ValueError("h2load had no answer")
    return Load(len(took), seconds, _quantile(took, 0.5) / 1e3, _quantile(took, 0.99) / 1e3, len(rows) - len(took))


class Hey:
    """hey, which is written in Go: another HTTP implementation, and the dearest of the three."""

    def __init__(self, directory: Path, core: int, connections: int, fields: list[str], upload_bytes: int) -> None:
        self._argv = ["taskset", "-c", str(core), "hey", "-cpus", "1", "-c", str(connections), "-t", "10"]
        if _CLOSE in fields:
            self._argv.append("-disable-keepalive")
        self._argv += [word for field in fields if field != _CLOSE for word in ("-H", field)]
        if upload_bytes:
            body = directory / "upload"
            body.write_bytes(b"x" * upload_bytes)
            self._argv += ["-m", "POST", "-D", str(body)]

    def run(self, url: str, seconds: int) -> Load:
        return read_hey(_ran([*self._argv, "-z", f"{seconds}s", url], seconds))


def read_hey(text: str) -> Load:
    """From its summary. ValueError when nothing was answered."""
    total = re.search(r"Total:\s+([\d.]+) secs", text)
    median = re.search(r"50% in ([\d.]+) secs", text)
    late = re.search(r"99% in ([\d.]+) secs", text) or re.search(r"Slowest:\s+([\d.]+) secs", text)
    if total is None or median is None or late is None:
        raise ValueError(f"hey had no answer:\n{text}")
    answers = {int(status): int(count) for status, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", text)}
    good = sum(count for status, count in answers.items() if 200 <= status < 400)
    _, _, failed = text.partition("Error distribution:")
    errors = sum(int(count) for count in re.findall(r"^\s+\[(\d+)\]", failed, re.MULTILINE))
    errors += sum(answers.values()) - good
    return Load(good, float(total[1]), float(median[1]) * 1e3, float(late[1]) * 1e3, errors)


GENERATORS: dict[str, Make] = {"wrk": Wrk, "h2load": H2load, "hey": Hey}
