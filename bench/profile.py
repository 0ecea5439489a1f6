"""Where each microsecond of a request goes: `make bench-profile [ARGS='--case small --seconds 10']` (needs perf).

Headgate's worker is sampled under a case of the benchmark, and every sample is put down to what was running: the system
call that it is in, or the part of Headgate. Shares times the processor time per request measured meanwhile give
microseconds. What interrupts bring (packets of the loopback arrive within the sender's `send`) is put down to the
system call they interrupt.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.e2e.harness.processes import Processes

from . import cpu, load, proxies
from .cases import CASES

# Of the engine's modules: what they do for a request. Others are summed up as "other parts of the engine".
PARTS = {
    "http1": "heads: parsed, checked, written",
    "exchange": "the exchange: route, attempt, deadlines, outcome",
    "downstream": "the client's connection",
    "upstream": "the backend's connection",
    "connection": "reading and writing, both sides",
    "reactor": "events and timers",
    "core": "events and timers",
    "buffers": "buffers",
    "stats": "counters and histograms",
    "histogram": "counters and histograms",
    "accesslog": "the access log",
    "logline": "the access log",
    "hashing": "request ids",
    "request": "the strategy's call",
}
OTHER_PART = "other parts of the engine"
PYTHON = "the strategy's call"
LIBRARY = "C library: copies, clock, wrappers of system calls"
KERNEL = "kernel: entry, exit, scheduling"

# The kernel's function of a system call; of sendmsg, for one, only an inner one is on the stack.
_CALL = re.compile(r"_{2,}(?:x64_|arm64_)?sys_(\w+)$")
_FRAME = re.compile(r"^\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \((.+)\)$")


def samples(text: Iterable[str]) -> Iterator[list[tuple[str, str]]]:
    """The stacks in the output of `perf script -F ip,sym,dso`: (symbol, object) per frame, the innermost first."""
    stack: list[tuple[str, str]] = []
    for line in text:
        frame = _FRAME.match(line.rstrip("\n"))
        if frame is not None:
            stack.append((frame[1], frame[2]))
        elif stack:
            yield stack
            stack = []
    if stack:
        yield stack


def place(stack: list[tuple[str, str]]) -> str:
    """What the sample is put down to."""
    for symbol, _ in stack:
        call = _CALL.match(symbol)
        if call is not None:
            return f"system call: {call[1]}"
    _, where = stack[0]
    if where.startswith("[kernel") or where == "[unknown]":
        return KERNEL
    name = Path(where).name
    module = name.partition(".")[0]
    if "python" in where and "/headgate/" not in where:
        return PYTHON
    if "/headgate/engine/" in where:
        return PARTS.get(module, OTHER_PART)
    return LIBRARY


def table(counted: Counter[str], us_per_request: float) -> str:
    """Markdown: microseconds and share of each place, the dearest first."""
    total = sum(counted.values())
    rows = [
        f"| {what} | {count / total * us_per_request:.2f} | {count / total:.1%} |"
        for what, count in counted.most_common()
    ]
    return "\n".join(["| where | µs per request | share |", "|---|---:|---:|", *rows])


def _worker(root: int) -> int:
    """The process of the tree that has used the most processor time: the only worker."""
    return max(cpu.tree(root), key=lambda pid: cpu.own_seconds(pid))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-profile ARGS=...", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", choices=CASES, default="small")
    parser.add_argument("--seconds", type=int, default=10, help="how long to sample (default: %(default)s)")
    given = parser.parse_args()
    for tool in ("perf", "wrk", "taskset", "nginx"):
        if shutil.which(tool) is None:
            print(f"bench-profile: {tool} is needed, and is not installed", file=sys.stderr)
            return 1
    case = CASES[given.case]
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name, Processes() as processes:
        directory = Path(name)
        backends = proxies.Backends(processes, directory)
        proxy = proxies.STARTERS["headgate"](processes, directory, case, backends.addresses(case.backends))
        wrk = load.Wrk(directory, proxies.LOAD_CORE, case.connections, case.fields, case.upload_bytes)
        url = proxy.url + case.path
        wrk.run(url, 1, backends.bodies[case.path])
        data = directory / "perf.data"
        # cpu-clock: also where a virtual machine has no counters. A prime rate keeps out of step with what is periodic.
        record = ["perf", "record", "--quiet", "-g", "-e", "cpu-clock", "-F", "1999", "-o", str(data)]
        command = [*record, "-p", str(_worker(proxy.pid)), "--", "sleep", str(given.seconds)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as sampler:
            before = cpu.seconds(proxy.pid)
            seen = wrk.run(url, given.seconds)
            spent = cpu.seconds(proxy.pid) - before
            sampler.wait()
        script = ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"]
        done = subprocess.run(script, capture_output=True, text=True, check=True)
        proxy.close()
        backends.close()
    counted = Counter(place(stack) for stack in samples(done.stdout.splitlines()))
    if not counted:
        print("bench-profile: perf saw nothing (is it allowed? kernel.perf_event_paranoid)", file=sys.stderr)
        return 1
    us = spent / seen.requests * 1e6
    print(f"Case {case.name}: {us:.1f} µs of processor time per request, {sum(counted.values()):,} samples.\n")
    print(table(counted, us))
    return 0


if __name__ == "__main__":
    sys.exit(main())
