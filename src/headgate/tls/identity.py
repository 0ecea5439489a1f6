"""Who a client is by the certificate it has shown: for routes, and for backends in header fields.

The fields are set here alone: the engine takes them out of every client's request, on every listener, so a backend may
believe them as far as it believes that requests come from this balancer. Names are as people have them with nginx
("ssl-client-subject-dn") and Traefik ("X-Forwarded-Tls-Client-Cert-Info"), said plainly.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from headgate.tls import x509

VERIFY, SUBJECT, FINGERPRINT = "X-Client-Cert-Verify", "X-Client-Cert-Subject", "X-Client-Cert-Fingerprint"
FIELDS = (VERIFY, SUBJECT, FINGERPRINT)

# RFC 5280 sets no limit, and a head has one: what does not fit is cut (the fingerprint still says who it is).
_LONGEST_SUBJECT = 2048


class Connection(Protocol):
    """A TLS connection after its handshake: `ssl.SSLObject`, or what the engine has."""

    def getpeercert(self, binary_form: bool, /) -> object: ...


class Identity:
    """A client with a certificate that was verified. Made once for a connection.

    subject: as RFC 4514 writes it, in ASCII. fingerprint: SHA-256 of the certificate, in lower-case hexadecimal.
    """

    __slots__ = ("fingerprint", "routes", "subject")

    def __init__(self, subject: str, fingerprint: str) -> None:
        self.subject = subject
        self.fingerprint = fingerprint
        self.routes: tuple[object, object] = (None, None)
        """A routing table and what is left of it for this client; see `routing.identified`."""

    def __repr__(self) -> str:
        return f"<{self.subject} {self.fingerprint[:16]}>"


NOBODY = f"{VERIFY}: NONE\r\n".encode()
"""The line for a client without a certificate, where one is optional."""


def identify(connection: Connection) -> tuple[Identity | None, bytes]:
    """Who it is, and complete header lines for backends. None: it has shown no certificate.

    To be called where the handshake has verified what was shown. Raises DerError for what OpenSSL let pass and is no
    certificate all the same: nobody should be served for that.
    """
    der = connection.getpeercert(True)
    if not isinstance(der, bytes):
        return None, NOBODY
    certificate = x509.parse(der)
    fingerprint = hashlib.sha256(der).hexdigest()
    lines = (
        f"{VERIFY}: SUCCESS\r\n{SUBJECT}: {certificate.subject[:_LONGEST_SUBJECT]}\r\n{FINGERPRINT}: {fingerprint}\r\n"
    )
    return Identity(certificate.subject, fingerprint), lines.encode("ascii")
