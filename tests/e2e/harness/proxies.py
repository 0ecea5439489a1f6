"""HAProxy and nginx as peers in the PROXY protocol: before the balancer, and behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import nginx
from .ports import HeldPort
from .processes import Process, Processes
from .tools import require
from .waiting import eventually

_HAPROXY = """\
global
    maxconn 200
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend before-1
    bind {before[0]}
    default_backend to-1
backend to-1
    server balancer {to} send-proxy
frontend before-2
    bind {before[1]}
    default_backend to-2
backend to-2
    server balancer {to} send-proxy-v2 proxy-v2-options crc32c,unique-id
frontend behind
    mode http
    bind {behind} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
"""

_NGINX = """\
    server {{
        listen {behind} proxy_protocol{tls};
        set $to "$proxy_protocol_server_addr $proxy_protocol_server_port";
        location / {{
            return 200 "$proxy_protocol_addr $proxy_protocol_port $to";
        }}
    }}
"""


def _start(processes: Processes, command: Sequence[str | Path], ports: Sequence[HeldPort], what: str) -> Process:
    process = processes.start(command)
    for port in ports:
        eventually(lambda port=port: port.accepts() or not process.running, f"{what} to listen")  # type: ignore[misc]
    assert process.running, process.output
    return process


class HAProxy:
    """before: two ports that pass connections on to `to`, with a header of version 1 and of version 2. behind: a server
    that asks for a header and answers with the two ends it names."""

    def __init__(self, processes: Processes, directory: Path, to: HeldPort) -> None:
        self.before = [HeldPort(), HeldPort()]
        self.behind = HeldPort()
        path = directory / "haproxy.cfg"
        path.write_text(
            _HAPROXY.format(before=[port.bind for port in self.before], behind=self.behind.bind, to=to.bind)
        )
        _start(processes, [require("haproxy"), "-db", "-f", path], [*self.before, self.behind], "HAProxy")

    def close(self) -> None:
        for port in (*self.before, self.behind):
            port.close()


class Nginx:
    """A server that asks for a header, and answers with the two ends it names.

    tls: certificate and key of one that asks for a handshake behind the header.
    """

    def __init__(self, processes: Processes, directory: Path, tls: tuple[str, str] | None = None) -> None:
        self.behind = HeldPort()
        ssl = " ssl;\n        ssl_certificate {};\n        ssl_certificate_key {}".format(*tls) if tls else ""
        command = nginx.command(directory, _NGINX.format(behind=self.behind.bind, tls=ssl))
        _start(processes, command, [self.behind], "nginx")

    def close(self) -> None:
        self.behind.close()
