"""What a scrape of /metrics costs with a thousand backends, and whether traffic notices. `make bench-scrape`.

    python -m bench.scrape [--backends N] [--scrapes N] [--tree DIRECTORY]

A real `headgate run` with that many backends (they are one server under many loopback addresses) answers eight clients.
Phases with scrapes, two a second, and without take turns, so that whatever else the machine does falls on both.
Printed: how long a scrape took, the supervisor's processor time for it, and the traffic's latency with and without.

--tree: another checkout (built) to run, for numbers before a change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.cpu import _stat

ROOT = Path(__file__).parents[1]
CLIENTS = 8
PAUSE_S = 0.005
PHASES = 6
EVERY_S = 0.5
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASK = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
    except (EOFError, ConnectionError):
        writer.close()


async def _ask(port: int, latencies: list[float], stop: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not stop.is_set():
        began = time.perf_counter()
        writer.write(ASK)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        latencies.append(time.perf_counter() - began)
        assert head.startswith(b"HTTP/1.1 200"), head
        await asyncio.sleep(PAUSE_S)
    writer.close()


async def _scrape(path: str) -> tuple[float, int]:
    began = time.perf_counter()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    said = await reader.read(-1)
    writer.close()
    assert said.startswith(b"HTTP/1.1 200"), said[:200]
    return time.perf_counter() - began, said.count(b"\n")


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _percentile(values: list[float], q: float) -> float:
    return statistics.quantiles(values, n=1000)[round(q * 1000) - 1]


async def measure(backends: int, scrapes: int, tree: Path) -> None:
    """Runs it all and prints."""
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(_serve, "0.0.0.0", 0, backlog=1024)
    origin = server.sockets[0].getsockname()[1]
    free = await asyncio.start_server(_serve, "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    with tempfile.TemporaryDirectory() as directory:
        admin = f"{directory}/admin.sock"
        urls = [f"http://127.0.{1 + number // 250}.{1 + number % 250}:{origin}" for number in range(backends)]
        config = {
            "listeners": [{"bind": f"127.0.0.1:{port}"}],
            "admin": {"bind": f"unix:{admin}"},
            "access_log": {"format": "off"},
            "pools": {"web": {"backends": urls, "health": {"type": "none"}}},
        }
        path = Path(directory) / "headgate.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "headgate", "run", "-c", str(path)]
        environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, cwd=tree, env=environment, stdout=quiet, stderr=quiet)
        try:
            deadline = loop.time() + 60
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    if process.returncode is not None or loop.time() > deadline:
                        raise SystemExit("headgate does not come up") from None
                    await asyncio.sleep(0.1)
            with_scrapes: list[float] = []
            without: list[float] = []
            took: list[float] = []
            lines = 0
            used = 0.0
            for phase in range(2 * PHASES):
                scraping = phase % 2 == 1
                stop = asyncio.Event()
                latencies = with_scrapes if scraping else without
                clients = [asyncio.create_task(_ask(port, latencies, stop)) for _ in range(CLIENTS)]
                cpu = _cpu_s(process.pid)
                if scraping:
                    for _ in range(scrapes // PHASES):
                        seconds, lines = await _scrape(admin)
                        took.append(seconds)
                        await asyncio.sleep(max(0.0, EVERY_S - seconds))
                    used += _cpu_s(process.pid) - cpu
                else:
                    await asyncio.sleep(scrapes // PHASES * EVERY_S)
                stop.set()
                await asyncio.gather(*clients)
        finally:
            process.terminate()
            await process.wait()
            server.close()
    ms = 1000.0
    print(f"{backends} backends, {lines} lines, {len(took)} scrapes")
    print(
        f"a scrape: median {statistics.median(took) * ms:.1f} ms, longest {max(took) * ms:.1f} ms;"
        f" {used / len(took) * ms:.1f} ms of the supervisor's processor time"
    )
    for name, values in (("without scrapes", without), ("with two a second", with_scrapes)):
        shown = ", ".join(f"p{q * 100:g} {_percentile(values, q) * ms:.2f} ms" for q in (0.5, 0.9, 0.99, 0.999))
        print(f"traffic {name}: {len(values)} requests, {shown}")


def main() -> None:
    """Parses the arguments and measures."""
    parser = argparse.ArgumentParser(prog="bench.scrape", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backends", type=int, default=1000)
    parser.add_argument("--scrapes", type=int, default=48)
    parser.add_argument("--tree", type=Path, default=ROOT)
    args = parser.parse_args()
    asyncio.run(measure(args.backends, args.scrapes, args.tree))


if __name__ == "__main__":
    main()
