"""TLS at both ends of the balancer: a backend that speaks it, and a client's requests."""

from __future__ import annotations

import http.client
import socket
import ssl
import tempfile
from pathlib import Path

from tests import pki

from .backends import Backend, Connection, Script, name_itself
from .ports import HeldPort


def trusting(*authorities: pki.Authority, shows: pki.Issued | None = None) -> ssl.SSLContext:
    """A client's context. shows: its own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        context.load_verify_locations(cadata=authority.pem.decode())
    if shows is not None:
        load(context, shows)
    return context


def load(context: ssl.SSLContext, issued: pki.Issued) -> ssl.SSLContext:
    """Put a pair into a context."""
    with tempfile.TemporaryDirectory() as directory:
        context.load_cert_chain(*issued.write(Path(directory), "it"))
    return context


class Answer:
    """What came back, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


class Https:
    """One connection. server: the certificate it was shown, DER."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, name: str | None) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=20)
        plain = socket.create_connection(address, timeout=20)
        try:
            self.socket = context.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise
        self._connection.sock = self.socket
        self._connection.auto_open = 0
        self.server = self.socket.getpeercert(True) or b""

    def get(self, path: str = "/", **headers: str) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("GET", path, headers=fields)
        return Answer(self._connection.getresponse())

    def close(self) -> None:
        self._connection.close()
        self.socket.close()

    def __enter__(self) -> Https:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class TlsBackend(Backend):
    """As `Backend`, behind TLS. refused: what became of handshakes that failed, in OpenSSL's words. shown: by a
    connection's number, the certificate that it was shown (DER; b"" = none)."""

    def __init__(
        self, issued: pki.Issued, script: Script = name_itself, name: str = "backend", *, host: str = "localhost"
    ) -> None:
        self.context = load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), issued)
        self.refused: list[str] = []
        self.shown: dict[int, bytes] = {}
        self.host = host
        super().__init__(script, name, HeldPort())

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port.number}"

    def _serve(self, connection: Connection) -> None:
        try:
            connection.socket = secured = self.context.wrap_socket(connection.socket, server_side=True)
            self.shown[connection.number] = secured.getpeercert(True) or b""
        except OSError as error:
            self.refused.append(getattr(error, "reason", None) or str(error))
            connection.close()
            return
        super()._serve(connection)
