"""The PROXY protocol with others who speak it: HAProxy, nginx, curl; and with those who may not."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.pki import Authority

from .conftest import MakeBackend, Run
from .harness.backends import Connection, echo
from .harness.client import Client, head
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.proxies import HAProxy, Nginx
from .harness.tools import require
from .harness.waiting import PATIENCE_S, eventually

VERSIONS = ("v1", "v2")
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


class Street(NamedTuple):
    """A balancer with its neighbours. status: its plain listener."""

    headgate: HeldPort
    status: HeldPort
    haproxy: HAProxy
    nginx: Nginx


@pytest.fixture
def street(
    run: Run, port: HeldPort, processes: Processes, stack: ExitStack, tmp_path: Path, make_backend: MakeBackend
) -> Iterator[Street]:
    proxied = HeldPort()
    stack.callback(proxied.close)
    haproxy = HAProxy(processes, tmp_path, proxied)
    stack.callback(haproxy.close)
    nginx = Nginx(processes, tmp_path)
    stack.callback(nginx.close)
    check = {"type": "http", "interval": "0.2s", "rise": 1}
    pools: dict[str, object] = {
        f"{name}-{version}": {
            "backends": [behind.url],
            "proxy_protocol": version,
            # The listener is open after the first round of checks: with an unhealthy backend there is no answer.
            "health": check,
        }
        for name, behind in (("haproxy", haproxy.behind), ("nginx", nginx.behind))
        for version in VERSIONS
    }
    pools["echo"] = {"backends": [make_backend(echo).url], "health": False}
    routes = [{"path_prefix": f"/{name}", "pool": name} for name in pools]
    listeners = [
        {"bind": port.bind, "status_path": "/lb/status"},
        {"bind": proxied.bind, "status_path": "/lb/status", "proxy_protocol": ["127.0.0.1"]},
    ]
    headgate = run({"listeners": listeners, "routes": routes, "pools": pools})
    for backend in headgate.status():
        headgate.wait_health(backend["url"], True)
    yield Street(proxied, port, haproxy, nginx)
    assert_no_broken_header(tmp_path)


def assert_no_broken_header(directory: Path) -> None:
    """nginx had nothing to complain of, but that somebody looked whether it listens."""
    assert "broken header" not in (directory / "error.log").read_text().replace('broken header: ""', "")


POOLS = [f"{name}-{version}" for name in ("haproxy", "nginx") for version in VERSIONS]


def test_with_haproxy_nginx_and_curl(street: Street) -> None:
    # HAProxy before us tells who comes; we tell HAProxy and nginx behind us, in both versions.
    for before in street.haproxy.before:
        for pool in POOLS:
            with Client(before.address, source=("127.0.0.7", 0)) as client:
                host, port = client.socket.getsockname()
                for _ in range(2):
                    answer = client.get(f"/{pool}")
                    assert answer.body.decode() == f"{host} {port} {before.host} {before.number}", pool
        with Client(before.address, source=("127.0.0.7", 0)) as client:
            fields = dict(client.get("/echo").json()["fields"])
            assert (fields["X-Forwarded-For"], fields["X-Real-IP"]) == ("127.0.0.7", "127.0.0.7")
    # A header of our own, for what HAProxy cannot be made to say on every machine.
    for pool in POOLS:
        with Client(street.headgate.address) as client:
            client.send(b"PROXY TCP6 2001:db8::1 2001:db8::2 1234 443\r\n" + head("GET", f"/{pool}"))
            assert client.response().body == b"2001:db8::1 1234 2001:db8::2 443", pool
    # curl tells of itself.
    url = f"{street.headgate.url}/nginx-v2"
    command = [require("curl"), "-sS", "--max-time", "20", "--haproxy-protocol", "-w", "|%{local_port}", url]
    body, port_of_curl = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("|")
    assert body == f"127.0.0.1 {port_of_curl} {street.headgate.host} {street.headgate.number}"
    # Without a header before us it is the socket's own ends that count.
    with Client(street.status.address, source=("127.0.0.7", 0)) as client:
        host, port = client.socket.getsockname()
        ends = f"{host} {port} {street.status.host} {street.status.number}"
        assert [client.get(f"/{pool}").body.decode() for pool in POOLS] == [ends] * 4


def test_who_may_not_speak_it(street: Street) -> None:
    def refused() -> int:
        with Client(street.status.address) as client:
            count = client.get("/lb/status").json()["totals"]["refusedConnections"]
            assert isinstance(count, int)
            return count

    good = b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n" + head("GET", "/echo")
    for source, said in [
        ("127.0.0.9", good),  # not listed
        ("127.0.0.1", head("GET", "/echo")),  # no header
        ("127.0.0.1", b"PROXY TCP4 192.0.2.1\r\n" + head("GET", "/echo")),
        ("127.0.0.1", b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n"),
        ("127.0.0.1", LOCAL[:14] + b"\xff\xff"),
    ]:
        before = refused()
        with Client(street.headgate.address, source=(source, 0)) as client:
            client.send(said)
            assert client.closed_by_peer()
        eventually(lambda before=before: refused() == before + 1, "the refusal to be counted")  # type: ignore[misc]
    # Whoever speaks for itself is who it is, and so may see the status page; the others are behind a proxy.
    for header, status in [(LOCAL, 200), (b"PROXY UNKNOWN\r\n", 200), (b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n", 404)]:
        with Client(street.headgate.address) as client:
            client.send(header + head("GET", "/lb/status"))
            assert client.response().status == status


def test_tls_begins_behind_the_header(
    run: Run, port: HeldPort, processes: Processes, stack: ExitStack, tmp_path: Path
) -> None:
    authority = Authority()
    pair = authority.issue("127.0.0.1", "h.example").write(tmp_path, "pair")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    nginx = Nginx(processes, tmp_path, pair)
    stack.callback(nginx.close)
    with HeldPort() as proxied:
        tls = {"certificates": [{"cert": pair[0], "key": pair[1]}]}
        listeners = [
            {"bind": port.bind, "status_path": "/lb/status"},
            {"bind": proxied.bind, "proxy_protocol": ["127.0.0.1"], "tls": tls},
        ]
        web = {
            "backends": [nginx.behind.url.replace("http:", "https:")],
            "proxy_protocol": "v2",
            "tls": {"ca": str(tmp_path / "ca.pem")},
            "health": {"type": "http", "interval": "0.2s", "rise": 1},
        }
        headgate = run({"listeners": listeners, "pools": {"web": web}})
        headgate.wait_health(headgate.status()[0]["url"], True)
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        for corked in (0, 1):
            sock = socket.create_connection(proxied.address, timeout=PATIENCE_S)
            # Corked, the header leaves together with the first bytes of the handshake, which are not ours to read.
            sock.setsockopt(socket.SOL_TCP, socket.TCP_CORK, corked)
            sock.sendall(b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n")
            with context.wrap_socket(sock, server_hostname="h.example") as secured:
                secured.sendall(head("GET", "/"))
                answer = b""
                while not answer.endswith(b"192.0.2.1 1234 198.51.100.2 443"):
                    data = secured.recv(65536)
                    assert data, answer
                    answer += data
        # What is no header is not answered by TLS either.
        with Client(proxied.address) as client:
            client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            assert client.closed_by_peer()
    assert_no_broken_header(tmp_path)


def test_checks_introduce_themselves(make_backend: MakeBackend, run: Run, port: HeldPort) -> None:
    heads: list[bytes] = []

    def script(connection: Connection) -> None:
        version = connection.backend.name
        end = b"\r\n" if version == "v1" else LOCAL
        seen = b""
        while not seen.endswith(end) and (byte := connection.socket.recv(1)):
            seen += byte
        # Version 1 names the connection's own ends, as section 2.1 of the protocol's text asks.
        host, number = connection.socket.getpeername()
        to, own = connection.socket.getsockname()
        expected = f"PROXY TCP4 {host} {to} {number} {own}\r\n".encode() if version == "v1" else LOCAL
        heads.append(seen.replace(expected, version.encode()))
        if connection.read() is not None:
            connection.respond(b"")

    pools = {
        f"{kind}-{version}": {
            "backends": [make_backend(script, version).url],
            "proxy_protocol": version,
            "health": {"type": kind},
        }
        for version in VERSIONS
        for kind in ("tcp", "http")
    }
    routes = [{"path_prefix": f"/{name}", "pool": name} for name in pools]
    listeners = [{"bind": port.bind, "status_path": "/lb/status"}]
    headgate = run({"listeners": listeners, "routes": routes, "pools": pools})
    for backend in headgate.status():
        headgate.wait_health(backend["url"], True)
    eventually(lambda: len(heads) >= 4, "the checks to be seen")
    assert set(heads) == {b"v1", b"v2"}
