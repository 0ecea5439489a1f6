"""A worker process: `python -m headgate.runtime.worker --control FD --segment FD --worker N [--wakes FD,…]
[--decisions FD] [--app-dir DIR]`.

Started by the supervisor, by exec, with the control socket, the shared segment and all workers' eventfds as inherited
descriptors. It runs the engine on its only Python thread and does what the control socket says. It exits with 0 after
a drain or a stop (also when the supervisor is gone: that reads as EOF), and with 3 when it could not start.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from headgate.engine import Engine, Segment
from headgate.engine.clock import clock as engine_clock
from headgate.engine.decisions import Decisions
from headgate.runtime.agent import WorkerAgent
from headgate.runtime.messages import Log
from headgate.runtime.processes import name_process
from headgate.runtime.strategies import StrategyMaker
from headgate.runtime.transport import MessageChannel

EXIT_COULD_NOT_START = 3

# An environment variable: strategies then draw the same numbers in every run, each worker its own.
SEED = "HEADGATE_SEED"

# Four thousand small buffers: less would refuse ordinary traffic on a small machine.
_LEAST_BUFFERS = 64 << 20

# Ctrl-C and a closing terminal reach the whole process group, and log rotation tools are careless with groups too:
# what a worker does is decided by the supervisor alone, over the control socket.
_NOT_OURS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one worker until it is told to end; returns the exit code."""
    for number in _NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    arguments = _parse(argv)
    name_process(f"headgate-w{arguments.worker}")
    _raise_open_files()
    # No PR_SET_PDEATHSIG: when the supervisor dies, what is in flight is finished first (EOF on the control socket).
    channel = MessageChannel(socket.socket(fileno=arguments.control))
    _log_to(channel)
    try:
        segment = Segment.open(arguments.segment, arguments.wakes)
        decisions = Decisions.open(arguments.decisions) if arguments.decisions >= 0 else None
        engine = _start(channel, segment, arguments.worker, arguments.app_dir, decisions)
    except Exception as error:
        channel.send(Log("error", f"worker {arguments.worker} could not start: {type(error).__name__}: {error}"))
        channel.flush()
        return EXIT_COULD_NOT_START
    engine.run_forever()
    if engine.access_log is not None:
        engine.access_log.close()
    channel.flush()
    channel.close()
    return 0


def _start(
    channel: MessageChannel, segment: Segment, worker: int, app_dir: str | None, decisions: Decisions | None
) -> Engine:
    """An engine that does what the channel says, once it runs."""
    engine = Engine(segment, worker)
    engine.buffer_limit = _buffer_limit(segment.used)
    segment.set_worker(worker, "started_ms", time.time_ns() // 1_000_000)
    seed = os.environ.get(SEED, "")
    if seed:
        random.seed(f"{seed} {worker}")  # which level of priority a request goes to is drawn from here
    make_strategy = StrategyMaker(engine_clock(engine), app_dir=app_dir, worker=worker, seed=seed)
    agent = WorkerAgent(
        engine,
        segment,
        worker,
        channel,
        make_strategy=make_strategy,
        on_applied=_tune_gc_once(),
        sources=[make_strategy.random],
        decisions=decisions,
    )
    agent.start()
    return engine


def _buffer_limit(workers: int) -> int:
    """Bytes of buffers for one worker: together they hold a quarter of the memory this process may use at most, so that
    slow peers end in 503 for some instead of in the kernel killing all. The control group's limit counts."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # says "max", or no control group
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(memory // 4 // workers, _LEAST_BUFFERS)


def _tune_gc_once() -> Callable[[], None]:
    """What is there after the first snapshot stays: modules, the schema, pools. Looking through it again and again for
    garbage would stop the traffic for milliseconds each time; and connections, which come and go by the thousand, are
    freed by counting references and need no collector every 700 of them."""
    done = False

    def tune() -> None:
        nonlocal done
        if not done:
            done = True
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 100)

    return tune


class _ChannelHandler(logging.Handler):
    """Sends what this process logs to the supervisor, whose log is the only one.

    At most 20 lines a second: something that goes wrong with every request must not cost more than the requests.
    """

    def __init__(self, channel: MessageChannel, per_second: int = 20) -> None:
        super().__init__()
        self._channel = channel
        self._per_second = per_second
        self._second = 0.0
        self._sent = 0

    def emit(self, record: logging.LogRecord) -> None:
        second = record.created // 1.0
        if second != self._second:
            left_out, self._second, self._sent = max(0, self._sent - self._per_second), second, 0
            if left_out:
                self._channel.send(Log("warning", f"{left_out} more lines of this worker were left out"))
        self._sent += 1
        if self._sent > self._per_second:
            return
        level = "debug" if record.levelno < logging.INFO else record.levelname.lower()
        self._channel.send(Log("error" if level == "critical" else level, self.format(record)))


def _log_to(channel: MessageChannel) -> None:
    logger = logging.getLogger("headgate")
    logger.handlers = [_ChannelHandler(channel)]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="headgate-worker", description="Internal: started by the supervisor.")
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    parser.add_argument("--segment", type=int, required=True, metavar="FD")
    parser.add_argument("--worker", type=int, required=True, metavar="N")
    parser.add_argument("--wakes", type=_descriptors, default=(), metavar="FD,...")
    parser.add_argument("--decisions", type=int, default=-1, metavar="FD")
    parser.add_argument("--app-dir", default=None, metavar="DIR")
    return parser.parse_args(argv)


def _descriptors(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _raise_open_files() -> None:
    """Every connection is a descriptor, and the usual soft limit of 1024 is there for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
