"""wrk, and what it prints."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    errors: int  # answers other than 2xx and 3xx, and connections that failed

    @property
    def per_second(self) -> float:
        return self.requests / self.duration_s


def _percentile(text: str, percent: int) -> float:
    match = re.search(rf"^\s+{percent}%\s+([0-9.]+)(us|ms|s|m)$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"no {percent}% line in:\n{text}")
    return float(match[1]) * _UNITS_MS[match[2]]


def parse(text: str) -> Load:
    """Read what `wrk --latency` prints; ValueError when it is something else."""
    total = re.search(r"^\s+(\d+) requests in ([0-9.]+)(us|ms|s|m),", text, re.MULTILINE)
    if total is None:
        raise ValueError(f"wrk printed no total:\n{text}")
    errors = sum(int(count) for count in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        errors += int(bad[1])
    duration_s = float(total[2]) * _UNITS_MS[total[3]] / 1e3
    return Load(int(total[1]), duration_s, _percentile(text, 50), _percentile(text, 99), errors)


def run(url: str, *, core: int, connections: int, seconds: int, arguments: list[str], script: Path | None) -> Load:
    """Load `url` from one thread on `core`."""
    argv = [
        "taskset",
        "-c",
        str(core),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "10s",
    ]
    if script is not None:
        argv += ["-s", str(script)]
    done = subprocess.run([*argv, *arguments, url], capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return parse(done.stdout)
