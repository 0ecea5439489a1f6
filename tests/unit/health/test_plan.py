"""From a pool's `[health]` table to the check of one backend."""

from __future__ import annotations

import socket
from typing import Literal

from headgate.config.addresses import BackendUrl
from headgate.config.schema import Backend, Health
from headgate.health.http import HttpProbe
from headgate.health.plan import check_addresses, plan_for
from headgate.health.tcp import TcpProbe
from headgate.runtime.address import pack_address

BACKEND = Backend(url=BackendUrl.parse("http://app.example:9001"))


def test_none_is_no_check() -> None:
    assert plan_for(Health(type="none"), BACKEND) is None


def test_tcp_is_the_default() -> None:
    plan = plan_for(Health(), BACKEND)
    assert plan is not None
    assert isinstance(plan.probe, TcpProbe)
    assert (plan.interval_s, plan.timeout_s, plan.fall, plan.rise) == (5.0, 2.0, 3, 2)


def test_http_asks_as_configured() -> None:
    health = Health(type="http", path="/up", method="HEAD", statuses=((200, 299), (401, 401)), headers={"X-Check": "1"})
    plan = plan_for(health, BACKEND)
    assert plan is not None
    assert isinstance(plan.probe, HttpProbe)
    assert plan.probe.request.startswith(b"HEAD /up HTTP/1.1\r\nHost: app.example:9001\r\n")
    assert b"\r\nX-Check: 1\r\n" in plan.probe.request
    for status, ok in ((204, True), (401, True), (300, False), (400, False)):
        result = plan.probe.judge(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status, eof=False)
        assert result is not None
        assert result.ok is ok


def test_the_host_field() -> None:
    def host(health: Health, url: str) -> bytes:
        plan = plan_for(health, Backend(url=BackendUrl.parse(url)))
        assert plan is not None
        return plan.probe.request.split(b"\r\n")[1]

    assert host(Health(type="http", host="shop.example"), "http://10.0.0.1:9001") == b"Host: shop.example"
    assert host(Health(type="http"), "http://[::1]") == b"Host: [::1]"
    assert host(Health(type="http"), "unix:/run/app.sock") == b"Host: localhost"


def test_a_check_ends_before_the_next_one_begins() -> None:
    plan = plan_for(Health(interval=1.0, timeout=5.0), BACKEND)
    assert plan is not None
    assert plan.timeout_s == 1.0


def test_another_port_on_the_same_hosts() -> None:
    def addresses(port: int) -> list[bytes]:
        return [
            pack_address(socket.AF_INET, ("127.0.0.1", port)),
            pack_address(socket.AF_INET6, ("fe80::1", port, 0, 3)),
        ]

    unix = pack_address(socket.AF_UNIX, "/run/app.sock")
    assert check_addresses(addresses(80), None) == addresses(80)
    assert check_addresses([*addresses(80), unix], 81) == [*addresses(81), unix]


def test_a_backend_that_expects_the_proxy_protocol_is_spoken_to_in_it() -> None:
    def said(version: Literal["v1", "v2"] | None, health: Health, sock: socket.socket) -> bytes | None:
        plan = plan_for(health, BACKEND, proxy_protocol=version)
        assert plan is not None
        return plan.introduction(sock) if plan.introduction is not None else None

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        (host, port), (to, to_port) = sock.getsockname(), sock.getpeername()
        assert said("v1", Health(), sock) == f"PROXY TCP4 {host} {to} {port} {to_port}\r\n".encode()
        assert said("v2", Health(), sock) == b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
        assert said(None, Health(), sock) is None
        # On another port there is somebody else, who may know nothing of it.
        assert said("v2", Health(port=9000), sock) is None
    one, other = socket.socketpair()
    with one, other:
        assert said("v1", Health(), one) == b"PROXY UNKNOWN\r\n"
