"""A worker for tests of the supervisor: speaks the control protocol and answers every connection with its pid.

What goes wrong is said by the environment variable FAKE_WORKER: "crash" (dies before it applied anything), "refuse"
(exit code 3 and a reason), "reject" (says Rejected), "slow" (keeps its connections until the drain deadline), "log"
(says when it has applied a snapshot), "cannot" (the same, and cannot become another one), "hang" (worker 1 gives no
sign of life).
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import sys
import time

from headgate.engine.stats import Segment
from headgate.runtime.messages import (
    Applied,
    Apply,
    Drain,
    Drained,
    Hello,
    Leave,
    Listen,
    Log,
    Rejected,
    ReopenLogs,
    Stop,
    Tried,
    Try,
)
from headgate.runtime.transport import MessageChannel


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    for name in ("--control", "--segment", "--worker"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--app-dir")
    parser.add_argument("--wakes")
    parser.add_argument("--decisions")
    arguments = parser.parse_args()
    channel = MessageChannel(socket.socket(fileno=arguments.control))
    mode = os.environ.get("FAKE_WORKER", "")
    if mode == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "refuse":
        channel.send(Log("error", "no strategy 'best'"))
        return 3
    segment = Segment.open(arguments.segment)  # raises when it is none
    channel.send(Hello(arguments.worker, os.getpid()))
    selector = selectors.DefaultSelector()
    selector.register(channel.fileno(), selectors.EVENT_READ)
    listeners: dict[int, socket.socket] = {}
    deadline = float("inf")
    while True:
        if mode != "hang" or arguments.worker != 1 or not listeners:
            segment.set_worker(arguments.worker, "heartbeat_ms", time.monotonic_ns() // 1_000_000)
        for key, _ in selector.select(0.05):
            if key.fd in listeners:
                try:
                    client, _ = listeners[key.fd].accept()
                except BlockingIOError:
                    continue
                with client:
                    client.sendall(str(os.getpid()).encode())
        for message, fds in channel.receive():
            match message:
                case Apply(snapshot):
                    if mode == "reject":
                        channel.send(Rejected(snapshot.generation, "no strategy 'best'"))
                    else:
                        channel.send(Applied(snapshot.generation))
                    if mode in ("log", "cannot"):
                        channel.send(Log("info", f"applied {snapshot.generation}"))
                case Try(trial):
                    channel.send(Tried(trial, "no strategy 'best'" if mode == "cannot" else ""))
                case Leave():
                    pass
                case Listen():
                    listener = socket.socket(fileno=fds[0])
                    listeners[listener.fileno()] = listener
                    selector.register(listener.fileno(), selectors.EVENT_READ)
                case Drain(limit_s):
                    for listener in listeners.values():
                        selector.unregister(listener.fileno())
                        listener.close()
                    listeners.clear()
                    deadline = time.monotonic() + (limit_s if mode == "slow" else 0)
                case ReopenLogs():
                    channel.send(Log("info", "reopened"))
                case Stop():
                    return 0
                case _:
                    channel.send(Log("error", f"not understood: {message}"))
        if channel.eof:
            return 0
        if time.monotonic() >= deadline:
            channel.send(Drained(1 if mode == "slow" else 0))
            return 0


if __name__ == "__main__":
    sys.exit(main())
