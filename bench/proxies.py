"""The proxies under comparison, each with one worker on one core, and their backends on the other core."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template

from tests import pki
from tests.e2e.harness.ports import HeldPort
from tests.e2e.harness.processes import Process, Processes
from tests.e2e.harness.waiting import eventually

from . import floor_main
from .cases import ANSWER_FIELDS, HEADERS, LARGE, SMALL, Case

PROXY_CORE = 0
LOAD_CORE = 1

_HELLO = b"hello, world\n"  # as in templates/backend.conf
_ROOT = Path(__file__).parents[1]
_TEMPLATES = Path(__file__).parent / "templates"
# As root nginx changes to a user who may not read a temporary directory.
_USER = "user root;" if os.geteuid() == 0 else ""


# What the others call what Headgate calls so.
_NGINX_BALANCE = {"round_robin": "", "least_connections": "least_conn;", "p2c": "random two least_conn;"}
_HAPROXY_BALANCE = {"round_robin": "roundrobin", "least_connections": "leastconn", "p2c": "random(2)"}
_CADDY_BALANCE = {"round_robin": "round_robin", "least_connections": "least_conn", "p2c": "random_choose 2"}


def _fill(template: str, target: Path, **values: object) -> Path:
    target.write_text(Template((_TEMPLATES / template).read_text()).substitute(values))
    return target


def _pinned(core: int, *argv: str | Path) -> list[str | Path]:
    return ["taskset", "-c", str(core), *argv]


def _await_port(process: Process, port: int) -> None:
    def ready() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0 or not process.running

    eventually(ready, "a port to open")
    if not process.running:
        raise RuntimeError(process.output)


class Backends:
    """One nginx that stands for any number of backends: it listens on every loopback address, each is one backend."""

    def __init__(self, processes: Processes, directory: Path) -> None:
        self._held = HeldPort("0.0.0.0")
        large = directory / "large.bin"
        large.write_bytes(os.urandom(1 << 20))
        self.bodies = {SMALL: _HELLO, HEADERS: _HELLO, LARGE: large.read_bytes()}
        """What is answered, by path."""
        fields = "\n".join(
            f'            add_header X-Answer-{n:02} "value of answer field {n:02}";' for n in range(ANSWER_FIELDS)
        )
        config = _fill(
            "backend.conf",
            directory / "backend.conf",
            directory=directory,
            user=_USER,
            port=self._held.number,
            fields=fields,
        )
        process = processes.start(_pinned(LOAD_CORE, "nginx", "-c", config, "-e", directory / "backend-error.log"))
        _await_port(process, self._held.number)

    def addresses(self, count: int) -> list[str]:
        """`count` backends as host:port."""
        return [f"127.0.{1 + n // 250}.{1 + n % 250}:{self._held.number}" for n in range(count)]

    def close(self) -> None:
        self._held.close()


class Proxy:
    """A running proxy."""

    def __init__(self, name: str, process: Process, port: HeldPort, case: Case) -> None:
        self.name = name
        """In the table; a variant of Headgate gets its own."""
        self.pid = process.pid
        self._process = process
        self._port = port
        self._tls = case.tls
        _await_port(process, port.number)

    @property
    def url(self) -> str:
        return f"https://{self._port.address[0]}:{self._port.number}" if self._tls else self._port.url

    def close(self) -> None:
        self._process.close()
        self._port.close()


def _pair(directory: Path) -> Path:
    """A certificate on P-256 and its key, in one file."""
    path = directory / "pair.pem"
    if not path.exists():
        issued = pki.Authority().issue("127.0.0.1")
        path.write_bytes(issued.cert_pem + issued.key_pem)
        path.chmod(0o600)
    return path


def _nginx_tls(directory: Path, case: Case) -> dict[str, str]:
    """Versions as Headgate has them; resumption as both have it unless told otherwise: by tickets."""
    if not case.tls:
        return {"ssl": "", "pair": ""}
    pair = _pair(directory)
    return {
        "ssl": " ssl",
        "pair": f"ssl_certificate {pair}; ssl_certificate_key {pair}; ssl_protocols TLSv1.2 TLSv1.3;",
    }


def _nginx(processes: Processes, directory: Path, case: Case, addresses: list[str]) -> Proxy:
    port = HeldPort()
    log = (
        f"access_log {directory}/nginx-access.log combined buffer=64k flush=1s;"
        if case.access_log
        else "access_log off;"
    )
    servers = "\n".join(f"        server {address};" for address in addresses)
    config = _fill(
        "nginx.conf",
        directory / "nginx.conf",
        directory=directory,
        user=_USER,
        port=port.number,
        access_log=log,
        balance=_NGINX_BALANCE[case.strategy],
        servers=servers,
        idle=max(64, len(addresses)),
        **_nginx_tls(directory, case),
    )
    argv = _pinned(PROXY_CORE, "nginx", "-c", config, "-e", directory / "nginx-error.log")
    return Proxy("nginx", processes.start(argv), port, case)


def _haproxy(processes: Processes, directory: Path, case: Case, addresses: list[str]) -> Proxy:
    port = HeldPort()
    servers = "\n".join(f"    server b{n} {address} pool-max-conn -1" for n, address in enumerate(addresses))
    config = _fill(
        "haproxy.cfg",
        directory / "haproxy.cfg",
        port=port.number,
        tls=f" ssl crt {_pair(directory)} ssl-min-ver TLSv1.2" if case.tls else "",
        balance=_HAPROXY_BALANCE[case.strategy],
        servers=servers,
        # HAProxy writes no files; its lines go to standard output, and that to a file.
        log_target="log stdout format raw local0" if case.access_log else "",
        access_log="log global\n    option httplog" if case.access_log else "",
    )
    # -q only silences the start; a shell would add a process, so the file is opened by `sh -c exec`.
    argv = _pinned(PROXY_CORE, "sh", "-c", f"exec haproxy -f {config} > {directory}/haproxy-access.log")
    return Proxy("haproxy", processes.start(argv), port, case)


def _headgate(processes: Processes, directory: Path, case: Case, addresses: list[str]) -> Proxy:
    port = HeldPort()
    log = {"format": "text", "path": str(directory / "headgate-access.log")} if case.access_log else {"format": "off"}
    tls = {"tls": {"certificates": [str(_pair(directory))]}} if case.tls else {}
    config = {
        "access_log": log,
        "listeners": [{"bind": port.bind, **tls}],
        # No active checks: the others make none in this set-up.
        "pools": {
            "web": {
                "backends": [f"http://{address}" for address in addresses],
                "strategy": case.strategy,
                "health": {"type": "none"},
                **case.pool,
            }
        },
    }
    path = directory / "headgate.json"
    path.write_text(json.dumps(config))
    argv = _pinned(PROXY_CORE, sys.executable, "-m", "headgate", "run", "-c", path)
    # A user's strategy of this folder is found where the program is started.
    return Proxy("headgate", processes.start(argv, cwd=_ROOT), port, case)


def _bare(name: str, how: str, processes: Processes, case: Case, addresses: list[str]) -> Proxy:
    port = HeldPort()
    argv = _pinned(PROXY_CORE, sys.executable, "-m", "bench.floor_main", how, str(port.number), *addresses)
    return Proxy(name, processes.start(argv, cwd=_ROOT), port, case)


def _floor(processes: Processes, directory: Path, case: Case, addresses: list[str]) -> Proxy:
    return _bare("floor", case.floor, processes, case, addresses)


def _floor_uring(processes: Processes, directory: Path, case: Case, addresses: list[str]) -> Proxy:
    return _bare("floor-uring", "uring", processes, case, addresses)


def _caddy(processes: Processes, directory: Path, case: Case, addresses: list[str]) -> Proxy:
    port = HeldPort()
    config = _fill(
        "Caddyfile",
        directory / "Caddyfile",
        port=port.number,
        balance=_CADDY_BALANCE[case.strategy],
        servers=" ".join(addresses),
        idle=max(64, len(addresses)),
        access_log=f"log {{\n        output file {directory}/caddy-access.log\n    }}" if case.access_log else "",
    )
    # One worker, as the others have: Go's threads that run at once.
    environment = {**os.environ, "GOMAXPROCS": "1", "HOME": str(directory), "XDG_DATA_HOME": str(directory)}
    argv = _pinned(PROXY_CORE, "caddy", "run", "--config", config, "--adapter", "caddyfile")
    return Proxy("caddy", processes.start(argv, env=environment), port, case)


def _version(*argv: str) -> str:
    """The version a program prints, on whichever stream; "" when it is not installed."""
    if shutil.which(argv[0]) is None:
        return ""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\S*", done.stdout + done.stderr)
    return found[0] if found else "?"


Start = Callable[[Processes, Path, Case, list[str]], Proxy]
STARTERS: dict[str, Start] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
    "headgate": _headgate,
    "floor": _floor,
    "floor-uring": _floor_uring,
}


def takes_part(name: str, case: Case) -> bool:
    """Whether the proxy can carry the traffic of the case, and is to be compared in it."""
    if name == "floor":
        return bool(case.floor)
    if name == "floor-uring":
        return case.floor == "relay"
    return name == "headgate" or name in case.peers


def versions() -> dict[str, str]:
    """The proxies on this machine, with their versions."""
    found = {
        "nginx": _version("nginx", "-v"),
        "haproxy": _version("haproxy", "-v"),
        "caddy": _version("caddy", "version"),
        "headgate": _version(sys.executable, "-m", "headgate", "--version"),
    }
    floor_main.build()
    there = {**{name: version for name, version in found.items() if version}, "floor": "bare relay"}
    refusal = floor_main.uring_refusal()
    if refusal:
        print(f"bench: without floor-uring: {refusal}", file=sys.stderr)
    else:
        there["floor-uring"] = "bare relay on io_uring"
    return there
