"""From the configuration of a pool to the check of one of its backends."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Literal

from headgate.config.schema import Backend, Health
from headgate.config.tls import PoolTls
from headgate.health.check import Probe, Secured
from headgate.health.http import HttpProbe
from headgate.health.introduction import introduction
from headgate.health.monitor import Plan
from headgate.health.tcp import TcpProbe
from headgate.runtime.address import pack_address, unpack_address


def plan_for(
    health: Health,
    backend: Backend,
    tls: PoolTls | None = None,
    context: ssl.SSLContext | None = None,
    *,
    proxy_protocol: Literal["v1", "v2"] | None = None,
) -> Plan | None:
    """How this backend is checked; None when it is not (type "none").

    tls, context: of its pool, for https backends. proxy_protocol: the pool's. On a port of its own (`health.port`) a
    check speaks to somebody else: without a PROXY header.
    """
    probe: Probe
    if health.type == "none":
        return None
    if health.type == "tcp":
        probe = TcpProbe()
    else:
        probe = HttpProbe(
            method=health.method,
            path=health.path,
            host=health.host or backend.url.authority,
            accepts=health.accepts,
            headers=health.headers,
        )
    return Plan(
        probe=probe,
        interval_s=health.interval,
        # A check that outlives its interval would put off the next one.
        timeout_s=min(health.timeout, health.interval),
        fall=health.fall,
        rise=health.rise,
        introduction=introduction(proxy_protocol) if health.port is None else None,
        tls=secured(backend, tls, context),
    )


def secured(backend: Backend, tls: PoolTls | None, context: ssl.SSLContext | None) -> Secured | None:
    """How TLS is spoken with this backend; None where it is not."""
    if not backend.url.tls or context is None:
        return None
    return Secured(context, (tls.server_name if tls is not None else "") or backend.url.host)


def check_addresses(addresses: Sequence[bytes], port: int | None) -> list[bytes]:
    """The addresses to check: the backend's own, or the same hosts with another port. Unix sockets have none."""
    if port is None:
        return list(addresses)
    changed = []
    for packed in addresses:
        family, address = unpack_address(packed)
        changed.append(packed if family == socket.AF_UNIX else pack_address(family, (address[0], port, *address[2:])))
    return changed
