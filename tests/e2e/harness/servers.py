"""Real HTTP servers as backends, each serving the site of `sites/`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import nginx
from .ports import HeldPort
from .processes import Process, Processes
from .tools import require
from .waiting import eventually

SITES = Path(__file__).parent / "sites"
ROOT = Path(__file__).parents[3]
_MODULE = "tests.e2e.harness.sites"

_NGINX = """\
    client_max_body_size 0;
    server {{
        listen {bind};
        location = / {{ return 200 "{name}\\n"; }}
        location / {{ root {directory}/files; }}
        # Files are put and read again: nginx has no program of its own that could digest them.
        location /put/ {{ root {directory}/files; dav_methods PUT; create_full_put_path on; }}
    }}
"""


class Server:
    """One running server on a port of its own."""

    def __init__(self, processes: Processes, kind: str, name: str, directory: Path | None = None) -> None:
        self.kind = kind
        self.name = name
        self.port = HeldPort()
        environment = {"SITE_NAME": name, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        argv: Sequence[str | Path]
        if kind == "nginx":
            assert directory is not None
            (directory / "files").mkdir()
            argv = nginx.command(directory, _NGINX.format(directory=directory, bind=self.port.bind, name=name))
        else:
            argv = STARTERS[kind](self.port)
        self.process: Process = processes.start(argv, cwd=ROOT, env=environment)
        eventually(lambda: self.port.accepts() or not self.process.running, f"{kind} to listen")
        assert self.process.running, self.process.output

    @property
    def url(self) -> str:
        return self.port.url

    def close(self) -> None:
        self.process.close()
        self.port.close()


def _uvicorn(port: HeldPort) -> list[str]:
    address = ["--host", port.host, "--port", str(port.number)]
    return [sys.executable, "-m", "uvicorn", f"{_MODULE}.asgi:application", *address, "--log-level", "warning"]


def _gunicorn(port: HeldPort) -> list[str]:
    # Threads: the synchronous workers know no keep-alive.
    return [sys.executable, "-m", "gunicorn", "-b", port.bind, "-k", "gthread", "--threads", "8", "--no-control-socket",
            "--log-level", "warning", f"{_MODULE}.wsgi:application"]  # fmt: skip


def _gunicorn_sync(port: HeldPort) -> list[str]:
    return [sys.executable, "-m", "gunicorn", "-b", port.bind, "-w", "2", "--no-control-socket", "--log-level",
            "warning", f"{_MODULE}.wsgi:application"]  # fmt: skip


def _stdlib(version: str) -> Callable[[HeldPort], list[str]]:
    return lambda port: [sys.executable, "-m", f"{_MODULE}.stdlib", str(port.number), version]


STARTERS: dict[str, Callable[[HeldPort], list[str]]] = {
    "uvicorn": _uvicorn,
    "gunicorn": _gunicorn,
    "gunicorn sync": _gunicorn_sync,
    "http.server 1.0": _stdlib("HTTP/1.0"),
    "http.server 1.1": _stdlib("HTTP/1.1"),
    "node": lambda port: [require("node"), str(SITES / "server.js"), str(port.number)],
}
KINDS = (*STARTERS, "nginx")
