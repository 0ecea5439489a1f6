"""The program under test, as a user starts it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import memory
from .client import Client, fetch
from .ports import HeldPort
from .processes import Process, Processes
from .waiting import PATIENCE_S, eventually
from .wire import Response

COMMAND = [sys.executable, "-m", "headgate"]

# For the admin API where it is on TCP.
TOKEN = "a-token-of-24-characters"

# Most tests are about something else than health, and count connections: no checks unless a test asks for them.
NO_HEALTH: Mapping[str, object] = {"type": "none"}


def pool(*urls: str | Mapping[str, object], **keys: object) -> dict[str, object]:
    """A pool's table; without health checks unless `health` is given."""
    return {"backends": list(urls), "health": NO_HEALTH, **keys}


def configuration(
    port: HeldPort, pools: Mapping[str, object], *, listener: Mapping[str, object] | None = None, **top: object
) -> dict[str, object]:
    """A configuration with one listener on `port` that answers /lb/status, and access log on standard output."""
    first = {"bind": port.bind, "status_path": "/lb/status", **(listener or {})}
    return {"listeners": [first], "pools": dict(pools), **top}


class Headgate:
    """A running `headgate run` or `headgate proxy`."""

    def __init__(self, process: Process, port: HeldPort) -> None:
        self.process = process
        self.port = port

    @classmethod
    def run(
        cls,
        processes: Processes,
        directory: Path,
        config: Mapping[str, object] | str,
        port: HeldPort,
        *,
        arguments: Sequence[str | Path] = (),
        ready: bool = True,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> Headgate:
        """Start `headgate run` with `config` (a dict, or the text of a TOML file) and wait until `port` answers.

        prefix: put before the command, to run it in a world of its own.
        """
        if isinstance(config, str):
            path = directory / "headgate.toml"
            path.write_text(config)
        else:
            path = directory / "headgate.json"
            path.write_text(json.dumps(config, indent=1))
        process = processes.start([*prefix, *COMMAND, "run", "-c", path, *arguments], cwd=cwd)
        headgate = cls(process, port)
        if ready:
            headgate.wait_ready()
        return headgate

    @classmethod
    def proxy(cls, processes: Processes, port: HeldPort, urls: Sequence[str], *arguments: str) -> Headgate:
        """Start `headgate proxy` on `port` over `urls` and wait until it answers."""
        to = [word for url in urls for word in ("--to", url)]
        headgate = cls(processes.start([*COMMAND, "proxy", "--listen", port.bind, *to, *arguments]), port)
        headgate.wait_ready()
        return headgate

    def wait_ready(self) -> None:
        """Wait until the listener accepts connections, or the program ends (which fails the test)."""
        # A start is one program after the other, the supervisor and each worker: seconds of the processor.
        what = "the listener to open"
        eventually(lambda: self.port.accepts() or not self.process.running, what, 4 * PATIENCE_S)
        assert self.process.running, self.process.output

    @property
    def address(self) -> tuple[str, int]:
        return self.port.address

    @property
    def url(self) -> str:
        return self.port.url

    def client(self, **options: Any) -> Client:
        """A new connection to the balancer."""
        return Client(self.address, **options)

    def get(self, target: str = "/", headers: Sequence[tuple[str, str]] = ()) -> Response:
        """One GET on a connection of its own."""
        return fetch(self.address, target, headers)

    def names(self, count: int) -> list[str]:
        """The bodies of `count` answers over one connection: which backends answered."""
        with self.client() as client:
            return [client.get().body.decode().strip() for _ in range(count)]

    def status(self) -> list[dict[str, Any]]:
        """The backends as the status page shows them."""
        backends = self.get("/lb/status").json()["backends"]
        assert isinstance(backends, list)
        return backends

    def backend(self, url: str) -> dict[str, Any]:
        """One backend of the status page."""
        return next(backend for backend in self.status() if backend["url"].rstrip("/") == url.rstrip("/"))

    def wait_health(self, url: str, healthy: bool, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the status page shows the backend as healthy, or not."""
        eventually(lambda: self.backend(url)["healthy"] is healthy, f"{url} healthy={healthy}", timeout_s)

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        return memory.children(self.process.pid)

    def wait_upgraded(self, count: int = 1) -> None:
        """Wait until SIGUSR2 was obeyed so often, step by step: a trial, then the new version, each with workers."""
        for step in ("the new version is tried", "the new version takes over", "upgraded from "):
            self.process.stderr.wait_for(step, count, 4 * PATIENCE_S)  # as long as the balancer itself has patience

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM; returns the exit status."""
        self.process.signal(signal.SIGTERM)
        return self.process.wait_exit(timeout_s)
