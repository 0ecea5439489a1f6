"""wrk, and what it prints.

wrk is told by a script to print its totals as whole numbers, since what it prints for people is rounded. With a body to
expect it compares every answer's with it, byte for byte: that costs wrk some time, so it is done while a proxy is
warmed up, not while it is measured.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """\
local threads = {}
wrong = 0
function setup(thread) table.insert(threads, thread) end
function done(summary, latency, requests)
  local wrong = 0
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
  local e = summary.errors
  io.write(string.format("\\nTOTAL %d %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.connect + e.read + e.write + e.timeout + e.status, wrong))
end
"""
_CHECKED = """\
local file = assert(io.open("%s", "rb"))
local expected = file:read("*a")
file:close()
function response(status, headers, body)
  if status ~= 200 or body ~= expected then wrong = wrong + 1 end
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    errors: int  # answers other than 2xx and 3xx, wrong bodies, connections that failed

    @property
    def per_second(self) -> float:
        return self.requests / self.duration_s


def parse(text: str) -> Load:
    """Read the line of totals; ValueError when there is none."""
    total = re.search(r"^TOTAL (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", text, re.MULTILINE)
    if total is None:
        raise ValueError(f"wrk printed no total:\n{text}")
    requests, duration_us, p50_us, p99_us, errors, wrong = map(int, total.groups())
    return Load(requests, duration_us / 1e6, p50_us / 1e3, p99_us / 1e3, errors + wrong)


class Wrk:
    """One thread of wrk on one core, sending the same request again and again."""

    def __init__(self, directory: Path, core: int, connections: int, fields: list[str], upload_bytes: int) -> None:
        self._core = core
        self._connections = connections
        self._fields = [word for field in fields for word in ("-H", field)]
        method = f'wrk.method = "POST"\nwrk.body = string.rep("x", {upload_bytes})\n' if upload_bytes else ""
        self._script = directory / "load.lua"
        self._script.write_text(method + _SCRIPT)
        self._directory = directory

    def run(self, url: str, seconds: int, expected: bytes | None = None) -> Load:
        """Load `url`; with `expected` every body is compared. RuntimeError when wrk fails."""
        script = self._script
        if expected is not None:
            body = self._directory / "expected"
            body.write_bytes(expected)
            script = self._directory / "checked.lua"
            script.write_text(self._script.read_text() + _CHECKED % body)
        argv = ["taskset", "-c", str(self._core), "wrk", "-t1", f"-c{self._connections}", f"-d{seconds}s"]
        argv += ["--timeout", "10s", "-s", str(script), *self._fields, url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
        return parse(done.stdout)
