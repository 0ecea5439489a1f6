"""nginx in the foreground with a test's configuration; and as a backend: one process, any number of servers that name
themselves."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .ports import HeldPort
from .processes import Process, Processes
from .tools import require
from .waiting import eventually

_MAIN = """\
daemon off;
{user}
worker_processes 1;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{http}
}}
"""

_NAMES = """\
    keepalive_requests 100000;
    # The log is what the spread is counted from, so that the balancer's own counters are not asked.
    log_format name "$server_name";
"""

_NAME = """\
    server {{
        listen {bind} backlog=4096;
        server_name {name};
        access_log {directory}/{name}.log name;
        location / {{ return 200 "{name}\\n"; }}
    }}
"""


def command(directory: Path, http: str) -> list[str | Path]:
    """Writes a configuration with this inside of `http {}`; what runs nginx with it. Its files are in `directory`."""
    # As root nginx would change to a user who may not enter a test's directory.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = directory / "nginx.conf"
    configuration.write_text(_MAIN.format(user=user, directory=directory, http=http))
    return [require("nginx"), "-c", configuration, "-p", directory, "-e", directory / "error.log"]


class Nginx:
    """nginx serving one name on each port."""

    def __init__(self, processes: Processes, directory: Path, names: Sequence[str]) -> None:
        self._directory = directory
        self.names = list(names)
        self.ports = [HeldPort() for _ in names]
        servers = "".join(
            _NAME.format(bind=port.bind, name=name, directory=directory)
            for name, port in zip(names, self.ports, strict=True)
        )
        self.process: Process = processes.start(command(directory, _NAMES + servers))
        for port in self.ports:
            eventually(lambda port=port: port.accepts() or not self.process.running, "nginx to listen")  # type: ignore[misc]
        assert self.process.running, (directory / "error.log").read_text()

    @property
    def urls(self) -> list[str]:
        return [port.url for port in self.ports]

    def served(self) -> Counter[str]:
        """Requests answered so far, by name."""
        return Counter({name: len((self._directory / f"{name}.log").read_text().splitlines()) for name in self.names})

    def wait_served(self, total: int) -> Counter[str]:
        """The same, once there are `total`: a line is written after its answer is sent, so the last may lack."""
        eventually(lambda: self.served().total() >= total, f"{total} lines in nginx's logs")
        return self.served()

    def close(self) -> None:
        self.process.close()
        for port in self.ports:
            port.close()
