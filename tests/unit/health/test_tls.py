"""Checks of backends that speak TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from headgate.config.tls import PoolTls
from headgate.errors import Kind
from headgate.health.check import Check, Poller, Result, Secured
from headgate.health.http import HttpProbe
from headgate.health.tcp import TcpProbe
from headgate.runtime.address import pack_address
from headgate.tls import contexts, pairs
from headgate.tls.files import TlsFiles
from tests import pki

ROOT = pki.Authority()
FILES = TlsFiles({"root.pem": ROOT.pem})
GOOD, OLD = ROOT.issue("backend.example"), ROOT.issue("backend.example", days=-0.1)


def context(tls: PoolTls | None = None) -> ssl.SSLContext:
    return contexts.backend_context(tls or PoolTls(ca="root.pem"), FILES)


@contextlib.contextmanager
def server(issued: pki.Issued | None = GOOD, answer: bytes = b"", **options: object) -> Iterator[bytes]:
    """The address of one that serves one connection. issued: None for one that speaks no TLS. (A thread, because
    asyncio's servers do not say why they refuse a handshake.)"""
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if issued is not None:
        pairs.load(secured, issued.cert_pem, issued.key_pem)
    for name, value in options.items():
        setattr(secured, name, value)

    def serve() -> None:
        sock, _ = listener.accept()
        with contextlib.suppress(OSError), secured.wrap_socket(sock, server_side=True) if issued else sock as served:
            served.recv(1000)
            served.sendall(answer)
            while served.recv(1000):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield pack_address(socket.AF_INET, listener.getsockname())
        thread.join()


async def checked(
    address: bytes, tls: Secured | None, probe: object = None, *, expire_after_s: float | None = None
) -> Result | None:
    loop = asyncio.get_running_loop()
    poller = Poller(loop.add_reader, loop.remove_reader)
    done: asyncio.Future[Result | None] = loop.create_future()
    check = Check(poller, [address], probe or TcpProbe(), done.set_result, tls=tls)  # type: ignore[arg-type]
    check.start()
    try:
        if expire_after_s is not None:
            await asyncio.sleep(expire_after_s)
            check.expire()
        async with asyncio.timeout(10):
            return await done
    finally:
        check.cancel()
        poller.close()


def http(accepts: int = 200) -> HttpProbe:
    return HttpProbe(method="GET", path="/", host="backend.example", accepts=lambda status: status == accepts)


@pytest.mark.parametrize(
    ("issued", "name", "kind", "says"),
    [
        (GOOD, "backend.example", Kind.OK, "connected, certificate accepted"),
        (GOOD, "other.example", Kind.TLS_VERIFY, "certificate is not valid for 'other.example'"),
        (OLD, "backend.example", Kind.TLS_VERIFY, "certificate not accepted: certificate has expired"),
        (pki.Authority("X").issue("backend.example"), "backend.example", Kind.TLS_VERIFY, "unable to get local issuer"),
    ],
    ids=("good", "name", "expired", "unknown"),
)
def test_connecting_is_shaking_hands(issued: pki.Issued, name: str, kind: Kind, says: str) -> None:
    async def run() -> None:
        with server(issued) as address:
            result = await checked(address, Secured(context(), name))
            assert result is not None
            assert result.kind is kind
            assert says in result.detail

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Kind.OK, "status 200"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Kind.BAD_STATUS, "status 503"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", Kind.OK, "status 200"),
    ],
    ids=("200", "503", "large"),
)
def test_requests(answer: bytes, kind: Kind, says: str) -> None:
    async def run() -> None:
        with server(GOOD, answer) as address:
            result = await checked(address, Secured(context(), "backend.example"), http())
            assert result is not None
            assert (result.kind, result.detail) == (kind, says)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "expire_after_s", "says"),
    [
        (b"HTTP/1.1 400 no\r\n\r\n", None, "TLS handshake failed: wrong version number"),
        (b"", 0.2, "TLS handshake timed out"),
    ],
    ids=("plain", "silent"),
)
def test_who_speaks_no_tls(answer: bytes, expire_after_s: float | None, says: str) -> None:
    async def run() -> None:
        with server(None, answer) as address:
            result = await checked(address, Secured(context(), "backend.example"), expire_after_s=expire_after_s)
            assert result is not None
            assert (result.kind, result.detail) == (Kind.TLS_HANDSHAKE, says)

    asyncio.run(run())


def test_versions_that_do_not_meet() -> None:
    async def run() -> None:
        mine = context()
        mine.minimum_version = ssl.TLSVersion.TLSv1_3
        with server(maximum_version=ssl.TLSVersion.TLSv1_2) as address:
            result = await checked(address, Secured(mine, "backend.example"))
            assert result is not None
            assert result.kind is Kind.TLS_HANDSHAKE
            assert "protocol version" in result.detail

    asyncio.run(run())


def test_a_client_certificate_that_is_missing() -> None:
    """TLS 1.3 says so only after the handshake: a request finds out."""

    async def run() -> None:
        with server(verify_mode=ssl.CERT_REQUIRED) as address:
            result = await checked(address, Secured(context(), "backend.example"), http())
            assert result is not None
            assert result.kind is Kind.TLS_HANDSHAKE
            assert "certificate required" in result.detail

    asyncio.run(run())
