"""Does the order of the strategies that the simulation finds hold for real processes? `python -m bench.order`

Eight backends of which one is slow and one stalls (bench.order_backends), and in front of them, in turns, Headgate with
four strategies, nginx with least_conn and HAProxy with leastconn. All get the same requests at the same times: arrivals
do not wait for answers, and a latency counts from when the request was due, not from when it could be sent.

The figures are times that the backends sleep, so a busy machine disturbs them less than a benchmark of processor time;
`late` shows how late requests were sent, and a turn that the machine spoilt is repeated. Loopback only. A turn takes
half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.e2e.harness.processes import Processes

from headgate.simulate import ServiceName, Workload, poisson
from headgate.simulate.measure import quantile

from .cases import Case
from .order_scenario import CAPACITY, MEASURED_S, SERVERS, SERVICE_S, WARM_UP_S
from .proxies import STARTERS, versions

# (title, proxy, strategy)
SUBJECTS = (
    ("headgate least_time", "headgate", "least_time"),
    ("headgate peak_ewma", "headgate", "peak_ewma"),
    ("headgate least_connections", "headgate", "least_connections"),
    ("headgate p2c", "headgate", "p2c"),
    ("nginx least_conn", "nginx", "least_connections"),
    ("haproxy leastconn", "haproxy", "least_connections"),
)
# A turn in which 1 % of the requests were sent later than this says more about the machine than about the proxy: it is
# repeated, up to so many times, and the least late one counts. The criterion is the load generator's own lateness,
# never a result.
LATE_S = 0.05
TRIES = 4
_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "docs" / "simulation.md"
# What stands between these is replaced by --docs.
_BEGIN, _END = "<!-- bench.order -->\n", "<!-- /bench.order -->\n"


class _Client(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self, idle: deque[_Client]) -> None:
        self._idle = idle
        self._answer: asyncio.Future[None] | None = None
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("closed without an answer"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\nok\n") and self._answer is not None:
            self._answer.set_result(None)

    async def ask(self, work: float) -> None:
        assert self._transport is not None
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(b"GET /?work=%.9f HTTP/1.1\r\nHost: example.org\r\n\r\n" % work)
        await self._answer
        self._idle.append(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True, slots=True)
class Turn:
    """One proxy under one workload. Seconds."""

    requests: int
    failed: int
    p50_s: float
    p99_s: float
    p999_s: float
    late_s: float
    """By how much requests were sent late, 99th percentile: the machine's doing."""


async def load(port: int, workload: Workload) -> Turn:
    """Sends the workload; the part before `WARM_UP_S` is not measured."""
    loop = asyncio.get_running_loop()
    idle: deque[_Client] = deque()
    made: list[_Client] = []
    latencies: list[float] = []
    late: list[float] = []
    failed = 0

    async def one(due: float, arrival: float, work: float) -> None:
        nonlocal failed
        try:
            if idle:
                client = idle.pop()
            else:
                _, client = await loop.create_connection(lambda: _Client(idle), "127.0.0.1", port)
                made.append(client)
            await asyncio.wait_for(client.ask(work), 60)
        except (OSError, TimeoutError):
            failed += 1
            return
        if arrival >= WARM_UP_S:
            latencies.append(loop.time() - due)

    zero = loop.time() + 0.2
    tasks: set[asyncio.Task[None]] = set()
    for arrival, work, _ in workload:
        due = zero + arrival
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        late.append(max(0.0, loop.time() - due))
        task = loop.create_task(one(due, arrival, work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks)
    for client in made:
        client.close()
    latencies.sort()
    p50, p99, p999 = (quantile(latencies, q) for q in (0.5, 0.99, 0.999))
    return Turn(len(latencies), failed, p50, p99, p999, quantile(sorted(late), 0.99))


def turn(subject: tuple[str, str, str], workload: Workload) -> Turn:
    """Starts backends and a proxy, and loads them."""
    _, proxy, strategy = subject
    with Processes() as processes, tempfile.TemporaryDirectory() as directory:
        backends = processes.start([sys.executable, "-m", "bench.order_backends"], cwd=_ROOT)
        (line,) = backends.stdout.wait_for("^ports ")
        addresses = [f"127.0.0.1:{port}" for port in line.split()[1:]]
        case = Case("order", "", backends=len(SERVERS), strategy=strategy)
        started = STARTERS[proxy](processes, Path(directory), case, addresses)
        try:
            return asyncio.run(load(int(started.url.rpartition(":")[2].strip("/")), workload))
        finally:
            started.close()


def table(found: dict[str, list[Turn]]) -> str:
    """Medians over the rounds, as Markdown, with the p99 of each round."""
    lines = ["| | p50 | p99 | p99 by round | p99.9 | failed | late (p99) |", "|---|---:|---:|---|---:|---:|---:|"]

    def ms(values: list[float]) -> str:
        return f"{median(values) * 1e3:.0f} ms"

    for title, turns in found.items():
        by_round = ", ".join(f"{one.p99_s * 1e3:.0f}" for one in turns)
        lines.append(
            f"| {title} | {ms([one.p50_s for one in turns])} | {ms([one.p99_s for one in turns])} | {by_round} | "
            f"{ms([one.p999_s for one in turns])} | {sum(one.failed for one in turns)} | "
            f"{ms([one.late_s for one in turns])} |"
        )
    return "\n".join(lines)


def publish(page: str, text: str) -> str:
    """The page with `text` in the place for it. Raises ValueError where there is none."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page has no {_BEGIN.strip()} and {_END.strip()}")
    return f"{before}{begin}{text}\n{end}{after}"


def conditions(there: dict[str, str], rounds: int, repeated: int) -> str:
    """What the figures were measured with."""
    machine = f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"
    software = ", ".join(f"{name} {version}" for name, version in there.items() if not name.startswith("floor"))
    return (
        f"Medians of {rounds} rounds of turns of {WARM_UP_S + MEASURED_S:g} s; "
        f"{repeated} turns were late and repeated.\n{machine}, Python {platform.python_version()}, {software}."
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("bench.order", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", type=float, default=0.75, help="of the capacity of the backends (default: 0.75)")
    parser.add_argument("--service", choices=("constant", "exponential", "lognormal"), default="exponential")
    parser.add_argument("--json", metavar="FILE", help="write every turn there")
    parser.add_argument("--docs", action="store_true", help=f"put the table into {PAGE.relative_to(_ROOT)}")
    args = parser.parse_args(argv)
    if args.docs:
        publish(PAGE.read_text(), "")  # told now, not after the work, when there is no place for it
    repeated = 0
    there = versions()
    subjects = [subject for subject in SUBJECTS if subject[1] in there]
    found: dict[str, list[Turn]] = {subject[0]: [] for subject in subjects}
    service: ServiceName = args.service
    for number in range(args.rounds):
        seconds = WARM_UP_S + MEASURED_S
        workload = poisson(CAPACITY * args.load, seconds, service, SERVICE_S, seed=number + 1, who=1)
        # The order moves on, so that nobody is always the first.
        first = number % len(subjects)
        for subject in subjects[first:] + subjects[:first]:
            tried: list[Turn] = []
            while not tried or (tried[-1].late_s > LATE_S and len(tried) < TRIES):
                tried.append(turn(subject, workload))
                print(f"round {number + 1}: {subject[0]}: {tried[-1]}", file=sys.stderr, flush=True)
            repeated += len(tried) - 1
            found[subject[0]].append(min(tried, key=lambda one: one.late_s))
    text = table({title: turns for title, turns in found.items() if turns})
    text += f"\n\n{conditions(there, args.rounds, repeated)}"
    print(text)
    if args.docs:
        PAGE.write_text(publish(PAGE.read_text(), text))
    if args.json:
        text = json.dumps({title: [str(one) for one in turns] for title, turns in found.items()}, indent=1)
        Path(args.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
