"""CPU per request of Headgate, nginx, HAProxy and Caddy, side by side: `python -m bench.run [--quick] [--case NAME]...`

Every proxy has one worker, alone on core 0; wrk and the backends share core 1. In each round every proxy has its turn,
in an order that moves on from round to round, and ratios are taken within a round: what disturbs the machine for a
while disturbs all of them. What is compared is processor time (user and system, of the whole process tree), because
that is what a proxy costs; requests per second depend as much on wrk and the backends.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.e2e.harness.processes import Processes

from . import chart, cpu, goals, load, proxies, report
from .cases import CASES, Case
from .generators import GENERATORS, Generator, needs_new_connections
from .measurement import Measurement

RESULTS = Path(__file__).parent / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="measure only this case (may be repeated)")
    parser.add_argument("--proxy", action="append", choices=proxies.STARTERS, help="only this proxy (may be repeated)")
    parser.add_argument("--load", choices=GENERATORS, default="wrk", help="who asks (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="length of a turn (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s: a first impression, not a result")
    parser.add_argument("--list", action="store_true", help="show the cases and end")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for table, chart and JSON")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 3, 1
    return given


def measure(
    case: str,
    proxy: proxies.Proxy,
    path: str,
    number: int,
    seconds: int,
    wrk: load.Wrk,
    generator: Generator,
    expected: bytes,
) -> Measurement:
    """One turn of one proxy: processor time before and after a load, divided by the requests answered."""
    url = proxy.url + path
    # Connections to the backends are there, caches are warm, and every body was looked at.
    warm = wrk.run(url, 1, expected)
    before = cpu.seconds(proxy.pid)
    seen = generator.run(url, seconds)
    spent = cpu.seconds(proxy.pid) - before
    seen = replace(seen, errors=seen.errors + warm.errors)
    return Measurement(case, proxy.name, number, spent / max(1, seen.requests) * 1e6, seen)


def _start(
    case: Case, names: Sequence[str], processes: Processes, directory: Path, backends: proxies.Backends
) -> list[proxies.Proxy]:
    """Everything that is compared in `case`, running."""
    addresses = backends.addresses(case.backends)
    running = [
        proxies.STARTERS[one](processes, directory, case, addresses) for one in names if proxies.takes_part(one, case)
    ]
    if "headgate" in names:
        for name in case.variants:
            own = directory / name
            own.mkdir()
            variant = case.variant(name)
            proxy = proxies.STARTERS["headgate"](processes, own, variant, backends.addresses(variant.backends))
            proxy.name = name
            running.append(proxy)
    return running


def run_case(case: Case, names: Sequence[str], asks: str, rounds: int, seconds: int) -> list[Measurement]:
    """All rounds of one case."""
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name, Processes() as processes:
        directory = Path(name)
        backends = proxies.Backends(processes, directory)
        running = _start(case, names, processes, directory, backends)
        given = (directory, proxies.LOAD_CORE, case.connections, case.fields, case.upload_bytes)
        wrk, generator = load.Wrk(*given), GENERATORS[asks](*given)
        expected = backends.bodies[case.path]
        for number in range(rounds if running else 0):
            first = number % len(running)
            for proxy in running[first:] + running[:first]:
                one = measure(case.name, proxy, case.path, number, seconds, wrk, generator, expected)
                measured.append(one)
                progress = f"{case.name:8} round {number + 1}/{rounds}  {proxy.name:11} {one.cpu_us:8.2f} µs/request"
                print(f"{progress}  {one.load.per_second:9,.0f}/s  {one.load.errors} errors", file=sys.stderr)
        for proxy in running:
            proxy.close()
        backends.close()
    return measured


def machine() -> dict[str, str]:
    """Where this was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def main() -> int:
    given = arguments()
    if given.list:
        for case in CASES.values():
            print(f"{case.name:8} {case.about}")
        return 0
    if len(os.sched_getaffinity(0)) < 2:
        print("bench: two cores are needed, one for the proxy and one for the load", file=sys.stderr)
        return 1
    for tool in dict.fromkeys(("wrk", given.load, "taskset", "nginx")):
        if shutil.which(tool) is None:
            print(f"bench: {tool} is needed (the backends are an nginx), and is not installed", file=sys.stderr)
            return 1
    versions = proxies.versions()
    names = [name for name in proxies.STARTERS if name in versions and (not given.proxy or name in given.proxy)]
    cases = [CASES[name] for name in given.case or CASES]
    measured: list[Measurement] = []
    verdicts: list[goals.Verdict] = []
    for case in cases:
        if given.load == "h2load" and needs_new_connections(case):
            print(f"bench: {case.name} is left out: h2load opens no connection again", file=sys.stderr)
            continue
        measured += run_case(case, names, given.load, given.rounds, given.seconds)
        verdicts += goals.judge(measured, case.name, case.goals)

    where = machine()
    lines = [
        f"{where['processor']}, {where['cores']} cores, Linux {where['kernel']}, Python {where['python']};",
        ", ".join(f"{name} {versions[name]}" for name in names) + ".",
        f"{given.rounds} rounds of {given.seconds} s by {given.load};"
        " medians, ratios within a round (95 % bootstrap interval).",
        "",
        "CPU µs per request:",
        "",
        report.summary(measured),
        "",
        goals.table(verdicts),
        "",
        "All of it:",
        "",
        report.table(measured),
    ]
    text = "\n".join(lines) + "\n"
    print("\n" + text)
    given.out.mkdir(parents=True, exist_ok=True)
    stem = given.out / "cpu"
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".svg").write_text(chart.svg(measured))
    stem.with_suffix(".json").write_text(
        json.dumps(
            {"machine": where, "versions": versions, "measurements": [one.as_dict() for one in measured]}, indent=1
        )
    )
    print(f"Stored as {stem}.md, .svg and .json.")
    return 1 if any(one.load.errors for one in measured) else 0


if __name__ == "__main__":
    sys.exit(main())
