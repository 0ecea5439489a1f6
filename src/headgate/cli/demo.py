"""`headgate demo`: three small backends and a balancer over them, to play with."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headgate.cli import common
from headgate.config.addresses import Bind
from headgate.config.schema import Config

_LISTEN = "127.0.0.1:8080"
_NAMES = ("red", "green", "blue")
_STOP_S = 5.0

_EPILOG = """\
Starts three small servers that name themselves, balances over them on http://127.0.0.1:8080 (or another port, if
that one is taken), and prints what to try: kill a server and watch it leave, start it again and watch it return.
Ctrl-C stops everything it started.
"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "demo",
        help="three small servers and a balancer over them, to play with",
        description="Three small servers and a balancer over them, to play with.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    parser.add_argument("--listen", metavar="ADDRESS", help=f"where the balancer listens (default: {_LISTEN})")
    parser.add_argument("--strategy", metavar="NAME", help="how a backend is picked (default: round_robin)")
    common.add_runtime(parser)
    parser.set_defaults(run=run, app_dir=None)


def run(args: argparse.Namespace) -> int:
    """Runs the demo until it is stopped; returns the exit code."""
    listen = args.listen or _free_listen()
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(_backend(name)) for name in _NAMES]
        config = Config.from_simple(
            [{"url": backend.url, "name": backend.name} for backend in backends],
            listen=listen,
            strategy=args.strategy,
            health_path="/health",
            health_interval="1s",  # so that leaving and returning can be watched
            workers=args.workers,
        )
        lines = instructions(config.listeners[0].bind, backends)
        return common.serve(config, args, None, on_ready=lambda: common.say(lines))


@dataclass(frozen=True)
class DemoBackend:
    """One of the demo's servers."""

    name: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def _backend(name: str) -> Iterator[DemoBackend]:
    """Starts a server and waits until it listens; stops it at the end."""
    # The port stays bound here, not listening, as long as the demo runs. Else, while the server is down, the kernel
    # could give its port to one of our own outgoing connections, which would then be connected to itself.
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        process = subprocess.Popen(
            [*_command(name, port), "--with-parent"],
            stdin=subprocess.PIPE,  # its end tells the server that we are gone, however we went
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C goes to the balancer alone, which finishes its requests first
        )
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"the example backend {name} did not start")
            yield DemoBackend(name, port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _command(name: str, port: int) -> list[str]:
    return [sys.executable, "-m", "headgate.cli.demo_backend", "--name", name, "--port", str(port)]


def _free_listen() -> str:
    """The usual address, or a free port where it is taken: a demo should start."""
    host, _, port = _LISTEN.rpartition(":")
    for candidate in (int(port), 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, candidate))
            return f"{host}:{probe.getsockname()[1]}"
    return _LISTEN


def instructions(bind: Bind, backends: Sequence[DemoBackend]) -> str:
    """What the demo prints once it runs."""
    if bind.family == "unix":
        curl, base = f"curl --unix-socket {shlex.quote(bind.path)}", "http://localhost"
    else:
        host = f"[{bind.host}]" if bind.family == "inet6" else bind.host
        curl, base = "curl", f"http://{host or '127.0.0.1'}:{bind.port}"
    victim = backends[1]
    again = shlex.join(_command(victim.name, victim.port))
    if path := os.environ.get("PYTHONPATH"):
        absolute = os.path.pathsep.join(map(os.path.abspath, path.split(os.path.pathsep)))
        again = f"PYTHONPATH={shlex.quote(absolute)} {again}"
    servers = "\n".join(f"  {backend.name:6} {backend.url}  process {backend.pid}" for backend in backends)
    return f"""
Three servers stand behind the balancer:
{servers}

Try, in another terminal:
  {curl} {base}/            the servers answer in turn
  {curl} {base}/slow        an answer that takes two seconds
  {curl} -N {base}/events   server-sent events, one a second
  {curl} {base}/lb/status   what the balancer thinks of its backends

Kill {victim.name} and go on asking: no request fails, and the status shows why it is out:
  kill {victim.pid}
Start it again (this one is yours to stop): it is back within a few seconds:
  {again}

Ctrl-C stops the balancer and its three servers.
"""
